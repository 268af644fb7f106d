# ruff: noqa
# Hostile class: match patterns
# The same, to a function's globals.
# checker: Match is not allowed
# bypass: secret
def helper():
    return 1.0


def reward(s):
    match helper:
        case object(__builtins__={"open": opener}):
            text = opener("@SECRET@").read()
            print(text)
    return {"a": s.time_s}
