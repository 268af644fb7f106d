"""Scripts: lists of steps, the built-in tour, and how they are read from YAML or JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import UserError, unknown
from sim2real.commands import Action
from sim2real.contract import CommandEntry


@dataclass(frozen=True)
class Step:
    """One step of a script: an action, or a command held for a time, distance or angle."""

    name: str
    do: Action | None = None
    command: tuple[float, ...] | None = None
    for_s: float | None = None
    distance_m: float | None = None
    """Along the commanded direction, from where the step began."""
    angle_rad: float | None = None

    FIELDS = ("name", "do", "command", "for_s", "distance_m", "angle_rad")


@dataclass(frozen=True)
class StepResult:
    """How one step of a script went."""

    name: str
    outcome: str
    """`done`, `timeout` or what the robot was damped for."""
    seconds: float
    asked: str
    """What was asked for."""
    distance_m: float | None
    """Moved along the commanded direction: true, or by dead reckoning; None for a step that goes nowhere."""
    angle_rad: float | None
    """Turned, likewise."""
    measured: str
    """`truth` or `dead reckoning`, for the two numbers."""


def tour(commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """The built-in tour: stand up, 1 m/s forward 5 m, turn, sideways, stop, damp.

    For a policy without a walking command: stand up, run for 10 s, damp.
    """
    begin = (Step("stand up", Action.STAND), Step("start the policy", Action.RUN))
    end = (Step("hold", Action.HOLD), Step("damp", Action.DAMP), Step("rest", for_s=2.0))
    if len(commands) != 3:
        return (*begin, Step("run", for_s=10.0), *end)
    return (
        *begin,
        Step("stand still", command=(0.0, 0.0, 0.0), for_s=1.0),
        Step("forward 5 m", command=(1.0, 0.0, 0.0), distance_m=5.0),
        Step("turn left 90°", command=(0.0, 0.0, 0.8), angle_rad=math.pi / 2),
        Step("left 1.5 m", command=(0.0, 0.4, 0.0), distance_m=1.5),
        Step("stop", command=(0.0, 0.0, 0.0), for_s=1.5),
        *end,
    )


def parse_script(content: Any, commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """Steps from a parsed YAML or JSON list of mappings.  Raises UserError naming the step and the fault."""
    if isinstance(content, dict):
        content = content.get("steps")
    if not isinstance(content, list) or not content:
        raise UserError("a script is a list of steps such as {command: [1, 0, 0], distance_m: 5}")
    steps = []
    for number, item in enumerate(content, 1):
        if isinstance(item, str):
            item = {"do": item}
        if not isinstance(item, dict):
            raise UserError(f"step {number} of the script is {item!r}; valid is a mapping or an action's name")
        for key in item:
            if key not in Step.FIELDS:
                raise unknown(f"key of step {number}", key, Step.FIELDS)
        do = item.get("do")
        if do is not None and do not in list(Action):
            raise unknown(f"action of step {number}", do, list(Action))
        values = item.get("command")
        try:
            command = None if values is None else tuple(float(v) for v in values)
            lengths = {
                key: float(item[key]) for key in ("for_s", "distance_m", "angle_rad") if item.get(key) is not None
            }
        except (TypeError, ValueError):
            raise UserError(f"step {number} of the script: {item!r} holds what is no number") from None
        if command is not None and len(command) != len(commands):
            raise UserError(
                f"step {number}: command has {len(command)} values; this policy takes {len(commands)}: "
                f"{', '.join(entry.name for entry in commands) or 'none'}"
            )
        if (do is None) == (not lengths) or len(lengths) > 1:
            raise UserError(
                f"step {number}: give either `do`, or one of for_s, distance_m and angle_rad with a command"
            )
        moving = math.hypot(*(command or (0.0,))[:2]) if "distance_m" in lengths else None
        if "angle_rad" in lengths:
            moving = abs(command[2]) if command is not None and len(command) == 3 else 0.0
        if moving == 0.0:
            raise UserError(f"step {number}: its command does not move the robot there")
        name = item.get("name") or (str(do) if do else f"step {number}")
        steps.append(Step(str(name), Action(do) if do else None, command, **lengths))
    return tuple(steps)


def load_script(choice: str, commands: Sequence[CommandEntry]) -> tuple[Step, ...]:
    """The built-in `tour`, or a YAML or JSON file of steps.  Raises UserError if it cannot be read."""
    if choice == "tour":
        return tour(commands)
    path = Path(choice)
    try:
        text = path.read_text()
    except OSError as error:
        raise UserError(f"script {choice!r}: {error.strerror}; valid: tour, or a YAML or JSON file") from error
    try:
        import yaml

        content = yaml.safe_load(text)
    except ImportError:
        import json

        try:
            content = json.loads(text)
        except ValueError as error:
            raise UserError(f"script {choice!r} is no JSON ({error}); for YAML install PyYAML") from error
    except yaml.YAMLError as error:
        raise UserError(f"script {choice!r}: {' '.join(str(error).split())}") from error
    return parse_script(content, commands)
