"""What a person, or a test, can do to the simulated robot, one line of text each: push it, break it, look.

`LINES` explains each; `python -m sim2real.robot_console` prints it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from configs.errors import UserError, unknown
from sim2real.links.unitree_commands import MOTOR_ORDER
from sim2real.links.unitree_remote import BUTTONS
from sim2real.robot_channel import Channel
from sim2real.robot_core import SENSORS, SensorFault, SimulatedRobot


def _number(text: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UserError(f"{text!r} is no number") from None
    if not low <= value <= high:
        raise UserError(f"{text}: valid is {low:g} to {high:g}")
    return value


def _motor(name: str) -> int:
    short = name.removesuffix("_joint")
    if short not in MOTOR_ORDER:
        raise unknown("joint", name, MOTOR_ORDER)
    return MOTOR_ORDER.index(short)


def _channels(robot: SimulatedRobot, ways: list[str]) -> list[Channel]:
    known = {"both": [robot.commands, robot.states], "commands": [robot.commands], "states": [robot.states]}
    way = ways[0] if ways else "both"
    if way not in known:
        raise unknown("way", way, known)
    return known[way]


def _press(robot: SimulatedRobot, buttons: str, seconds: str = "0.5") -> None:
    names = frozenset(buttons.split("+"))
    for name in sorted(names - set(BUTTONS)):
        raise unknown("button", name, BUTTONS)
    robot.press(names, _number(seconds, 0.0))


def _sticks(robot: SimulatedRobot, *values: str) -> None:
    left_x, left_y, right_x, right_y = (_number(value, -1.0, 1.0) for value in values)
    robot.steer(left_x, left_y, right_x, right_y)


def _push(robot: SimulatedRobot, forward: str, left: str) -> None:
    robot.body.push(_number(forward, -20.0, 20.0), _number(left, -20.0, 20.0))


def _battery(robot: SimulatedRobot, soc: str) -> None:
    robot.set_battery(_number(soc, 0.0, 100.0))


def _temperature(robot: SimulatedRobot, celsius: str, joint: str = "") -> None:
    robot.set_temperature(_number(celsius, 0.0, 250.0), _motor(joint) if joint else None)


def _fail(robot: SimulatedRobot, sensor: str, value: str, element: str = "") -> None:
    if sensor not in SENSORS:
        raise unknown("sensor", sensor, SENSORS)
    try:
        wrong = float(value)  # nan and inf are what this is for
    except ValueError:
        raise UserError(f"{value!r} is no number; nan and inf are valid, too") from None
    part, field = SENSORS[sensor]
    index = None
    if element:
        size = 4 if sensor == "quaternion" else 3
        index = _motor(element) if part == "motor_state" else int(_number(element, 0, size - 1))
    robot.sensor_faults.append(SensorFault(part, field, index, wrong))


def _share(fault: str) -> Callable[..., None]:
    def act(robot: SimulatedRobot, share: str, *ways: str) -> None:
        for channel in _channels(robot, list(ways)):
            setattr(channel.faults, fault, _number(share, 0.0, 1.0))

    return act


def _delay(robot: SimulatedRobot, seconds: str, *ways: str) -> None:
    for channel in _channels(robot, list(ways)):
        channel.faults.delay_s = _number(seconds, 0.0, 10.0)


def _freeze(robot: SimulatedRobot) -> None:
    robot.frozen = True


def _mute(robot: SimulatedRobot) -> None:
    robot.muted = True


def _jump(robot: SimulatedRobot, milliseconds: str) -> None:
    robot.sensors.tick += int(_number(milliseconds, -(2.0**31), 2.0**31))


def _lower(robot: SimulatedRobot, meters: str) -> None:
    if robot.body.rope is None:
        raise UserError("lower: the robot hangs from nothing; start it with --hang")
    robot.body.rope.lower(_number(meters, -2.0, 2.0))


def _clear(robot: SimulatedRobot) -> None:
    robot.clear_faults()


def _state(robot: SimulatedRobot) -> dict[str, Any]:
    return robot.truth.pose() | {
        "t_s": robot.time_s,
        "qpos": robot.body.data.qpos.tolist(),
        "standing": robot.truth.judge.standing,
        "events": robot.truth.events,
        "service_active": robot.service.active,
        "counters": dict(robot.counters) | {"motors_ignored": robot.motors.ignored},
        "battery_soc": robot.battery.soc,
    }


WAYS = "[commands|states|both]"
LINES: dict[str, tuple[str, str, Callable[..., dict[str, Any] | None]]] = {
    "press": ("BUTTON[+BUTTON] [SECONDS]", "hold buttons of the remote down, for 0.5 s", _press),
    "sticks": ("LEFT_X LEFT_Y RIGHT_X RIGHT_Y", "move the remote's sticks, each -1 to 1", _sticks),
    "push": ("FORWARD LEFT", "change the base's velocity at once [m/s]", _push),
    "battery": ("SOC", "set the state of charge [%]", _battery),
    "temperature": ("CELSIUS [JOINT]", "heat all motors or one", _temperature),
    "fail": (f"{'|'.join(SENSORS)} VALUE [JOINT|INDEX]", "make a sensor read VALUE, such as nan", _fail),
    "drop": (f"SHARE {WAYS}", "lose messages", _share("drop")),
    "delay": (f"SECONDS {WAYS}", "delay messages", _delay),
    "reorder": (f"SHARE {WAYS}", "let messages be overtaken", _share("reorder")),
    "corrupt": (f"SHARE {WAYS}", "flip bits in messages", _share("corrupt")),
    "freeze": ("", "send the same state again and again", _freeze),
    "mute": ("", "send no state", _mute),
    "jump": ("MILLISECONDS", "let the robot's tick jump", _jump),
    "clear": ("", "end all faults", _clear),
    "lower": ("METERS", "let the rope down, or pull it up if negative", _lower),
    "unhook": ("", "take the rope off", lambda robot: robot.body.unhook()),
    "state": ("", "tell how the robot truly is", _state),
}
"""Name -> (arguments, meaning, what it does)."""


def usage() -> str:
    """The lines that the console understands."""
    left = {name: f"{name} {arguments}".strip() for name, (arguments, _, _) in LINES.items()}
    return "\n".join(f"  {left[name]}\n      {meaning}" for name, (_, meaning, _) in LINES.items())


def do(robot: SimulatedRobot, line: str) -> str:
    """Obey one line; the answer is JSON: {"ok": true, ...} or {"error": "..."}."""
    words = line.split()
    if not words:
        return json.dumps({"error": f"empty line; valid: {', '.join(LINES)}"})
    try:
        if words[0] not in LINES:
            raise unknown("line", words[0], LINES)
        arguments, _, act = LINES[words[0]]
        try:
            content = act(robot, *words[1:]) or {}
        except (TypeError, ValueError) as error:
            raise UserError(f"write: {words[0]} {arguments}") from error
    except UserError as error:
        return json.dumps({"error": str(error)})
    if words[0] != "state":
        robot.truth.event(robot.time_s, f"console: {' '.join(words)}")
    return json.dumps({"ok": True} | content)
