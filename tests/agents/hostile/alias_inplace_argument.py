# ruff: noqa
# Hostile class: editing the state through aliases
# `inplace` given by position.
# checker: runtime
# bypass: state
import torch.nn.functional as F


def reward(s):
    F.relu(s.joint_position, True)
    return {"a": s.time_s}
