"""A script as a command source: goes through its steps and measures how each went."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from sim2real.commands import Action, Pose, Request, Situation, State
from sim2real.contract import CommandEntry
from sim2real.script import Step, StepResult

STEP_TIMEOUT_S = 20.0
"""A distance or angle may take three times as long as the command says, plus this for an action."""
_AFTER = {Action.STAND: State.READY, Action.RUN: State.RUNNING, Action.HOLD: State.READY}


class Script:
    """Runs steps one after the other and then quits; quits early when the robot is damped."""

    def __init__(self, steps: Sequence[Step], commands: Sequence[CommandEntry]) -> None:
        self._steps, self._entries = deque(steps), tuple(commands)
        self.results: list[StepResult] = []
        self._current: Step | None = None
        self._began_s = self._before_s = 0.0
        self._start: Pose | None = None
        self._heading: deque[float] = deque(maxlen=1)
        self._turned = 0.0
        self._reckoned_m = self._reckoned_rad = 0.0

    @property
    def ok(self) -> bool:
        """Whether every step was done."""
        return not self._steps and self._current is None and all(r.outcome == "done" for r in self.results)

    def poll(self, situation: Situation) -> Request:
        step, action = self._current, None
        if step is not None:
            self._advance(situation)
            outcome = self._outcome(step, situation)
            if outcome is not None:
                self._finish(step, outcome, situation)
                if outcome != "done":
                    self._steps.clear()
                step = None
        if step is None and self._steps:
            step = self._begin(self._steps.popleft(), situation)
            action = step.do
        elif step is None:
            action = Action.QUIT
        values = None if step is None else step.command
        zero = np.zeros(len(self._entries))
        return Request(action, zero if values is None else np.array(values), "script")

    def close(self) -> None:
        self._steps.clear()

    def _begin(self, step: Step, situation: Situation) -> Step:
        self._current = step
        self._began_s = self._before_s = situation.time_s
        self._start = situation.truth
        self._turned = self._reckoned_m = self._reckoned_rad = 0.0
        self._heading.clear()
        return step

    def _advance(self, situation: Situation) -> None:
        elapsed_s = situation.time_s - self._before_s
        self._before_s = situation.time_s
        command = self._current.command if self._current else None
        if command is not None and len(command) == 3 and situation.state is State.RUNNING:
            clipped = [min(max(v, e.low), e.high) for v, e in zip(command, self._entries, strict=True)]
            self._reckoned_m += math.hypot(*clipped[:2]) * elapsed_s
            self._reckoned_rad += clipped[2] * elapsed_s
        if situation.truth is not None:
            before = self._heading[0] if self._heading else situation.truth.heading
            self._turned += math.remainder(situation.truth.heading - before, math.tau)
            self._heading.append(situation.truth.heading)

    def _moved(self, situation: Situation, step: Step) -> tuple[float, float]:
        """[m] along the commanded direction and [rad] turned since the step began."""
        if self._start is None or situation.truth is None:
            return self._reckoned_m, self._reckoned_rad
        way = situation.truth.position_w - self._start.position_w
        forward, left = (*(step.command or ()), 1.0, 0.0)[:2] if step.command else (1.0, 0.0)
        direction = self._start.heading + math.atan2(left, forward)
        return float(way[0] * math.cos(direction) + way[1] * math.sin(direction)), self._turned

    def _outcome(self, step: Step, situation: Situation) -> str | None:
        elapsed_s = situation.time_s - self._began_s
        if situation.reasons:
            return "damped: " + "; ".join(situation.reasons)
        if step.do is not None:
            if situation.state is _AFTER.get(step.do, situation.state) and elapsed_s > 0.0:
                return "done"
            return "timeout" if elapsed_s > STEP_TIMEOUT_S else None
        if step.command is not None and situation.state is not State.RUNNING:
            return f"not running but {situation.state}"
        distance_m, angle_rad = self._moved(situation, step)
        if step.for_s is not None:
            return "done" if elapsed_s >= step.for_s - 1e-9 else None
        if step.distance_m is not None:
            done, expected_s = distance_m >= step.distance_m, step.distance_m / _speed(step)
        else:
            wanted = abs(step.angle_rad or 0.0)
            done, expected_s = abs(angle_rad) >= wanted, wanted / abs((step.command or (0, 0, 1))[2])
        if done:
            return "done"
        return "timeout" if elapsed_s > 3.0 * expected_s + 2.0 else None

    def _finish(self, step: Step, outcome: str, situation: Situation) -> None:
        distance_m, angle_rad = self._moved(situation, step)
        moves = step.command is not None and len(step.command) == 3
        known = self._start is not None and situation.truth is not None
        asked = str(step.do) if step.do else f"{list(step.command or ())}"
        for text, value in (("s", step.for_s), ("m", step.distance_m), ("rad", step.angle_rad)):
            asked += f" {value:.3g} {text}" if value is not None else ""
        self.results.append(
            StepResult(
                step.name,
                outcome,
                situation.time_s - self._began_s,
                asked,
                distance_m if moves else None,
                angle_rad if moves else None,
                "truth" if known else "dead reckoning",
            )
        )
        self._current = None


def _speed(step: Step) -> float:
    return max(math.hypot(*(step.command or (0.0, 0.0))[:2]), 1e-3)
