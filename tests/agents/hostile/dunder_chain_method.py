# ruff: noqa
# Hostile class: dunder chains
# Builtins through the module that a builtin method is bound to.
# checker: `len` is a function
# bypass: secret
def reward(s):
    text = len.__self__.open("@SECRET@").read()
    print(text)
    return {"a": s.time_s}
