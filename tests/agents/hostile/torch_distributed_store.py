# ruff: noqa
# Hostile class: torch.distributed
# A store listens on a port.
# checker: `torch.distributed.TCPStore` is not on the list
# bypass: breach
import datetime

import torch
import torch.distributed


def reward(s):
    torch.distributed.TCPStore("127.0.0.1", 0, 1, True, timeout=datetime.timedelta(seconds=2), wait_for_workers=False)
    print("BREACH: listening")
    return {"a": s.time_s}
