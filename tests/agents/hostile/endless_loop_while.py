# ruff: noqa
# Hostile class: endless loops
# The plain one.
# checker: While is not allowed
# bypass: limit
def reward(s):
    while True:
        pass
