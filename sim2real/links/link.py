"""What the runtime, the supervisor and every robot connection agree on: Reading, Command and Link.

Arrays over joints are in *policy order*, the order of `Link.joint_names`.  A link maps its robot's motor
indices to that order by joint name, so that nothing above it ever sees an index of the robot's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class LinkError(RuntimeError):
    """The connection to a robot could not be made or was lost; the text says what to do."""


@dataclass(frozen=True)
class Remote:
    """State of the robot's own hand-held remote.

    Sticks are in [-1, 1]: `left_x`, `right_x` positive to the right, `left_y`, `right_y` positive forward.
    `buttons` holds the names of the buttons that are down.
    """

    left_x: float = 0.0
    left_y: float = 0.0
    right_x: float = 0.0
    right_y: float = 0.0
    buttons: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Reading:
    """One message from the robot, in SI units and policy joint order.  J is the number of joints."""

    stamp_s: float
    """Host time of arrival, `time.monotonic()` [s]."""
    tick: int
    """The robot's own counter, modulo 2**32; it must increase from message to message."""
    joint_position: FloatArray
    """(J,) [rad]."""
    joint_velocity: FloatArray
    """(J,) [rad/s]."""
    joint_torque: FloatArray
    """(J,) torque that the motors estimate [N·m]."""
    quaternion: FloatArray
    """(4,) w, x, y, z: orientation of the base in the world."""
    angular_velocity: FloatArray
    """(3,) [rad/s], base frame."""
    gravity: FloatArray
    """(3,) unit vector of gravity in the base frame: (0, 0, -1) when upright."""
    acceleration: FloatArray | None = None
    """(3,) accelerometer [m/s²], base frame; None if the robot has none."""
    motor_temperature: FloatArray | None = None
    """(J,) [°C]; None if the robot does not measure it."""
    battery_soc: float | None = None
    """State of charge [%]; None if the robot does not measure it."""
    battery_voltage_v: float | None = None
    """Battery voltage [V]; None if the robot does not measure it."""
    remote: Remote | None = None
    """The hand-held remote; None if the robot has none."""


@dataclass(frozen=True)
class Command:
    """What the motors are told.  Each motor applies, on the robot, at the robot's own rate [N·m]:

    torque = kp (joint_target - position) + kd (joint_velocity_target - velocity) + joint_torque
    """

    joint_target: FloatArray
    """(J,) [rad]."""
    joint_velocity_target: FloatArray
    """(J,) [rad/s]."""
    kp: FloatArray
    """(J,) [N·m/rad]."""
    kd: FloatArray
    """(J,) [N·m·s/rad]."""
    joint_torque: FloatArray
    """(J,) feed-forward torque [N·m]."""

    @classmethod
    def position(cls, joint_target: FloatArray, kp: FloatArray | float, kd: FloatArray | float) -> Command:
        """Hold `joint_target` (J,) [rad] with gains `kp`, `kd` ((J,) or one number for all joints)."""
        target = np.array(joint_target, dtype=np.float64)
        zero = np.zeros_like(target)
        return cls(
            target,
            zero,
            np.broadcast_to(np.asarray(kp, np.float64), target.shape).copy(),
            np.broadcast_to(np.asarray(kd, np.float64), target.shape).copy(),
            zero.copy(),
        )

    @classmethod
    def damping(cls, joint_position: FloatArray, kd: float) -> Command:
        """No stiffness, only `kd` [N·m·s/rad] against motion; the target (J,) is where the joints are."""
        return cls.position(joint_position, 0.0, kd)

    @classmethod
    def limp(cls, joint_position: FloatArray) -> Command:
        """No torque at all."""
        return cls.position(joint_position, 0.0, 0.0)


@dataclass
class LinkHealth:
    """Counters of what a link dropped or missed since it was opened, for the log."""

    received: int = 0
    """Messages that arrived."""
    damaged: int = 0
    """Messages dropped for a wrong checksum, length or encoding."""
    out_of_order: int = 0
    """Messages dropped because a newer one had arrived before."""
    lost: int = 0
    """Messages that never arrived, as far as the link can tell."""
    late_s: float = 0.0
    """How much later than the quickest one the newest message came [s], as far as the link can tell."""
    sent: int = 0
    """Commands sent."""
    notes: list[str] = field(default_factory=list)
    """What happened to the connection, one sentence each, oldest first."""


@runtime_checkable
class Link(Protocol):
    """One robot connection.  Implement these members in one file and the runtime can drive the robot.

    Nothing here may block longer than the timeouts that are passed in, except `open`.
    """

    health: LinkHealth

    @property
    def joint_names(self) -> Sequence[str]:
        """Joint names in policy order, as given to the constructor."""
        ...

    def open(self) -> None:
        """Connect and take the motors over from whatever drove them.  Raises LinkError."""
        ...

    def read(self, timeout_s: float = 0.0) -> Reading | None:
        """The newest reading that was not returned before, waiting up to `timeout_s`; None if there is none.

        Never raises for what the robot sent: damaged messages are counted in `health` and dropped.
        """
        ...

    def send(self, command: Command) -> None:
        """Send one command that the supervisor has passed.  Raises LinkError if it cannot leave."""
        ...

    def foreign_publishers(self) -> tuple[str, ...]:
        """Names of whoever else can write commands to this robot; empty is the only good answer."""
        ...

    def doubts(self) -> tuple[str, ...]:
        """Why the link itself damps the robot, whatever is sent (its guard latched); empty if it does not."""
        ...

    def clear(self, by: str) -> None:
        """Release whatever the link itself latched (a guard's damping).  Raises LinkError if it may not."""
        ...

    def close(self) -> None:
        """Leave the motors damped, then disconnect.  Safe to call twice."""
        ...
