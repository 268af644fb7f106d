# ruff: noqa
# Hostile class: storage and data pointers
# `.data` avoids the version counter.
# checker: assigning to a part
# bypass: state
def reward(s):
    s.joint_position.data[0, 0] = 7.0
    return {"a": s.time_s}
