# ruff: noqa
# Hostile class: huge allocations
# Double a tensor for ever.
# checker: contained
# bypass: limit
import torch


def reward(s):
    x = torch.ones(1_000_000)
    for i in range(60):
        x = torch.cat([x, x])
    return {"a": s.time_s + x.sum()}
