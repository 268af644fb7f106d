"""A curriculum over physics: training begins on ranges of its own and moves to its real ones, linearly.

A phase may depend on the policy: while robots fall more often than it says, its ranges go back towards their start
(after the automatic domain randomization of OpenAI et al. 2019, which widens and narrows ranges as performance allows).
Where such phases stand is part of a checkpoint, so a resumed training continues as if nothing had happened.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from configs.errors import UserError, unknown
from envs import randomization
from envs.environment import Environment
from envs.randomization import TERMS, Ranges

NEUTRAL, NOISE = "neutral", "noise"
"""Where all of a training's own ranges may start: nothing is randomized yet, or only what sensors say is noisy."""
_FIXED = "push_interval"
"""The one term that stays as it is: pushes grow in strength."""
_SETTINGS = ("begin", "until", "start", "falls_per_minute")


@dataclass
class _Phase:
    """Terms that move together, between two shares of the training."""

    begin: float
    until: float
    most_falls: float | None
    """[1/min] while robots fall more often, the phase goes back; None: it never does."""
    start: Ranges
    reached: float = 0.0
    """Where a phase that may go back stands: the share of the training at which it would be, had it never done so."""

    def judge(self, share: float, falls_per_minute: float) -> None:
        """Goes on or back by a share of the training."""
        if self.most_falls is None:
            return
        if falls_per_minute > self.most_falls and self.reached >= self.begin:
            self.reached = max(self.begin, self.reached - share)
        else:
            self.reached = min(self.until, self.reached + share)

    def done(self, progress: float) -> float:
        """0 to 1: how much of the way lies behind them."""
        if self.most_falls is not None:
            progress = self.reached
        if progress >= self.until:
            return 1.0
        return (progress - self.begin) / (self.until - self.begin) if progress > self.begin else 0.0


class Curriculum:
    """Where the ranges of some terms stand, each from where it starts to the training's own."""

    def __init__(self, config: Mapping[str, Any] | None, ranges: Ranges) -> None:
        """config: None for no curriculum, one phase, or several, each with a name.

        A phase is {begin, until, start, falls_per_minute}: begin (0 where it is missing) and until are shares of the
        training; start is {term: [low, high]}, NEUTRAL or NOISE. Of the last two, terms that another phase names are
        excepted. Where falls_per_minute is given, a phase goes back while robots fall more often, and so it may end
        later than until says, or never.

        Raises UserError for a term that stays as it is or has two phases, or a share that makes no sense.
        """
        config = dict(config or {})
        if all(isinstance(phase, Mapping) for phase in config.values()):
            named = {f"curriculum.{name}": phase for name, phase in config.items()}
        else:
            named = {"curriculum": config}
        for name, phase in named.items():
            if extra := phase.keys() - set(_SETTINGS):
                raise unknown(f"{name} setting", min(extra), _SETTINGS)
        spoken_for = {term for p in named.values() if isinstance(p.get("start"), Mapping) for term in p["start"]}
        self._phases = {
            name: _Phase(*_shares(name, phase), _most_falls(name, phase),
                         _start(name, phase.get("start"), ranges, spoken_for))
            for name, phase in named.items()
        }  # fmt: skip
        terms = [term for phase in self._phases.values() for term in phase.start]
        if twice := {term for term in terms if terms.count(term) > 1}:
            raise UserError(f"curriculum term {min(twice)} has two phases; leave it in one")
        neutral = {name: (TERMS[name].neutral,) * 2 for name in terms}
        self.final: dict[str, tuple[float, float]] = neutral | dict(ranges)
        """The training's own ranges, with neutral ones for terms that only the curriculum draws."""

    def ranges(self, progress: float) -> dict[str, tuple[float, float]]:
        """The ranges of its terms at that share (0 to 1) of the training."""
        now = {}
        for phase in self._phases.values():
            done = phase.done(progress)
            for name, (low, high) in phase.start.items():
                last_low, last_high = self.final[name]
                moved = low + (last_low - low) * done, high + (last_high - high) * done
                now[name] = moved if done < 1.0 else self.final[name]
        return now

    def done(self, progress: float) -> dict[str, float]:
        """By phase, how much of its way (0 to 1) lies behind it at that share of the training."""
        return {
            name.removeprefix("curriculum."): phase.done(progress)
            for name, phase in self._phases.items()
            if phase.start
        }

    def judge(self, share: float, falls_per_minute: float) -> None:
        """Takes note of how often robots fell during a share of the training."""
        for phase in self._phases.values():
            phase.judge(share, falls_per_minute)

    @property
    def reached(self) -> dict[str, float]:
        """Where phases stand that may go back, as a share of the training: what a checkpoint keeps."""
        return {name: phase.reached for name, phase in self._phases.items() if phase.most_falls is not None}

    @reached.setter
    def reached(self, reached: Mapping[str, float]) -> None:
        for name, phase in self._phases.items():
            phase.reached = reached.get(name, 0.0)

    def apply(self, environment: Environment, progress: float) -> None:
        """Draws noise from where the ranges stand, and physics and pushes of the episodes that begin from now on."""
        for name, span in self.ranges(progress).items():
            environment.redraw(name, span)


def _shares(name: str, phase: Mapping[str, Any]) -> tuple[float, float]:
    """begin and until of a phase."""
    shares = []
    for key in ("begin", "until"):
        try:
            share = float(phase.get(key, 0.0))
        except (TypeError, ValueError):
            share = math.nan
        if not 0.0 <= share <= 1.0:
            raise UserError(f"{name}.{key}={phase[key]}; valid: 0 to 1, a share of the training")
        shares.append(share)
    begin, until = shares
    if until < begin:
        raise UserError(f"{name}.until={until:g} lies before its begin={begin:g}")
    return begin, until


def _most_falls(name: str, phase: Mapping[str, Any]) -> float | None:
    """[1/min] falls above which a phase goes back; None where it does not say."""
    given = phase.get("falls_per_minute")
    if given is None:
        return None
    try:
        most = float(given)
    except (TypeError, ValueError):
        most = math.nan
    if not most > 0.0:
        raise UserError(f"{name}.falls_per_minute={given}; valid: a number above 0")
    return most


def _start(name: str, start: Any, ranges: Ranges, spoken_for: set[str]) -> Ranges:
    """Where a phase's terms start."""
    if start in (NEUTRAL, NOISE):
        return {
            term: (TERMS[term].neutral,) * 2
            for term in ranges
            if term != _FIXED and term not in spoken_for and not (start == NOISE and TERMS[term].when == "step")
        }
    if start is not None and not isinstance(start, Mapping):
        raise UserError(f"{name}.start={start}; valid: {NEUTRAL}, {NOISE}, or {{term: [low, high]}}")
    valid = randomization.validate(start or {})
    if _FIXED in valid:
        raise unknown("curriculum term", _FIXED, [term for term in TERMS if term != _FIXED])
    for term in valid:
        if term.endswith("push_velocity") and term not in ranges:
            raise UserError(f"curriculum term {term}: nobody is pushed in this training; randomize it as well")
    return valid
