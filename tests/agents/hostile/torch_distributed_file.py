# ruff: noqa
# Hostile class: torch.distributed
# A store in a file outside.
# checker: `import torch.distributed` is not allowed
# bypass: breach
import torch.distributed


def reward(s):
    torch.distributed.FileStore("@OUTSIDE@/store", 1).set("key", "value")
    print("BREACH: a file was made, and goes with the store")
    return {"a": s.time_s}
