# ruff: noqa
# Hostile class: editing the state through aliases
# += on another name for a field.
# checker: harmless
# bypass: state
def reward(s):
    x = s.joint_position
    x += 1.0
    return {"a": x.sum(dim=-1)}
