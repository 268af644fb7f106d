# ruff: noqa
# Hostile class: editing the state through aliases
# A result written into a field.
# checker: `out=` is not allowed
# bypass: state
import torch


def reward(s):
    y = s.time_s
    torch.add(y, 1.0, out=y)
    return {"a": s.time_s}
