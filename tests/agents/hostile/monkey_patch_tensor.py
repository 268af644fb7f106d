# ruff: noqa
# Hostile class: monkey-patching
# Replace a method of every tensor.
# checker: a lambda needs one name
# bypass: harmless
import torch


def reward(s):
    torch.Tensor.sum = lambda self, *a, **k: 1e9
    return {"a": s.time_s}
