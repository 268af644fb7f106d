"""How a deployment went: the timing of its ticks, and the summary of it all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sim2real.script import StepResult


@dataclass
class Timing:
    """Per tick, in seconds."""

    wake_late_s: list[float] = field(default_factory=list)
    """Wake-up after the deadline."""
    sent_late_s: list[float] = field(default_factory=list)
    """Command sent after the deadline."""
    tick_s: list[float] = field(default_factory=list)
    """From wake-up to command sent."""
    policy_s: list[float] = field(default_factory=list)
    """Inference, of running ticks only."""
    missed: int = 0
    """Commands sent later than one period after their deadline."""
    skipped: int = 0
    """Ticks that fell out because the schedule had to start anew."""

    def percentiles_ms(self, name: str) -> dict[str, float]:
        """p50, p99 and maximum of one of the lists [ms]; empty if there is nothing."""
        values = np.array(getattr(self, name)) * 1e3
        if not len(values):
            return {}
        p50, p99 = np.percentile(values, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": float(values.max())}


@dataclass(frozen=True)
class Summary:
    """How a deployment went."""

    ticks: int
    seconds: float
    missed_deadlines: int
    skipped_ticks: int
    tick_ms: dict[str, float]
    policy_ms: dict[str, float]
    wake_late_ms: dict[str, float]
    state: str
    """The state at the end."""
    reasons: tuple[str, ...]
    """Everything that ever latched damping, oldest first."""
    limited_ticks: int
    """Ticks whose command the supervisor had to bring inside the limits."""
    link: dict[str, Any]
    """The link's counters and notes."""
    log: Path | None
    log_dropped: int
    """Log messages dropped because the disk was too slow."""
    scheduling: str
    """What `realtime.real_time` got; empty in lock step."""
    steps: tuple[StepResult, ...] = ()
    """Of the script, if one ran."""
