# ruff: noqa
# Hostile class: numpy writes
# An array that shares memory comes back as a tensor.
# checker: `torch.from_numpy` is not on the list
# bypass: state
import torch


def reward(s):
    shared = torch.from_numpy(s.joint_position.numpy())
    shared.zero_()
    return {"a": s.time_s}
