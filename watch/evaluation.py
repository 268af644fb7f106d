"""evaluation.json: how a policy does on the physics sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from watch.values import Interval, mapping, number, text

SET_NAMES = {
    "nominal": ("nominal", "the robot as modeled"),
    "randomized": ("randomized", "the training’s own ranges"),
    "select": ("shifted, select", "outside the training ranges; compares candidates"),
    "report": ("shifted, report", "outside the training ranges; for final figures only"),
}
MAX_SETS, MAX_MEASURES, MAX_TERMS, MAX_VALUES = 12, 40, 60, 200


@dataclass(frozen=True)
class SetResult:
    """A policy on one physics set."""

    name: str
    fitness: Interval | None
    fall_rate: Interval | None
    measures: dict[str, Interval]
    foot_use: dict[str, float]
    """Share of time that each foot carries load, by the foot's name or number."""
    cost_of_transport: Interval | None
    diverged: int | None

    @property
    def label(self) -> str:
        return SET_NAMES.get(self.name, (self.name, ""))[0]

    @property
    def meaning(self) -> str:
        return SET_NAMES.get(self.name, ("", ""))[1]


@dataclass(frozen=True)
class Evaluation:
    physics_hash: str | None = None
    episodes: int | None = None
    """In all, over the seeds."""
    seeds: int | None = None
    threshold: float | None = None
    """Fitness from which the task counts as done."""
    sets: dict[str, SetResult] = field(default_factory=dict)

    @property
    def main(self) -> SetResult | None:
        """The set that a run is judged by in one line: randomized, else the first with a fitness."""
        with_fitness = {name: result for name, result in self.sets.items() if result.fitness}
        return with_fitness.get("randomized") or next(iter(with_fitness.values()), None)


def parse(content: dict[str, Any]) -> Evaluation:
    """The evaluation in the parsed file; whatever has another form is left out."""
    seeds = content.get("seeds")
    count = len(seeds) if isinstance(seeds, list) else number(seeds)
    per_seed = number(content.get("episodes"))
    total = per_seed * (count or 1) if per_seed is not None else None
    sets = list(mapping(content.get("sets")).items())[:MAX_SETS]
    return Evaluation(
        physics_hash=text(content.get("physics_hash"), 64),
        episodes=None if total is None else int(total),
        seeds=None if count is None else int(count),
        threshold=number(content.get("fitness_threshold")),
        sets={name: _set(name, mapping(result)) for name, result in sets},
    )


def _set(name: str, content: dict[str, Any]) -> SetResult:
    measures = list(mapping(content.get("measures")).items())[:MAX_MEASURES]
    diverged = number(content.get("diverged"))
    return SetResult(
        name=name,
        fitness=Interval.read(content.get("fitness")),
        fall_rate=Interval.read(content.get("fall_rate")),
        measures={key: value for key, raw in measures if (value := Interval.read(raw))},
        foot_use=_feet(content.get("foot_use")),
        cost_of_transport=Interval.read(content.get("cost_of_transport")),
        diverged=None if diverged is None else int(diverged),
    )


def _feet(value: Any) -> dict[str, float]:
    items = value.items() if isinstance(value, dict) else enumerate(value, 1) if isinstance(value, list) else ()
    feet = ((text(foot) or "?", number(share)) for foot, share in list(items)[:8])
    return {foot: share for foot, share in feet if share is not None}
