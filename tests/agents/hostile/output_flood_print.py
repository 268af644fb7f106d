# ruff: noqa
# Hostile class: output floods
# Print without end.
# checker: While is not allowed
# bypass: limit
def reward(s):
    while True:
        print("\x1b[2Jflood" * 1000)
