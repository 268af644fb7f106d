# ruff: noqa
# Hostile class: torch.distributed
# Start another process.
# checker: `torch.multiprocessing.get_context` is not on the list
# bypass: breach
import torch.multiprocessing


def touch():
    with open("@OUTSIDE@/made", "w") as file:
        file.write("x")


def reward(s):
    child = torch.multiprocessing.get_context("fork").Process(target=touch)
    child.start()
    child.join()
    return {"a": s.time_s}
