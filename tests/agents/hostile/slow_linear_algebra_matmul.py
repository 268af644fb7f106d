# ruff: noqa
# Hostile class: slow linear algebra
# Allowed products, too many of them.
# checker: contained
# bypass: limit
import torch


def reward(s):
    x = torch.ones(3000, 3000)
    for i in range(1000):
        x = (x @ x) * 0.0
    return {"a": s.time_s + x.sum()}
