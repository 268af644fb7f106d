"""Where success ends: a scan of values for every parameter, then bisection of all edges side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agents.prior_batch import Point
from agents.shares import wilson

RESOLUTION = 0.05
"""Width to which an edge is bracketed, as a share of the range that survives."""
MOST_ROUNDS = 8

Try = Callable[[Sequence[Point]], list[int]]
"""Runs points and says how many of each one's episodes succeeded."""


@dataclass(frozen=True)
class Measured:
    """One value of a parameter."""

    value: float
    successes: int
    episodes: int

    @property
    def share(self) -> float:
        return self.successes / self.episodes

    @property
    def interval(self) -> tuple[float, float]:
        """95 % score interval of the share."""
        return wilson(self.successes, self.episodes)[1:]


@dataclass
class Curve:
    """A parameter's values, and the range about neutral in which the policy survives."""

    term: str
    neutral: float
    scanned: tuple[float, ...]
    """The values of the scan, neutral among them."""
    measured: dict[float, Measured] = field(default_factory=dict)

    def add(self, measured: Measured) -> None:
        self.measured[measured.value] = measured

    def values(self) -> list[Measured]:
        return [self.measured[value] for value in sorted(self.measured)]

    def bracket(self, direction: int, needed: float) -> tuple[float, float | None]:
        """(last value of an unbroken row of successes from neutral, first failure) on one side, -1 or 1.

        The failure is None where success goes on to the last value that was tried.
        """
        inside = self.neutral
        for value in sorted(self.measured, key=lambda v: direction * v):
            if direction * (value - self.neutral) <= 0:
                continue
            if self.measured[value].share < needed:
                return inside, value
            inside = value
        return inside, None

    def survived(self, needed: float) -> tuple[float, float] | None:
        """The range in which the policy survives; None where it fails at neutral already."""
        if self.measured[self.neutral].share < needed:
            return None
        return self.bracket(-1, needed)[0], self.bracket(1, needed)[0]

    def next_values(self, needed: float) -> list[float]:
        """The middles of the brackets that are still too wide."""
        survived = self.survived(needed)
        if survived is None:
            return []
        found = []
        for direction in (-1, 1):
            inside, outside = self.bracket(direction, needed)
            # Where hardly anything survives, an edge to a share of nothing would never be reached.
            first = min((abs(v - self.neutral) for v in self.scanned if v != self.neutral), default=0.0)
            width = RESOLUTION * max(survived[1] - survived[0], first)
            if outside is not None and abs(outside - inside) > width:
                found.append((inside + outside) / 2)
        return found


def scan(grids: Mapping[str, tuple[float, Sequence[float]]], episodes: int, run: Try) -> dict[str, Curve]:
    """Every value of every parameter, in one call of `run`. grids: term -> (neutral, its values with neutral)."""
    curves = {term: Curve(term, neutral, tuple(values)) for term, (neutral, values) in grids.items()}
    points = [Point(term, value) for term, (_, values) in grids.items() for value in values]
    for point, successes in zip(points, run(points), strict=True):
        curves[point.term].add(Measured(point.value, successes, episodes))
    return curves


def refine(curves: Mapping[str, Curve], needed: float, episodes: int, run: Try) -> int:
    """Bisects the edges of all parameters side by side until each is known to RESOLUTION. Returns the rounds."""
    for done in range(MOST_ROUNDS):
        points = [Point(term, value) for term, curve in curves.items() for value in curve.next_values(needed)]
        if not points:
            return done
        for point, successes in zip(points, run(points), strict=True):
            curves[point.term].add(Measured(point.value, successes, episodes))
    return MOST_ROUNDS
