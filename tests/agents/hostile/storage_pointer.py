# ruff: noqa
# Hostile class: storage and data pointers
# Write the state through its address.
# checker: `import ctypes` is not allowed
# bypass: state
import ctypes


def reward(s):
    ctypes.memset(s.joint_position.data_ptr(), 0, 8)
    return {"a": s.time_s}
