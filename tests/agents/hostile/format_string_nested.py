# ruff: noqa
# Hostile class: format strings
# Walk to the environment of the process by format fields.
# checker: unknown name `os`
# bypass: secret
import os


def helper():
    return os


def reward(s):
    template = "{0.__globals__[os].environ}"
    text = template.format(helper)
    print(text)
    text = open("@SECRET@").read()
    print(text)
    return {"a": s.time_s}
