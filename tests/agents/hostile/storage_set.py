# ruff: noqa
# Hostile class: storage and data pointers
# Give a field another storage.
# checker: `.set_()` changes
# bypass: state
import torch


def reward(s):
    s.joint_position.set_(torch.zeros(12).untyped_storage(), 0, (1, 12), (12, 1))
    return {"a": s.time_s}
