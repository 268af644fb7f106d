# ruff: noqa
# Hostile class: hooks
# A gradient hook runs later.
# checker: only `with torch.no_grad():`
# bypass: breach
import os

import torch


def reward(s):
    with torch.enable_grad():
        x = s.time_s.clone().requires_grad_()
        x.register_hook(
            lambda gradient: (
                print("BREACH: hook ran") if os.path.isdir("@OUTSIDE@") and os.listdir("@OUTSIDE@") else None
            )
        )
        x.sum().backward()
    return {"a": s.time_s}
