"""Values read from files that anyone may have written: each becomes what a page can show, or None."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass, replace
from typing import Any

MAX_TEXT = 400
"""Characters of a name or a message that a page shows."""

# What turns the direction of the text around it can make code look like other code (CVE-2021-42574).
_DIRECTION = {"RLE", "LRE", "RLO", "LRO", "PDF", "RLI", "LRI", "FSI", "PDI"}
_NO_WIDTH = "\u00ad\u200b\u200e\u200f\u2060\ufeff"


def visible(value: str) -> str:
    """The text with invisible controls, direction changes and broken surrogates spelled out as <U+XXXX>."""
    # The common case is decided without a look at each character.
    if value.isascii() and not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", value):
        return value
    return "".join(f"<U+{ord(c):04X}>" if _hidden(c) else c for c in value)


def _hidden(c: str) -> bool:
    if c in "\t\n\r":
        return False
    unprintable = unicodedata.category(c) in ("Cc", "Cs", "Cn")
    return unprintable or c in _NO_WIDTH or unicodedata.bidirectional(c) in _DIRECTION


def text(value: Any, limit: int = MAX_TEXT) -> str | None:
    """One line to show, shortened to `limit` characters; None for what is no text or number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        line = " ".join(str(value).split())
    except ValueError:  # an integer of thousands of digits
        return None
    return visible(line if len(line) <= limit else line[: limit - 1] + "…")


def number(value: Any) -> float | None:
    """A finite float, or None for anything else (also for true and false)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def mapping(value: Any) -> dict[str, Any]:
    """The value where it is an object, else an empty one. Keys become text, as pages show them."""
    if not isinstance(value, dict):
        return {}
    return {name: item for key, item in value.items() if (name := text(key)) is not None}


@dataclass(frozen=True)
class Interval:
    """A mean, with its 95 % confidence interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None
    unit: str = ""

    @classmethod
    def read(cls, value: Any) -> Interval | None:
        """From {"mean", "low", "high", "unit"} or a bare number; None for anything else."""
        content = mapping(value)
        mean = number(content.get("mean")) if content else number(value)
        if mean is None:
            return None
        low, high = number(content.get("low")), number(content.get("high"))
        if low is None or high is None or low > high:
            low = high = None
        return cls(mean, low, high, text(content.get("unit"), 20) or "")

    @property
    def as_share(self) -> Interval:
        """Within 0 and 1: Student's t over a few seeds may promise fewer falls than none."""
        clip = lambda v: None if v is None else min(1.0, max(0.0, v))  # noqa: E731
        return replace(self, low=clip(self.low), high=clip(self.high))
