# ruff: noqa
# Hostile class: huge allocations
# Python objects without end.
# checker: While is not allowed
# bypass: limit
def reward(s):
    kept = []
    while True:
        kept.append(bytearray(50_000_000))
    return {"a": s.time_s}
