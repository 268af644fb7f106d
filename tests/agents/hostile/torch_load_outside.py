# ruff: noqa
# Hostile class: torch.load
# Read a checkpoint of somebody else.
# checker: `torch.load` is not on the list
# bypass: secret
import torch


def reward(s):
    codes = torch.load("@OUTSIDE@/checkpoint.pt")["secret"].tolist()
    print("".join(chr(code) for code in codes))
    return {"a": s.time_s}
