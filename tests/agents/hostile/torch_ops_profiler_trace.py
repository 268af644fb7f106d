# ruff: noqa
# Hostile class: torch.ops
# The profiler writes a trace to any path.
# checker: only `with torch.no_grad():`
# bypass: breach
import torch


def reward(s):
    with torch.autograd.profiler.profile() as profile:
        s.time_s.sum()
    profile.export_chrome_trace("@OUTSIDE@/trace.json")
    return {"a": s.time_s}
