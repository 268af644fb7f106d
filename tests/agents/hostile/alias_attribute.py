# ruff: noqa
# Hostile class: editing the state through aliases
# Replace a field of the state.
# checker: the state is read-only
# bypass: state
def reward(s):
    s.joint_position = s.joint_position * 0.0
    return {"a": s.time_s}
