"""What a robot's counter tells about the way its messages take: losses, lateness, jumps.

The host sees only when a message arrives.  The counter says when it was sent, up to a constant: the smallest
difference between arrival and counter in the last seconds is the quickest way that a message took, and what
another took longer is its lateness.  A delay that was there from the start cannot be seen.

Lateness is told to the log and does not date readings: a simulated robot on a busy machine catches up after
each pause, and would be taken for a delayed one.  Delay that comes at once leaves a gap, which is stale data.

How long a count lasts is not documented for a real Go2; the simulated one counts milliseconds.  A count of
1 ms (time) or 2 ms (messages) is recognized; with any other, messages are stamped with their arrival.
"""

from __future__ import annotations

import math

TICK_MODULUS = 1 << 32
REORDERED_TICKS = 1000
"""A counter that falls back by less is a late message; by more, a robot that restarted."""
COUNTS_S = (0.001, 0.002)
_LEARN_S = 0.5
"""So long the counter is watched before its unit is judged."""
_UNIT_SLACK = 0.1
_FORGET_S = 5.0
"""The quickest way is remembered this long to twice as long, so that drifting clocks do not add up."""
JUMP_S = 1.0
"""Arriving this much before the quickest way allows is a counter that jumped forward; less may be a pause that
the quickest one met, too."""


class _Quickest:
    """The smallest value of the last `forget_s` to twice `forget_s`."""

    def __init__(self, forget_s: float) -> None:
        self._forget_s = forget_s
        self.clear()

    def clear(self) -> None:
        self._now = self._before = math.inf
        self._ends_s = -math.inf

    def see(self, way_s: float, now_s: float) -> float:
        """The smallest one before `way_s`, infinite if there is none; takes `way_s` in."""
        if now_s >= self._ends_s:
            self._before, self._now = self._now, math.inf
            self._ends_s = now_s + self._forget_s
        before_s = min(self._now, self._before)
        self._now = min(self._now, way_s)
        return before_s


class TickClock:
    """Follows one robot's counter.  Ask `is_late` of each message, `count` the others, `stamp` the one that is used."""

    def __init__(self) -> None:
        self.lost = 0
        """Messages that never arrived, by gaps in the counter."""
        self.late_s = 0.0
        """How much later than the quickest one the newest message came [s]."""
        self._tick: int | None = None
        self._total = 0  # counts since the first message, without the modulus
        self._period = 0  # counts between two messages: the smallest step seen
        self._unit_s: float | None = None
        self._first: tuple[float, int] | None = None  # arrival and total from which the unit is learned
        self._quickest = _Quickest(_FORGET_S)

    def is_late(self, tick: int) -> bool:
        """Whether a newer message came before this one; such a message was not lost after all."""
        late = self._tick is not None and 0 < (self._tick - tick) % TICK_MODULUS < REORDERED_TICKS
        if late:
            self.lost = max(0, self.lost - 1)
        return late

    def count(self, tick: int) -> None:
        """A message that is newer than all before."""
        before, self._tick = self._tick, tick
        if before is None:
            return
        step = (tick - before) % TICK_MODULUS
        if step == 0:
            return
        if step >= TICK_MODULUS // 2:  # restarted: nothing that was learned holds
            self._forget()
            return
        self._total += step
        if step < REORDERED_TICKS:
            self._period = min(step, self._period) if self._period else step
            self.lost += round(step / self._period) - 1

    def stamp(self, now_s: float) -> float:
        """Host time [s] for the newest message, which was taken at `now_s`: that time, and `late_s` is set.

        A counter that jumped forward gives one stamp in the future, as far as it jumped; after that it is
        taken as it is.
        """
        if self._unit_s is None:
            self._learn(now_s)
            return now_s
        way_s = now_s - self._total * self._unit_s
        quickest_s = self._quickest.see(way_s, now_s)
        if math.inf > quickest_s > way_s + JUMP_S:
            self._quickest.clear()
            self._quickest.see(way_s, now_s)
            self.late_s = 0.0
            return now_s + quickest_s - way_s
        self.late_s = max(0.0, way_s - quickest_s)
        return now_s

    def _learn(self, now_s: float) -> None:
        if self._first is None:
            self._first = now_s, self._total
            return
        elapsed_s, counts = now_s - self._first[0], self._total - self._first[1]
        if elapsed_s < _LEARN_S or counts == 0:
            return
        self._first = now_s, self._total  # if it fits no unit: once more, it may have been a pause
        per_count_s = elapsed_s / counts
        self._unit_s = next((unit for unit in COUNTS_S if abs(per_count_s / unit - 1.0) < _UNIT_SLACK), None)

    def _forget(self) -> None:
        self._total = 0
        self._unit_s = self._first = None
        self._quickest.clear()
        self.late_s = 0.0
