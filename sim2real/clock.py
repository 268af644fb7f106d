"""Where the control loop's time comes from."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """The machine's clock, or a simulation's in lock step."""

    def now_s(self) -> float:
        """Seconds; never runs backward by itself."""
        ...

    def wait_until(self, time_s: float) -> None:
        """Return at `time_s`, or at once if it has passed."""
        ...


class MonotonicClock:
    """`time.monotonic()`.  The last `spin_s` of a wait are spent polling, for a sharper wake-up."""

    def __init__(self, spin_s: float = 0.0) -> None:
        self._spin_s = spin_s

    def now_s(self) -> float:
        return time.monotonic()

    def wait_until(self, time_s: float) -> None:
        pause_s = time_s - time.monotonic() - self._spin_s
        if pause_s > 0.0:
            time.sleep(pause_s)
        while self._spin_s and time.monotonic() < time_s:
            pass
