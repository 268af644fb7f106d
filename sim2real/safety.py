"""The supervisor: the last word on every command before it leaves for the robot.

Whatever comes in, a policy's output or a robot's readings, `Supervisor.check` returns a command within the
limits and never raises.  Small excess is limited; any doubt about the robot, the data, the timing or the
policy ends in damping, which stays until a person clears it, and that only once the cause is gone.

Doubts, by the code that their text starts with:

| code | cause |
|---|---|
| `no_data` | no usable reading has arrived yet |
| `stale` | no newer reading for `stale_s`, or the robot's counter is frozen |
| `order` | a reading older than the last one, or a counter that runs backward |
| `clock` | time runs backward, a stamp lies in the future, or is not a number |
| `reading` | a number that is not finite, a wrong shape, an impossible quaternion or joint position |
| `tilt` | the base leans more than `tilt_rad` |
| `overspeed` | a joint is faster than its limit |
| `temperature` | a motor is hotter than its limit |
| `battery` | the state of charge is below its limit |
| `policy` | the proposed command is missing, has a wrong shape or is not finite |
| `deadline` | more than `deadline_misses` missed in a row, or a pause longer than `stale_s` |
| `publisher` | somebody else can write commands to the robot |
| `link` | the link or its guard latched damping by itself |
| `stop` | a person stopped the robot |
| `internal` | an error in the supervisor itself |
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sim2real.limits import SafetyLimits, as_command, command_violation, limit_command
from sim2real.links.link import Command, FloatArray, Reading

__all__ = ["ClearRefused", "Command", "Decision", "Reading", "SafetyLimits", "Supervisor"]

TICK_MODULUS = 1 << 32
_CLOCK_SLACK_S = 1e-3
_UNIT_SLACK = 0.05
"""Largest deviation of a quaternion's or gravity vector's length from 1."""


class ClearRefused(RuntimeError):
    """Damping cannot be cleared yet; the text names what still speaks against it."""


@dataclass(frozen=True)
class Decision:
    """What leaves for the robot, and why."""

    command: Command
    """Within the limits, arrays of its own."""
    state: Literal["pass", "limited", "damping"]
    """`pass`: as proposed; `limited`: brought inside; `damping`: latched."""
    reasons: tuple[str, ...] = ()
    """`code: text` each.  For `damping`, everything that latched it since the last clear, oldest first."""


class Supervisor:
    """Checks every command of one robot.  Call `check` and `clear` from the control loop's thread."""

    def __init__(self, limits: SafetyLimits) -> None:
        self.limits = limits
        self._joints = len(limits.joint_names)
        self._latched: dict[str, str] = {}  # code -> text of its first occurrence
        self._present: tuple[str, ...] = ("no_data: nothing has been checked yet",)
        self._stops: deque[str] = deque()  # appended by any thread
        self._now_s: float | None = None
        self._sane = False  # whether a usable reading has ever arrived
        self._position = np.zeros(self._joints)  # copies from the last usable reading
        self._velocity = np.zeros(self._joints)
        self._reading_doubts: list[str] = []  # about the last reading; they hold until the next
        self._tick: int | None = None
        self._stamp_s = -math.inf
        self._advanced_s = -math.inf  # arrival of the last reading whose tick was new
        self._misses = 0
        self._overspeed = 0
        self._target = np.clip(np.zeros(self._joints), limits.arrays.lower, limits.arrays.upper)

    @property
    def latched(self) -> tuple[str, ...]:
        """Why the robot is damped, oldest first; empty if it is not."""
        return tuple(self._latched.values())

    @property
    def present(self) -> tuple[str, ...]:
        """The doubts that the last check found: what `clear` is refused for."""
        return self._present

    def stop(self, source: str) -> None:
        """Emergency stop, from any thread; `source` says who asked (keyboard, gamepad, a signal)."""
        self._stops.append(source)

    def clear(self, by: str) -> None:
        """Release damping.  `by` names the person who looked at the robot.

        Raises ValueError if nobody is named, ClearRefused while the last check still found a doubt.
        """
        if not by.strip():
            raise ValueError("clear(by='...') needs the name of the person who clears")
        if self._stops or self._present:
            raise ClearRefused(
                "damping stays: " + "; ".join(self._present or ("stop: just asked for",)) + ". Remove the cause first"
            )
        self._latched.clear()

    def check(
        self,
        reading: Reading | None,
        proposed: Command | None,
        now_s: float,
        *,
        deadline_missed: bool = False,
        foreign_publishers: Sequence[str] = (),
        link_doubts: Sequence[str] = (),
    ) -> Decision:
        """Decide what is sent now.

        `reading` is the newest one, or None if nothing new arrived; `proposed` is what the policy wants, or
        None while damping holds anyway; `now_s` is `time.monotonic()`.  `deadline_missed` says that this tick
        is late; the two sequences are the link's `foreign_publishers()` and `doubts()`.  Never raises.
        """
        try:
            with np.errstate(all="ignore"):
                return self._check(reading, proposed, now_s, deadline_missed, foreign_publishers, link_doubts)
        except Exception as error:  # whatever it is, the robot must be damped, not left alone
            return self._damp([f"internal: {type(error).__name__}: {error}"])

    def _check(
        self,
        reading: Reading | None,
        proposed: Command | None,
        now_s: float,
        deadline_missed: bool,
        foreign_publishers: Sequence[str],
        link_doubts: Sequence[str],
    ) -> Decision:
        doubts: list[str] = []
        while self._stops:
            doubts.append(f"stop: by {self._stops.popleft()}")
        elapsed_s = self._advance_clock(now_s, deadline_missed, doubts)
        if reading is not None:
            self._take(reading, now_s, doubts)
        doubts += self._reading_doubts
        self._doubt_age(now_s, doubts)
        doubts += [f"publisher: {name} can write commands, too" for name in foreign_publishers]
        doubts += [f"link: {text}" for text in link_doubts]

        if proposed is None and self._latched:
            return self._damp(doubts)
        try:
            command = as_command(proposed, self._joints)
        except ValueError as error:
            return self._damp([*doubts, f"policy: {error}"])
        if not np.isfinite(np.concatenate([*vars(command).values()])).all():
            doubts.append("policy: the proposed command is not finite")
        if doubts or self._latched:
            return self._damp(doubts)

        step_s = min(elapsed_s, self.limits.control_dt_s)
        command, changes = limit_command(self.limits, command, self._position, self._velocity, self._target, step_s)
        outside = command_violation(self.limits, command, self._target)
        if outside is not None:
            return self._damp([f"internal: {outside}"])
        self._present = ()
        self._target = command.joint_target.copy()
        return Decision(command, "limited" if changes else "pass", changes)

    def _damp(self, doubts: list[str]) -> Decision:
        """Latch `doubts` and damp.  Uses only what has been checked before, so it cannot fail."""
        for doubt in doubts:
            self._latched.setdefault(doubt.split(":", 1)[0], doubt)
        self._present = tuple(doubts)
        if self._sane:
            self._target = np.clip(self._position, self.limits.arrays.lower, self.limits.arrays.upper)
        return Decision(Command.damping(self._target, self.limits.damping_kd), "damping", self.latched)

    def _advance_clock(self, now_s: float, deadline_missed: bool, doubts: list[str]) -> float:
        """Seconds since the last check, at least 0; doubts a clock that jumps."""
        if not math.isfinite(now_s):
            doubts.append(f"clock: now is {now_s}")
            return 0.0
        before_s, self._now_s = self._now_s, now_s
        self._misses = self._misses + 1 if deadline_missed else 0
        if self._misses > self.limits.deadline_misses:
            doubts.append(f"deadline: {self._misses} missed in a row (allowed {self.limits.deadline_misses})")
        if before_s is None:
            return self.limits.control_dt_s
        if now_s < before_s:
            doubts.append(f"clock: ran backward by {before_s - now_s:.3f} s")
            # Ages would be wrong against the old time base: start again from what arrives next.
            self._stamp_s = self._advanced_s = -math.inf
            return 0.0
        if now_s - before_s > self.limits.stale_s:
            doubts.append(f"deadline: {now_s - before_s:.3f} s since the last check (limit {self.limits.stale_s} s)")
        return now_s - before_s

    def _take(self, reading: Reading, now_s: float, doubts: list[str]) -> None:
        """Judge a reading; keep it if it is sane and in order."""
        stamp_s = float(reading.stamp_s)
        if not math.isfinite(stamp_s):
            doubts.append(f"clock: a reading is stamped {stamp_s}")
            return
        if stamp_s > now_s + _CLOCK_SLACK_S:
            doubts.append(f"clock: a reading is stamped {stamp_s - now_s:.3f} s in the future")
            return
        tick = int(reading.tick) % TICK_MODULUS
        if self._tick is not None and (tick, stamp_s) == (self._tick, self._stamp_s):
            return  # the same reading once more: its age counts, not its content
        if self._tick is not None:
            ahead = (tick - self._tick) % TICK_MODULUS
            if ahead >= TICK_MODULUS // 2:
                doubts.append(f"order: the robot's counter went from {self._tick} to {tick}")
            if stamp_s < self._stamp_s:
                doubts.append(f"order: a reading arrived {self._stamp_s - stamp_s:.3f} s before the last one")
        malformed = _malformed(reading, self._joints)
        if malformed:
            self._reading_doubts = [f"reading: {malformed}"]
        else:
            self._position = np.array(reading.joint_position, np.float64)
            self._velocity = np.array(reading.joint_velocity, np.float64)
            if not self._sane:  # the first target may move away from where the joints are
                self._target = np.clip(self._position, self.limits.arrays.lower, self.limits.arrays.upper)
            self._sane = True
            self._reading_doubts = self._doubts_about(reading)
            if tick != self._tick:
                # Also after an `order` doubt: a robot that restarted counts from 0, and a person may clear
                # that.
                self._advanced_s = stamp_s
        self._tick, self._stamp_s = tick, stamp_s

    def _doubt_age(self, now_s: float, doubts: list[str]) -> None:
        age_s = now_s - self._advanced_s
        if not self._sane:
            doubts.append("no_data: no usable reading has arrived")
        elif not age_s <= self.limits.stale_s:
            doubts.append(f"stale: no new reading for {age_s:.3f} s (limit {self.limits.stale_s} s)")

    def _doubts_about(self, reading: Reading) -> list[str]:
        """Everything that speaks against acting on this well-formed, new reading."""
        limits, a = self.limits, self.limits.arrays
        doubts = []
        outside = np.maximum(a.lower - self._position, self._position - a.upper)
        if outside.max() > limits.position_margin_rad:
            name = limits.joint_names[int(outside.argmax())]
            doubts.append(f"reading: {name} measured {outside.max():.3f} rad outside its range")
        tilt_rad = _tilt(reading.quaternion, reading.gravity)
        if tilt_rad > limits.tilt_rad:
            doubts.append(f"tilt: {math.degrees(tilt_rad):.1f}° (limit {math.degrees(limits.tilt_rad):.1f}°)")
        speed = np.abs(self._velocity)
        self._overspeed = self._overspeed + 1 if (speed > a.velocity).any() else 0
        if self._overspeed > limits.overspeed_readings or (speed > 2.0 * a.velocity).any():
            worst = int((speed - a.velocity).argmax())
            doubts.append(
                f"overspeed: {limits.joint_names[worst]} at {speed[worst]:.1f} rad/s "
                f"(limit {a.velocity[worst]:.1f} rad/s)"
            )
        heat_c = reading.motor_temperature
        if heat_c is not None and heat_c.max() > limits.motor_temperature_max_c:
            doubts.append(
                f"temperature: {limits.joint_names[int(heat_c.argmax())]} at {heat_c.max():.0f} °C "
                f"(limit {limits.motor_temperature_max_c:.0f} °C)"
            )
        if reading.battery_soc is not None and reading.battery_soc < limits.battery_min_soc:
            doubts.append(f"battery: {reading.battery_soc:.0f} % (limit {limits.battery_min_soc:.0f} %)")
        buttons = limits.stop_buttons
        if reading.remote is not None and buttons and reading.remote.buttons.issuperset(buttons):
            doubts.append(f"stop: by the remote ({' + '.join(buttons)})")
        return doubts


