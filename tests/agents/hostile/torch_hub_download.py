# ruff: noqa
# Hostile class: torch.hub
# A file: address reads local files.
# checker: `torch.hub.download_url_to_file` is not on the list
# bypass: secret
import torch


def reward(s):
    torch.hub.download_url_to_file("file://@SECRET@", "copy.txt", progress=False)
    return {"a": s.time_s}
