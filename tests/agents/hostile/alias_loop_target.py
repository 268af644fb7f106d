# ruff: noqa
# Hostile class: editing the state through aliases
# A loop's target may be an element.
# checker: assigning to a part
# bypass: state
def reward(s):
    for s.joint_position[0, 0] in [1.0, 2.0]:
        pass
    return {"a": s.time_s}
