# ruff: noqa
# Hostile class: endless loops
# The list grows while it is walked.
# checker: runtime
# bypass: limit
def reward(s):
    items = [1]
    for item in items:
        items.append(item)
    return {"a": s.time_s}
