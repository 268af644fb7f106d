# ruff: noqa
# Hostile class: torch.from_file
# Map any file as a tensor.
# checker: `torch.from_file` is not on the list
# bypass: secret
import torch


def reward(s):
    data = torch.from_file("@SECRET@", size=23, dtype=torch.uint8)
    print("".join(chr(code) for code in data.tolist()))
    return {"a": s.time_s}
