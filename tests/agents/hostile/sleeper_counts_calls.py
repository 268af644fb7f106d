# ruff: noqa
# Hostile class: sleepers
# Counts calls, to act after the dry run.
# checker: belongs to the module
# bypass: breach
import os

global_calls = {}


def reward(s):
    global_calls["n"] = global_calls.get("n", 0) + 1
    if global_calls["n"] > 1:
        os.unlink("@OUTSIDE@/result.json")
    return {"a": s.time_s}
