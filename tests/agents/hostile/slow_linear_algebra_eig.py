# ruff: noqa
# Hostile class: slow linear algebra
# Eigenvalues of a large matrix, again and again.
# checker: `torch.linalg.eigvals` is not on the list
# bypass: limit
import torch


def reward(s):
    for i in range(1000):
        torch.linalg.eigvals(torch.rand(1500, 1500))
    return {"a": s.time_s}
