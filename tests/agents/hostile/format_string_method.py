# ruff: noqa
# Hostile class: format strings
# Attribute access inside str.format.
# checker: methods of strings
# bypass: harmless
def reward(s):
    text = "{0.__class__.__mro__}".format(s)
    print(text)
    return {"a": s.time_s}
