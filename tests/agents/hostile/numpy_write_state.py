# ruff: noqa
# Hostile class: numpy writes
# Write the state through NumPy, past the version counter.
# checker: assigning to a part
# bypass: state
def reward(s):
    s.joint_position.numpy()[:] = 1.0
    return {"a": s.time_s}
