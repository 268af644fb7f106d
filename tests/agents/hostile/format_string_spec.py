# ruff: noqa
# Hostile class: format strings
# A width that takes all the memory.
# checker: only plain names
# bypass: limit
def reward(s):
    text = f"{s.time_s.sum().item():>{10**11}}"
    return {"a": s.time_s + len(text)}
