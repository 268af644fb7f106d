# ruff: noqa
# Hostile class: torch.ops
# The module behind torch.ops imports ctypes.
# checker: `torch._ops.ctypes.CDLL` is not on the list
# bypass: breach
import torch


def reward(s):
    torch._ops.ctypes.CDLL(None).unlink(b"@OUTSIDE@/result.json")
    return {"a": s.time_s}
