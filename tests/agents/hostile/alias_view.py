# ruff: noqa
# Hostile class: editing the state through aliases
# A view of a view.
# checker: assigning to a part
# bypass: state
def reward(s):
    x = s.joint_position.view(-1)
    x[0] = 3.0
    return {"a": s.time_s}