def _malformed(reading: Reading, joints: int) -> str | None:
    """What makes a reading unusable as numbers, or None."""
    shapes: dict[str, tuple[int, ...]] = {
        "joint_position": (joints,),
        "joint_velocity": (joints,),
        "joint_torque": (joints,),
        "quaternion": (4,),
        "angular_velocity": (3,),
        "gravity": (3,),
    }
    optional: dict[str, tuple[int, ...]] = {
        "acceleration": (3,),
        "motor_temperature": (joints,),
        "battery_soc": (),
    }
    shapes |= {name: shape for name, shape in optional.items() if getattr(reading, name) is not None}
    values: dict[str, Any] = {name: getattr(reading, name) for name in shapes}
    for name, shape in shapes.items():
        if np.shape(values[name]) != shape:
            return f"{name} has shape {np.shape(values[name])}; valid is {shape}"
    arrays = {name: np.asarray(value) for name, value in values.items()}
    numeric = all(array.dtype.kind in "fiu" for array in arrays.values())
    # All in one look, because it is almost always good; which one is bad matters only then.
    if not numeric or not np.isfinite(np.concatenate([array.reshape(-1) for array in arrays.values()])).all():
        for name, array in arrays.items():
            if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
                return f"{name} is not finite: {values[name]}"
    for name in ("quaternion", "gravity"):
        length = _length(arrays[name])
        if not abs(length - 1.0) <= _UNIT_SLACK:
            return f"{name} has length {length:.3f}; valid is 1"
    return None


def _tilt(quaternion: FloatArray, gravity: FloatArray) -> float:
    """Angle [rad] between the base's z axis and the vertical: by orientation or by gravity, the larger."""
    _, x, y, _ = (quaternion / _length(quaternion)).tolist()
    up = min(1.0 - 2.0 * (x * x + y * y), -float(gravity[2]) / _length(gravity))
    return math.acos(min(1.0, max(-1.0, up)))


def _length(vector: FloatArray) -> float:
    return math.sqrt(float(vector @ vector))
