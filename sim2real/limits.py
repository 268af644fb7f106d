"""Safety limits, and the two pure functions on them: bring a command inside, and say why one is outside.

`limit_command` is what the supervisor uses; `command_violation` is what the guard checks again, without
readings.  Both take commands in the policy order of `SafetyLimits.joint_names`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from sim2real.links.link import Command, FloatArray

_ROUNDING = 1e-12
_ARRAYS = ("lower", "upper", "velocity", "torque", "target_rate", "kp_max", "kd_max")
"""Names of `_PER_JOINT` in `LimitArrays`."""
_CHANGES = ("gain", "velocity_target", "feed_forward", "position", "rate", "torque")
_QUANTITIES = ("joint_target", "joint_velocity_target", "kp", "kd", "joint_torque")
_KD = _QUANTITIES.index("kd")
WIRE_TOLERANCE = 1e-4
"""Relative and absolute slack of `command_violation`: a command loses digits as float32 on the wire."""

_PER_JOINT = (
    "position_lower_rad",
    "position_upper_rad",
    "velocity_rad_s",
    "torque_nm",
    "target_rate_rad_s",
    "kp_max",
    "kd_max",
)


@dataclass(frozen=True)
class SafetyLimits:
    """What must never be exceeded.  Tuples have one number a joint, in the order of `joint_names`.

    Raises ValueError, naming the field, for a wrong length, a number that is not finite, or an empty range.
    """

    joint_names: tuple[str, ...]
    """Joint names in policy order."""
    position_lower_rad: tuple[float, ...]
    """Lowest position target [rad]."""
    position_upper_rad: tuple[float, ...]
    """Highest position target [rad]."""
    velocity_rad_s: tuple[float, ...]
    """Highest speed, of the velocity target and of the measured joint [rad/s]."""
    torque_nm: tuple[float, ...]
    """Highest torque that a command may ask for at the moment it is sent [N·m]."""
    target_rate_rad_s: tuple[float, ...]
    """Fastest change of the position target [rad/s]."""
    kp_max: tuple[float, ...]
    """Highest stiffness [N·m/rad]."""
    kd_max: tuple[float, ...]
    """Highest damping of a joint that is being held [N·m·s/rad]."""
    control_dt_s: float
    """Period of the control loop [s]."""
    damping_kd: float = 5.0
    """Gain of the damping command [N·m·s/rad]; deployers use 3 to 8."""
    tilt_rad: float = 0.9
    """Largest angle between the base's z axis and the vertical [rad]; deployers use 45° to 57°."""
    stale_s: float = 0.1
    """Oldest reading that is acted on, and longest pause between two checks [s]."""
    deadline_misses: int = 2
    """Missed deadlines in a row that are forgiven."""
    overspeed_readings: int = 2
    """Readings in a row above `velocity_rad_s` that are forgiven as noise; above twice the limit, none is."""
    position_margin_rad: float = 0.3
    """How far outside its range a joint may be measured before the reading is doubted [rad]."""
    battery_min_soc: float = 10.0
    """Lowest state of charge [%]."""
    motor_temperature_max_c: float = 85.0
    """Highest motor temperature [°C]."""
    stop_buttons: tuple[str, ...] = ("L2", "B")
    """Buttons of the hand-held remote that, held together, stop the robot."""

    def __post_init__(self) -> None:
        count = len(self.joint_names)
        if count == 0 or len(set(self.joint_names)) != count:
            raise ValueError(f"joint_names {self.joint_names!r}: give every joint once, at least one")
        for name in _PER_JOINT:
            values = getattr(self, name)
            if len(values) != count:
                raise ValueError(f"{name} has {len(values)} numbers, but there are {count} joints")
            if not all(math.isfinite(value) for value in values):
                raise ValueError(f"{name} = {values}: every number must be finite")
            if not name.startswith("position") and min(values) < 0.0:
                raise ValueError(f"{name} = {values}: no number may be negative")
        empty = [
            joint
            for joint, low, high in zip(self.joint_names, self.position_lower_rad, self.position_upper_rad, strict=True)
            if low >= high
        ]
        if empty:
            raise ValueError(f"position_lower_rad must be below position_upper_rad; it is not for {empty}")
        for name in ("control_dt_s", "damping_kd", "tilt_rad", "stale_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} = {value}: must be a finite number above 0")
        for name in ("deadline_misses", "overspeed_readings", "position_margin_rad", "battery_min_soc"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"{name} = {getattr(self, name)}: must be finite and not negative")
        if not math.isfinite(self.motor_temperature_max_c):
            raise ValueError(f"motor_temperature_max_c = {self.motor_temperature_max_c}: must be finite")

    @cached_property
    def arrays(self) -> LimitArrays:
        """The per-joint numbers as read-only arrays, made once."""
        given = {name: _frozen(getattr(self, field)) for name, field in zip(_ARRAYS, _PER_JOINT, strict=True)}
        joints = len(self.joint_names)
        zero, one = _frozen((0.0,) * joints), _frozen((1.0,) * joints)
        speed, torque, slack = given["velocity"], given["torque"], WIRE_TOLERANCE
        low = np.array([given["lower"], -speed, zero, zero, -torque])
        high = np.array([given["upper"], speed, given["kp_max"], given["kd_max"], torque])
        soft_kd_max = np.maximum(given["kd_max"], self.damping_kd)
        derived = {
            "soft_kd_max": soft_kd_max,
            "floor": low - slack * (1.0 + np.abs(high)),
            "ceiling": high + slack * (1.0 + np.abs(high)),
            "soft_kd_ceiling": soft_kd_max + slack * (1.0 + soft_kd_max),
            "reach": given["target_rate"] * self.control_dt_s,
        }
        for array in derived.values():
            array.setflags(write=False)
        return LimitArrays(**given, zero=zero, one=one, **derived)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready content, the inverse of `from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SafetyLimits:
        """Limits from JSON content.  Raises ValueError on a missing, unknown or ill-typed field."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(content) - known)
        if unknown:
            raise ValueError(f"unknown safety limits {unknown}; valid are {sorted(known)}")
        fields_: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in content.items()}
        try:
            return cls(**fields_)
        except TypeError as error:
            raise ValueError(f"safety limits are incomplete or ill-typed: {error}") from error


@dataclass(frozen=True)
class LimitArrays:
    """`SafetyLimits`' per-joint numbers as read-only (J,) float64 arrays, same units."""

    lower: FloatArray
    upper: FloatArray
    velocity: FloatArray
    torque: FloatArray
    target_rate: FloatArray
    kp_max: FloatArray
    kd_max: FloatArray
    zero: FloatArray
    one: FloatArray
    soft_kd_max: FloatArray
    """Highest damping of a joint that is not held: damping_kd is allowed, too."""
    reach: FloatArray
    """[rad] farthest that a target moves in one control period."""
    floor: FloatArray
    """(5, J) what the fields of a `Command` must not be below, in their order, with `WIRE_TOLERANCE`."""
    ceiling: FloatArray
    """(5, J) what they must not be above; a soft joint's damping has `soft_kd_ceiling` instead."""
    soft_kd_ceiling: FloatArray


def _frozen(values: tuple[float, ...]) -> FloatArray:
    array = np.array(values, np.float64)
    array.setflags(write=False)
    return array


def _clip(value: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """`np.clip` at a quarter of its price; NaN stays NaN."""
    return np.minimum(np.maximum(value, low), high)


def as_command(proposed: Any, joints: int) -> Command:
    """A copy of `proposed` as float64.  Raises ValueError for a missing field, a wrong shape or non-numbers.

    Values may still be non-finite.
    """
    parts = []
    for field in fields(Command):
        value = getattr(proposed, field.name, None)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{field.name} is not an array of numbers: {error}") from error
        if array.shape != (joints,):
            raise ValueError(f"{field.name} has shape {array.shape}; valid is ({joints},)")
        parts.append(array)
    return Command(*parts)


def limit_command(
    limits: SafetyLimits,
    command: Command,
    joint_position: FloatArray,
    joint_velocity: FloatArray,
    previous_target: FloatArray,
    elapsed_s: float,
) -> tuple[Command, tuple[str, ...]]:
    """Bring a finite `command` inside the limits; returns it with what had to be changed.

    Position and velocity targets, gains and feed-forward torque are clamped.  The target moves away from
    `previous_target` (J,) by at most the rate limit times `elapsed_s`, and as far as that allows is put
    where the motor's torque kp (target - q) + kd (dq_target - dq) + torque stays within its limit; what is
    still missing is taken off both gains in equal proportion, so the torque limit always holds.

    A joint with kp = 0 has no use for a target: it is put where the joint is, so that a later stiff command
    starts from there.  Pure damping (kp, velocity target and torque all 0) only takes energy out and keeps
    its gain.
    """
    a = limits.arrays
    kp = _clip(command.kp, a.zero, a.kp_max)
    soft = kp == 0.0
    kd = _clip(command.kd, a.zero, np.where(soft, a.soft_kd_max, a.kd_max))
    velocity_target = _clip(command.joint_velocity_target, -a.velocity, a.velocity)
    feed_forward = _clip(command.joint_torque, -a.torque, a.torque)
    in_range = _clip(command.joint_target, a.lower, a.upper)

    # What is reachable: the previous target lies within the range, so this interval is never empty.
    start = _clip(previous_target, a.lower, a.upper)
    reach = a.target_rate * elapsed_s
    low = np.maximum(a.lower, start - reach)
    high = np.minimum(a.upper, start + reach)
    in_reach = _clip(in_range, low, high)

    viscous = kd * (velocity_target - joint_velocity) + feed_forward
    stiffness = np.where(soft, 1.0, kp)
    weakest = joint_position + (-a.torque - viscous) / stiffness
    strongest = joint_position + (a.torque - viscous) / stiffness
    target = _clip(_clip(in_reach, weakest, strongest), low, high)
    target = np.where(soft, _clip(joint_position, a.lower, a.upper), target)

    feedback = kp * (target - joint_position) + kd * (velocity_target - joint_velocity)
    torque = feedback + feed_forward
    pure_damping = soft & (velocity_target == 0.0) & (feed_forward == 0.0)
    excess = (np.abs(torque) > a.torque * (1.0 + _ROUNDING)) & ~pure_damping
    scale = a.one
    if excess.any():
        # |feed_forward| <= limit, so feedback has the sign of the excess and the ratio lies in [0, 1).
        allowed = np.copysign(a.torque, torque) - feed_forward
        scale = np.where(excess, _clip(allowed / np.where(excess, feedback, 1.0), a.zero, a.one), 1.0)

    limited = Command(target, velocity_target, kp * scale, kd * scale, feed_forward)
    changed = np.array(
        [
            (kp != command.kp) | (kd != command.kd),
            velocity_target != command.joint_velocity_target,
            feed_forward != command.joint_torque,
            ~soft & (in_range != command.joint_target),
            ~soft & (in_reach != in_range),
            (~soft & (target != in_reach)) | (scale < 1.0),
        ]
    )
    if not changed.any():
        return limited, ()
    names = np.array(limits.joint_names)
    reasons = tuple(
        f"{what}: limited for {', '.join(names[where])}"
        for what, where in zip(_CHANGES, changed, strict=True)
        if where.any()
    )
    return limited, reasons


def command_violation(
    limits: SafetyLimits, command: Command, previous_target: FloatArray | None = None, periods: int = 1
) -> str | None:
    """Why `command` is outside the limits, or None.  Needs no reading, so it says nothing about torque.

    The rate is checked for stiff joints against `previous_target` (J,), sent `periods` control periods
    before.
    """
    a = limits.arrays
    soft = command.kp == 0.0
    values = np.array(
        [command.joint_target, command.joint_velocity_target, command.kp, command.kd, command.joint_torque]
    )
    ceiling = a.ceiling
    if soft.any():
        ceiling = ceiling.copy()
        ceiling[_KD] = np.where(soft, a.soft_kd_ceiling, ceiling[_KD])
    inside = (values >= a.floor) & (values <= ceiling)  # false for NaN, too
    if not inside.all():
        at, joint = (int(index) for index in np.argwhere(~inside)[0])
        return _outside(limits, _QUANTITIES[at], joint, values[at, joint])
    if previous_target is not None:
        step = command.joint_target - previous_target
        reach = a.reach * max(1, periods)
        # A soft joint's target means nothing, so any step is within reach.
        near = soft | (np.abs(step) <= reach + WIRE_TOLERANCE * (1.0 + reach))
        if not near.all():
            joint = int(near.argmin())
            return _outside(limits, "step of joint_target", joint, step[joint])
    return None


def _outside(limits: SafetyLimits, what: str, joint: int, value: float) -> str:
    return f"{what} of {limits.joint_names[joint]} is {value:.6g}, outside its limits"
