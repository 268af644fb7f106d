"""Draws domain randomization and applies it at resets.

Draws are keyed by (seed, term, simulation, episode), so they depend on neither batch size nor order. Model fields
start from stored defaults at every draw: nothing accumulates.
"""

from typing import TYPE_CHECKING

import numpy as np

from configs.errors import UserError, unknown
from envs import draws
from envs.model_fields import Fields
from envs.randomization import TERMS, Ranges, Term, scalar_terms, validate

if TYPE_CHECKING:
    from envs.simulation import Simulation


class Randomizer:
    """Draws and applies a set of ranges to the simulations that are being reset."""

    def __init__(
        self, sim: "Simulation", ranges: Ranges, seed: int, shifts: Ranges | None = None, at_once: int = 0
    ) -> None:
        """shifts: ranges that replace those of `at_once` terms in each episode, drawn among them."""
        shifts = validate(shifts or {})
        # A term that is only ever shifted is neutral otherwise.
        self.ranges = {name: (TERMS[name].neutral,) * 2 for name in shifts} | validate(ranges)
        self._at_once, self._shift_key = at_once, draws.stream(seed, "shifts")
        self.fields = Fields(sim)
        has_ball = self.fields.ball is not None
        for name in self.ranges:
            if TERMS[name].of_ball and not has_ball:
                raise UserError(f"randomization {name}: there is no ball in this task; leave {name} out")
        self._sim = sim
        self._row_key = draws.stream(seed, "randomization")
        at_reset = [(name, term) for name, term in TERMS.items() if name in self.ranges and term.when == "reset"]
        self._at_reset: list[tuple[str, Term, slice]] = []
        elements: list[np.ndarray] = []
        low: list[float] = []
        span: list[float] = []
        for name, term in at_reset:
            self.fields.use(term.fields)
            size = term.size(self.fields)
            self._at_reset.append((name, term, slice(len(low), len(low) + size)))
            elements.append(draws.element_keys(name, size))
            low += [self.ranges[name][0]] * size
            span += [self.ranges[name][1] - self.ranges[name][0]] * size
            if term.write is None:
                self.fields.values[name] = np.full((sim.num_sims, size), term.neutral, dtype=np.float32)
        self._elements = np.concatenate(elements) if elements else np.zeros(0, dtype=np.uint64)
        self._low, self._span = np.array(low), np.array(span)
        self._parts = parts = {name: part for name, _, part in self._at_reset}
        self._shifts = [(parts[name], span[0], span[1] - span[0]) for name, span in shifts.items()]
        self.needs_constants = any(term.derived_constants for _, term in at_reset)

        known = scalar_terms(has_ball)
        scalars = {name: part.start for name, _, part in self._at_reset if name in known}
        self._scalar_columns = list(scalars.values())
        self._scalar_places = [known.index(name) for name in scalars]
        low_high = np.array([self.ranges[name] for name in scalars]).reshape(-1, 2)
        self._scalar_middle = low_high.mean(1)
        self._scalar_half = np.maximum(np.diff(low_high)[:, 0] / 2, 1e-9)
        self.scalars = np.zeros((sim.num_sims, len(known)), dtype=np.float32)
        """(N, scalar terms) each episode's draws, -1 to 1 across their range; 0 for terms that are not drawn."""
        self._fixed: dict[str, np.ndarray] = {}

    @property
    def values(self) -> dict[str, np.ndarray]:
        """(N, size) float32 draws of the reset terms that have no model field, by term."""
        return self.fields.values

    def reset(self, ids: np.ndarray, episode: np.ndarray) -> None:
        """New draws for simulations ids (K,), whose episode numbers are episode (K,)."""
        if not self._at_reset:
            return
        self.fields.restore(ids)
        drawn = self._drawn(ids, episode)
        for name, term, part in self._at_reset:
            if term.write is None:
                self.fields.values[name][ids] = drawn[:, part]
            elif name not in self._fixed:
                term.write(self.fields, ids, drawn[:, part])
            elif len(rows := np.flatnonzero(~np.isnan(self._fixed[name][ids]))):
                term.write(self.fields, ids[rows], drawn[rows, part])
        if self._scalar_columns:
            across = (drawn[:, self._scalar_columns] - self._scalar_middle) / self._scalar_half
            self.scalars[ids[:, None], self._scalar_places] = across
        if self.needs_constants:
            self._sim.set_const(ids)

    def fix(self, name: str, values: np.ndarray) -> None:
        """Gives each simulation a value of its own, (N,), instead of draws; every element of the term gets it.

        NaN leaves a simulation's model as it is. For terms of the ranges that are drawn at resets; takes effect there.
        """
        if name not in (known := [term for term, _, _ in self._at_reset]):
            raise unknown("term drawn at resets", name, known)
        self._fixed[name] = np.asarray(values, dtype=np.float64)

    def redraw(self, name: str, span: tuple[float, float]) -> None:
        """Draws a term from another range at resets from now on; critics go on seeing it across its first one."""
        part = self._parts[name]
        self._low[part], self._span[part] = span[0], span[1] - span[0]

    def describe(self, i: int, episode: int) -> dict[str, np.ndarray]:
        """(size,) what simulation i draws for an episode at its reset, by term, in each term's unit."""
        if not self._at_reset:
            return {}
        drawn = self._drawn(np.array([i]), np.array([episode]))[0]
        return {name: drawn[part] for name, _, part in self._at_reset}

    def _drawn(self, ids: np.ndarray, episode: np.ndarray) -> np.ndarray:
        """(K, elements of all reset terms)"""
        u = draws.uniform_elements(self._row_key, self._elements, ids, episode)
        drawn: np.ndarray = self._low + self._span * u
        if self._shifts:
            chosen = shifted(self._shift_key, len(self._shifts), self._at_once, ids, episode)
            for (part, low, span), rows in zip(self._shifts, chosen.T, strict=True):
                drawn[rows, part] = low + span * u[rows, part]
        for name, _, part in self._at_reset if self._fixed else ():
            if name in self._fixed:
                values = self._fixed[name][ids, None]
                drawn[:, part] = np.where(np.isnan(values), TERMS[name].neutral, values)
        return drawn


def shifted(key: np.uint64, terms: int, at_once: int, ids: np.ndarray, episode: np.ndarray) -> np.ndarray:
    """(K, terms) bool: which terms are shifted in these episodes, at_once of them in each."""
    order = draws.uniform(key, ids, episode, size=terms).argsort(1).argsort(1)
    chosen: np.ndarray = order < at_once
    return chosen
