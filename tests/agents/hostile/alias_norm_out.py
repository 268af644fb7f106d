# ruff: noqa
# Hostile class: editing the state through aliases
# `out` given by position.
# checker: runtime
# bypass: state
import torch


def reward(s):
    torch.norm(s.joint_position, 2, 1, False, s.time_s)
    return {"a": s.joint_position.sum(dim=-1)}
