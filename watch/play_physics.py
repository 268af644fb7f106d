"""The physics that can be changed while a robot moves: friction, payload, action delay, motor strength.

Each is a randomization term (envs/randomization.py) that the viewer holds at one value. The other terms keep what
the episode drew. A change starts from the model's stored defaults, so nothing accumulates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from configs.errors import UserError, unknown
from envs.environment import Environment
from envs.randomization import TERMS

_ROW = np.array([0])


@dataclass(frozen=True)
class Knob:
    """A term as a slider shows it: `scale` times its value, from low to high."""

    term: str
    label: str
    low: float
    high: float
    step: float
    scale: float = 1.0
    hint: str = ""


def knobs(environment: Environment) -> tuple[Knob, ...]:
    """What can be changed about this robot: only robots with feet touch the ground."""
    model, robot = environment.sim.model, environment.robot
    base_kg = float(model.body(robot.base_body).mass[0])
    step_kg = 0.1 if base_kg > 2.0 else 0.05
    payload = (round(-0.5 * base_kg / step_kg) * step_kg, round(1.5 * base_kg / step_kg) * step_kg)
    friction = Knob("friction", "Friction", 0.05, 2.0, 0.05, hint="between the feet and the ground; ice is 0.1")
    return (
        *((friction,) if robot.feet else ()),
        Knob("base_mass", "Payload (kg)", round(payload[0], 3), round(payload[1], 3), step_kg,
             hint="added to the base"),
        Knob("action_delay", "Delay (ms)", 0.0, 60.0, 1.0, 1000.0, "from an action to its effect at the motors"),
        Knob("motor_strength", "Motors (%)", 20.0, 150.0, 1.0, 100.0, "of the torque that is asked for"),
    )  # fmt: skip


class LivePhysics:
    """Holds terms of one simulation (an environment of size 1) at chosen values."""

    def __init__(self, environment: Environment) -> None:
        if environment.num_envs != 1:
            raise UserError(f"physics is changed live in 1 simulation, not in {environment.num_envs}")
        self._environment = environment
        self.knobs = knobs(environment)
        self.held: dict[str, float] = {}
        """Terms that stay as they were set, in the term's unit, whatever an episode draws."""
        for knob in self.knobs:
            environment.randomizer.fields.use(TERMS[knob.term].fields)

    def value(self, term: str) -> float:
        """What is in force, in the term's unit: set here, drawn by the episode, or the model's own."""
        if term in self.held:
            return self.held[term]
        drawn = self._drawn()
        return float(np.mean(drawn[term])) if term in drawn else TERMS[term].neutral

    def hold(self, term: str, value: float) -> None:
        """Sets a term from now on. Raises UserError for one that cannot be set, or a value outside its bounds."""
        if term not in {knob.term for knob in self.knobs}:
            raise unknown("live physics term", term, [knob.term for knob in self.knobs])
        low, high = TERMS[term].bounds
        if not low <= value <= high:  # also refuses NaN
            raise UserError(f"{term} {value} is out of bounds; valid: {low} to {high} {TERMS[term].unit}".rstrip())
        self.held[term] = value
        self.apply()

    def release(self) -> None:
        """Back to what the episode drew."""
        self.held.clear()
        self.apply()

    def apply(self) -> None:
        """Writes what is in force into the simulation; needed after each reset, which draws anew."""
        fields, sim = self._environment.randomizer.fields, self._environment.sim
        fields.restore(_ROW)
        drawn = self._drawn()
        for name, term in TERMS.items():  # in the order in which a reset applies them
            if term.write is None or not (name in drawn or name in self.held):
                continue
            value = np.full(term.size(fields), self.held[name]) if name in self.held else drawn[name]
            term.write(fields, _ROW, value[None])
        sim.set_const(_ROW)

    def _drawn(self) -> dict[str, np.ndarray]:
        return self._environment.randomizer.describe(0, int(self._environment.episodes.episode[0]))
