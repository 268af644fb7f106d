# ruff: noqa
# Hostile class: editing the state through aliases
# A parameter with the name of an outer dict.
# checker: assigning to a part
# bypass: state
def reward(s):
    parts = {}

    def fill(parts):
        parts[0] = 1.0
        return parts

    fill(s.joint_position)
    parts["a"] = s.time_s
    return parts
