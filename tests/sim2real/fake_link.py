"""A robot without physics for tests of the runtime: joints move towards their targets, in lock step or real time.

NumPy only: the test that forbids torch and mujoco drives it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sim2real.links.link import Command, LinkError, LinkHealth, Reading, Remote


class FakeClock:
    """Time that only `FakeLink` and tests move."""

    def __init__(self) -> None:
        self.time_s = 100.0

    def now_s(self) -> float:
        return self.time_s

    def wait_until(self, time_s: float) -> None:
        self.time_s = max(self.time_s, time_s)


class FakeLink:
    """Follows position targets with a lag; `spoil` may change each reading before it is returned."""

    def __init__(self, joint_names: tuple[str, ...], start: np.ndarray, lock_step: bool = True) -> None:
        self._joint_names, self.position = joint_names, np.array(start, np.float64)
        self.health = LinkHealth()
        if lock_step:
            self.clock = FakeClock()
        self.sent: list[Command] = []
        self.spoil: Callable[[Reading], Reading | None] = lambda reading: reading
        self.before_read: Callable[[int], None] = lambda tick: None
        self.send_error = ""
        self.stuck: int | None = None
        self.remote: Remote | None = None
        self.doubt = ""
        self.cleared_by: list[str] = []
        self.closed = 0
        self._tick = 0

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self._joint_names

    def open(self) -> None:
        self.health.notes.append("opened")

    def read(self, timeout_s: float = 0.0) -> Reading | None:
        self.before_read(self._tick)
        self._tick += 1
        reading = Reading(
            stamp_s=self.clock.now_s() if hasattr(self, "clock") else time.monotonic(),
            tick=self._tick,
            joint_position=self.position.copy(),
            joint_velocity=np.zeros_like(self.position),
            joint_torque=np.zeros_like(self.position),
            quaternion=np.array([1.0, 0.0, 0.0, 0.0]),
            angular_velocity=np.zeros(3),
            gravity=np.array([0.0, 0.0, -1.0]),
            battery_soc=80.0,
            remote=self.remote,
        )
        return self.spoil(reading)

    def send(self, command: Command) -> None:
        if self.send_error:
            self.doubt = self.send_error
            raise LinkError(self.send_error)
        self.sent.append(command)
        way = np.where(command.kp > 0.0, command.joint_target - self.position, 0.0)
        if self.stuck is not None:
            way[self.stuck] = 0.0
        self.position += 0.5 * way

    def foreign_publishers(self) -> tuple[str, ...]:
        return ()

    def doubts(self) -> tuple[str, ...]:
        return (self.doubt,) if self.doubt else ()

    def clear(self, by: str) -> None:
        if self.send_error:
            raise LinkError("it cannot be cleared")
        self.cleared_by.append(by)
        self.doubt = ""

    def close(self) -> None:
        self.closed += 1


def nan_gyro(reading: Reading) -> Reading:
    """A reading whose gyro says NaN."""
    return replace(reading, angular_velocity=np.array([0.0, np.nan, 0.0]))
