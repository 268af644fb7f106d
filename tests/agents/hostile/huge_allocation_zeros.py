# ruff: noqa
# Hostile class: huge allocations
# Touch more memory than there is.
# checker: contained
# bypass: limit
import torch


def reward(s):
    return {"a": s.time_s + torch.ones(40_000, 1_000_000).sum()}
