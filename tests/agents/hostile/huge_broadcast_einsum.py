# ruff: noqa
# Hostile class: broadcasts
# The same by indices.
# checker: contained
# bypass: limit
import torch


def reward(s):
    x = s.joint_position.repeat(1, 100)
    y = torch.einsum("ni,mj,nk->nmijk", x, x, x)
    return {"a": s.time_s + y.sum()}
