# ruff: noqa
# Hostile class: keys and strings
# A name of a million letters.
# checker: runtime
# bypass: keys
def reward(s):
    name = "aaaaaaaaaaaaaaaa"
    for i in range(16):
        name = name + name
    return {name: s.time_s}
