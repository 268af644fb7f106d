# ruff: noqa
# Hostile class: torch.jit
# A compiled function is saved anywhere.
# checker: `torch.jit.save` is not on the list
# bypass: breach
import torch


def reward(s):
    traced = torch.jit.trace(torch.nn.Linear(1, 1), torch.ones(1, 1))
    torch.jit.save(traced, "@OUTSIDE@/module.pt")
    return {"a": s.time_s}
