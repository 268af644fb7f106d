"""Shares of episodes with their intervals."""

from __future__ import annotations

import math

_Z = 1.959964
"""97.5 % quantile of the normal distribution."""


def wilson(count: int, total: int) -> tuple[float, float, float]:
    """(share, low, high): a share with its 95 % score interval (Wilson 1927), which stays within 0 and 1."""
    share = count / total
    spread = _Z**2 / total
    middle = (share + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(share * (1 - share) / total + spread / (4 * total))
    return share, max(0.0, middle - half), min(1.0, middle + half)
