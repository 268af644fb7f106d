# ruff: noqa
# Hostile class: torch.jit
# The compiler's imports lead to os.
# checker: `torch.jit.frontend.inspect.os.system` is not on the list
# bypass: breach
import torch


def reward(s):
    torch.jit.frontend.inspect.os.system("touch @OUTSIDE@/made")
    return {"a": s.time_s}
