# ruff: noqa
# Hostile class: module attributes that lead to os
# sys.modules holds every module.
# checker: `torch.sys.modules` is not on the list
# bypass: breach
import torch


def reward(s):
    torch.sys.modules["os"].rename("@OUTSIDE@/result.json", "@OUTSIDE@/gone.json")
    return {"a": s.time_s}
