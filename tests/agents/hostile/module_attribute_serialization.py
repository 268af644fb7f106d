# ruff: noqa
# Hostile class: module attributes that lead to os
# torch's own imports.
# checker: `torch.serialization.os.system` is not on the list
# bypass: breach
import torch


def reward(s):
    torch.serialization.os.system("touch @OUTSIDE@/made")
    return {"a": s.time_s}
