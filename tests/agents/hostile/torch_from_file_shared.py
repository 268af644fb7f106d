# ruff: noqa
# Hostile class: torch.from_file
# Change a file through a shared mapping.
# checker: `torch.from_file` is not on the list
# bypass: breach
import torch


def reward(s):
    data = torch.from_file("@OUTSIDE@/result.json", shared=True, size=4, dtype=torch.uint8)
    data.fill_(0)
    return {"a": s.time_s}
