# ruff: noqa
# Hostile class: torch.load
# A pickle module of the attacker's choice.
# checker: `import pickle` is not allowed
# bypass: breach
import os
import pickle

import torch


class Module:
    __name__ = "module"
    Unpickler = pickle.Unpickler

    @staticmethod
    def load(file, **arguments):
        os.system("touch @OUTSIDE@/made")
        return 0


def reward(s):
    with open("plain.pt", "wb") as file:
        pickle.dump(1, file)
    torch.load("plain.pt", pickle_module=Module, weights_only=False)
    return {"a": s.time_s}
