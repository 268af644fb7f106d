# ruff: noqa
# Hostile class: keys and strings
# Keys that are no strings.
# checker: runtime
# bypass: keys
def reward(s):
    return {(1, 2): s.time_s, 3: s.time_s}
