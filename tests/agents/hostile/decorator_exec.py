# ruff: noqa
# Hostile class: decorators
# exec as a decorator's argument.
# checker: Lambda is not allowed
# bypass: secret
def keep(value):
    return lambda function: function


@keep(print(open("@SECRET@").read()))
def helper(x):
    return x


def reward(s):
    return {"a": helper(s.time_s)}
