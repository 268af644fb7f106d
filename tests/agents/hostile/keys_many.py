# ruff: noqa
# Hostile class: keys and strings
# More components than a table can show.
# checker: runtime
# bypass: keys
def reward(s):
    return {f"c{i}": s.time_s for i in range(1000)}
