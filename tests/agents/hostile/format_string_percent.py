# ruff: noqa
# Hostile class: format strings
# The same with the older operator.
# checker: formatting and repeating strings
# bypass: limit
def reward(s):
    text = "%99999999999d" % 1
    return {"a": s.time_s + len(text)}
