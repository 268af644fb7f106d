"""A curriculum over physics: training begins on ranges of its own and moves to its real ones, linearly.

The ranges are a function of the training's progress alone, so a resumed training continues as if nothing had happened.
"""

import math
from collections.abc import Mapping
from typing import Any

from configs.errors import UserError, unknown
from envs import randomization
from envs.environment import Environment
from envs.randomization import TERMS, Ranges

NEUTRAL = "neutral"
"""Where all of a training's own ranges may start: nothing is randomized yet, and they widen from there."""
_FIXED = "push_interval"
"""The one term that stays as it is: pushes grow in strength."""


class Curriculum:
    """Where the ranges of some terms stand, from `start` at progress 0 to the training's own at progress `until`."""

    def __init__(self, config: Mapping[str, Any] | None, ranges: Ranges) -> None:
        """config: {until: share of the training, start: {term: [low, high]} or "neutral"}, or None for no curriculum.

        Raises UserError for a term that stays as it is, or a share that makes no sense.
        """
        config = dict(config or {})
        if extra := config.keys() - {"until", "start"}:
            raise unknown("curriculum setting", min(extra), ["until", "start"])
        try:
            self.until = float(config.get("until", 0.0))
        except (TypeError, ValueError):
            self.until = math.nan
        if not 0.0 <= self.until <= 1.0:
            raise UserError(f"curriculum.until={config['until']}; valid: 0 to 1, a share of the training")
        start = config.get("start") or {}
        if start == NEUTRAL:
            start = {name: (TERMS[name].neutral,) * 2 for name in ranges if name != _FIXED}
        elif not isinstance(start, Mapping):
            raise UserError(f"curriculum.start={start}; valid: {NEUTRAL}, or {{term: [low, high]}}")
        self._start = randomization.validate(start)
        if _FIXED in self._start:
            raise unknown("curriculum term", _FIXED, [term for term in TERMS if term != _FIXED])
        for name in self._start:
            if name.endswith("push_velocity") and name not in ranges:
                raise UserError(f"curriculum term {name}: nobody is pushed in this training; randomize it as well")
        neutral = {name: (TERMS[name].neutral,) * 2 for name in self._start}
        self.final: dict[str, tuple[float, float]] = neutral | dict(ranges)
        """The training's own ranges, with neutral ones for terms that only the curriculum draws."""

    def ranges(self, progress: float) -> dict[str, tuple[float, float]]:
        """The ranges of its terms at that share (0 to 1) of the training."""
        done = min(progress / self.until, 1.0) if self.until > 0 else 1.0
        now = {}
        for name, (low, high) in self._start.items():
            last_low, last_high = self.final[name]
            now[name] = low + (last_low - low) * done, high + (last_high - high) * done
        return now

    def apply(self, environment: Environment, progress: float) -> None:
        """Draws noise from where the ranges stand, and physics and pushes of the episodes that begin from now on."""
        for name, span in self.ranges(progress).items():
            environment.redraw(name, span)
