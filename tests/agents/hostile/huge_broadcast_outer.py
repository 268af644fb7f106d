# ruff: noqa
# Hostile class: broadcasts
# Every row against every row against every row.
# checker: contained
# bypass: limit
def reward(s):
    x = s.joint_position.repeat(2000, 1)
    pairs = x[:, None, :] - x[None, :, :]
    return {"a": s.time_s + pairs.square().sum()}
