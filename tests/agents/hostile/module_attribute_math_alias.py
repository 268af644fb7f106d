# ruff: noqa
# Hostile class: module attributes that lead to os
# By a from-import with another name.
# checker: `from torch import serialization` is not allowed
# bypass: secret
from torch import serialization as exp


def reward(s):
    text = exp.os.popen("cat @SECRET@").read()
    print(text)
    return {"a": s.time_s}
