"""Arrays of float32 as text in JSON: exact, and short."""

from __future__ import annotations

import base64

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array32 = NDArray[np.float32]


def encode(array: ArrayLike) -> str:
    """Base64 of an array as float32, little-endian: exact, and short."""
    return base64.b64encode(np.ascontiguousarray(array, "<f4").tobytes()).decode("ascii")


def decode(text: str) -> Array32:
    """Flat array, the inverse of `encode`."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f4").astype(np.float32)
