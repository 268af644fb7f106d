# ruff: noqa
# Hostile class: module attributes that lead to os
# Through underscore modules.
# checker: `torch._jit_internal
# bypass: breach
import torch


def reward(s):
    torch._jit_internal.inspect.os.truncate("@OUTSIDE@/result.json", 0)
    return {"a": s.time_s}
