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


class Curriculum:
    """Where the ranges of some terms stand, from `start` at progress 0 to the training's own at progress `until`."""

    def __init__(self, config: Mapping[str, Any] | None, ranges: Ranges) -> None:
        """config: {until: share of the training, start: {term: [low, high]}}, or None for no curriculum.

        Raises UserError for a term that is not drawn at resets, or a share that makes no sense.
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
        self._start = randomization.validate(config.get("start") or {})
        for name in self._start:
            if TERMS[name].when != "reset":
                valid = [term for term in TERMS if TERMS[term].when == "reset"]
                raise unknown("curriculum term, drawn at resets", name, valid)
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
        """Draws the episodes that begin from now on from where the ranges stand."""
        for name, span in self.ranges(progress).items():
            environment.randomizer.redraw(name, span)
