# ruff: noqa
# Hostile class: sleepers
# Allowed code that is dear at the training batch size only.
# checker: contained
# bypass: limit
def reward(s):
    n = s.time_s.shape[0]
    x = s.joint_position.repeat(1, n // 40 + 1)
    y = x.repeat(n // 40 + 1, 1)
    return {"a": s.time_s + y.sum() * 0.0}
