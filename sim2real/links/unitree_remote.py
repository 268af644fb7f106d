"""The hand-held remote in the 40 bytes `wireless_remote` of a Unitree robot's messages.

The button bits stand at bytes 2 and 3, the sticks as f32 at byte 4 (lx), 8 (rx), 12 (ry) and 20 (ly).
"""

from __future__ import annotations

import math
import struct
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sim2real.links.link import Remote
from sim2real.links.unitree_wire import WireError

BUTTONS: Final = (
    *("R1", "L1", "start", "select", "R2", "L2", "F1", "F2"),
    *("A", "B", "X", "Y", "up", "right", "down", "left"),
)
"""Buttons of the hand-held remote: names by bit, lowest bit of byte 2 first."""
_BYTES = struct.Struct("<2xH3f4xf16x")


def decode_remote(wireless_remote: NDArray[np.uint8]) -> Remote:
    """The remote from its 40 bytes.  Raises WireError for another number of them.

    A stick value that is not finite reads 0 and anything beyond ±1 is cut: a broken remote must not steer.
    """
    raw = wireless_remote.tobytes()
    if len(raw) != _BYTES.size:
        raise WireError(f"wireless_remote has {len(raw)} bytes; valid is {_BYTES.size}")
    bits, left_x, right_x, right_y, left_y = _BYTES.unpack(raw)
    return Remote(_stick(left_x), _stick(left_y), _stick(right_x), _stick(right_y), _pressed(bits))


def encode_remote(remote: Remote) -> NDArray[np.uint8]:
    """The 40 bytes of a remote, the inverse of `decode_remote`.  Raises WireError on an unknown button."""
    unknown = remote.buttons - set(BUTTONS)
    if unknown:
        raise WireError(f"unknown buttons {sorted(unknown)}; valid are {', '.join(BUTTONS)}")
    bits = sum(1 << bit for bit, name in enumerate(BUTTONS) if name in remote.buttons)
    raw = _BYTES.pack(bits, remote.left_x, remote.right_x, remote.right_y, remote.left_y)
    return np.frombuffer(raw, np.uint8)


def _stick(value: float) -> float:
    return min(max(value, -1.0), 1.0) if math.isfinite(value) else 0.0


@lru_cache(maxsize=256)
def _pressed(bits: int) -> frozenset[str]:
    return frozenset(name for bit, name in enumerate(BUTTONS) if bits >> bit & 1)
