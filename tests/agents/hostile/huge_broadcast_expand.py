# ruff: noqa
# Hostile class: broadcasts
# A view of any size made real.
# checker: integers beyond
# bypass: limit
def reward(s):
    x = s.time_s[:1].expand(20_000_000_000).clone()
    return {"a": s.time_s + x.sum()}
