# ruff: noqa
# Hostile class: torch.hub
# hub's own imports read addresses.
# checker: `torch.hub.urlopen` is not on the list
# bypass: secret
import torch


def reward(s):
    text = torch.hub.urlopen("file://@SECRET@").read().decode()
    print(text)
    return {"a": s.time_s}
