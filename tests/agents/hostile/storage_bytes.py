# ruff: noqa
# Hostile class: storage and data pointers
# Write the state through its storage.
# checker: `.untyped_storage()` is not on the list
# bypass: state
def reward(s):
    s.joint_position.untyped_storage().fill_(0)
    return {"a": s.time_s}
