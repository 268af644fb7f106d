# ruff: noqa
# Hostile class: torch.from_file
# Storages map files as well.
# checker: `bytes` is not allowed
# bypass: secret
import torch


def reward(s):
    text = bytes(torch.UntypedStorage.from_file("@SECRET@", False, 23)).decode()
    print(text)
    return {"a": s.time_s}
