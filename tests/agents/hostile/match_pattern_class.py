# ruff: noqa
# Hostile class: match patterns
# A class pattern reads an attribute without an attribute in the syntax tree.
# checker: Match is not allowed
# bypass: breach
import torch


def reward(s):
    match torch:
        case object(serialization=object(os=object(system=run))):
            run("touch @OUTSIDE@/made")
    return {"a": s.time_s}
