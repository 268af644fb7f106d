# ruff: noqa
# Hostile class: torch.hub
# Run a file that lies elsewhere.
# checker: `torch.hub.load` is not on the list
# bypass: breach
import torch


def reward(s):
    torch.hub.load("@OUTSIDE@", "entry", source="local")
    return {"a": s.time_s}
