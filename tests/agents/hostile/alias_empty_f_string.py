# ruff: noqa
# Hostile class: editing the state through aliases
# torch takes a string for a sequence of indices; an empty one might mean the whole tensor.
# checker: assigning to a part
# bypass: state
def reward(s):
    word = ""
    x = s.joint_position
    x[f"{word}"] = 1.0
    return {"a": s.time_s}
