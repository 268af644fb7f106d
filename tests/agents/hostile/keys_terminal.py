# ruff: noqa
# Hostile class: keys and strings
# Terminal control characters, put together at run time.
# checker: runtime
# bypass: keys
def reward(s):
    bell = "\x1b]0;owned\x07"
    return {f"a{bell}": s.time_s}
