# ruff: noqa
# Hostile class: match patterns
# A mapping pattern on sys.modules.
# checker: Match is not allowed
# bypass: breach
import sys


def reward(s):
    match sys.modules:
        case {"os": object(remove=remove)}:
            remove("@OUTSIDE@/result.json")
    return {"a": s.time_s}
