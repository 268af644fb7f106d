# ruff: noqa
# Hostile class: torch.jit
# Open an archive that lies elsewhere.
# checker: `torch.jit.load` is not on the list
# bypass: secret
import torch


def reward(s):
    module = torch.jit.load("@OUTSIDE@/module.pt")
    print("".join(chr(code) for code in module.secret.tolist()))
    return {"a": s.time_s}
