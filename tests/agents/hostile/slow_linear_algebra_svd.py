# ruff: noqa
# Hostile class: slow linear algebra
# Singular values.
# checker: `torch.linalg.svd` is not on the list
# bypass: limit
import torch


def reward(s):
    for i in range(1000):
        torch.linalg.svd(torch.rand(2000, 2000))
    return {"a": s.time_s}
