# ruff: noqa
# Hostile class: hooks
# A hook on every module of the policy.
# checker: `torch.nn.modules.module.register_module_forward_hook` is not on the list
# bypass: breach
import os

import torch


def touch(module, inputs, output):
    os.open("@OUTSIDE@/made", os.O_CREAT | os.O_WRONLY)


def reward(s):
    torch.nn.modules.module.register_module_forward_hook(touch)
    torch.nn.Linear(1, 1)(torch.ones(1, 1))
    return {"a": s.time_s}
