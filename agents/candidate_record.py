"""A candidate as the search knows it, from its proposal to the end of its training."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Proposal:
    """One answer, or the reason why there is none."""

    answer: str | None
    parents: tuple[str, ...] = ()
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Who answered and what it cost: provider, model, input_tokens, ... as the ledger names them."""


@dataclass
class Candidate:
    """Filled in from stage to stage."""

    name: str
    arm: str
    generation: int
    sample: int
    answer: str | None
    source: str | None = None
    """Its code as checked; None while it is not, or was refused."""
    problems: list[str] = field(default_factory=list)
    """What its author is told when it cannot be used."""
    rungs: list[dict[str, Any]] = field(default_factory=list)
    """Results of its training's stages so far, good ones only."""
    failed: str | None = None
    """Why its training failed."""
    stopped: str | None = None
    """Why its training was not completed, when others went on."""
    complete: bool = False
    """Trained in full."""
    used_env_steps: int = 0
    reflection: str = ""
    gaming: dict[str, Any] | None = None

    @property
    def fitness(self) -> float:
        """On the select physics, after its last stage; -1 when it was never measured."""
        return float(self.rungs[-1]["select"]["fitness"]["mean"]) if self.rungs else -1.0

    @property
    def course(self) -> list[dict[str, Any]]:
        return list(self.rungs[-1]["course"]) if self.rungs else []

    @property
    def outcome(self) -> str:
        """One line for the conversation."""
        if self.source is None:
            return f"sample {self.sample}: not usable"
        if self.failed is not None:
            return f"sample {self.sample}: failed in training"
        last = self.rungs[-1]
        end = "stopped" if self.stopped else "completed"
        note = "; its reward rose while fitness did not" if self.gaming and self.gaming["suspected"] else ""
        return f"sample {self.sample}: fitness {self.fitness:.3f}, {end} after {last['env_steps']:,} steps{note}"


def ranked(candidates: list[Candidate]) -> list[Candidate]:
    """Those trained in full, the fittest first; equals in the order in which they were proposed."""
    complete = [c for c in candidates if c.complete]
    return sorted(complete, key=lambda c: (-c.fitness, c.generation, c.sample))
