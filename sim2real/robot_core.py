"""The simulated robot without its network: bytes of commands in, bytes of states out, one tick at a time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from configs.errors import UserError, unknown
from sim2real.links.link import Remote
from sim2real.links.unitree_wire import LOW_CMD, WireError, decode, encode
from sim2real.robot_body import Body
from sim2real.robot_channel import Channel, Faults
from sim2real.robot_motors import Battery, Motors
from sim2real.robot_physics import TICK_S, RobotPhysics
from sim2real.robot_sensors import Sensors
from sim2real.robot_service import MotionService
from sim2real.robot_truth import Truth

SILENCES = ("hold", "limp", "damp")
DAMPING_KD = 5.0
_SLOW_EVERY_TICKS = 10


@dataclass(frozen=True)
class SensorFault:
    """A reading that is wrong: `field` of the message's `part`, all of it or one element."""

    part: str
    field: str
    index: int | None
    value: float


SENSORS = {
    "joint_position": ("motor_state", "q"),
    "joint_velocity": ("motor_state", "dq"),
    "joint_torque": ("motor_state", "tau_est"),
    "quaternion": ("imu_state", "quaternion"),
    "gyroscope": ("imu_state", "gyroscope"),
    "accelerometer": ("imu_state", "accelerometer"),
}
"""Readings that can be made to fail: where each stands in the message."""


class SimulatedRobot:
    """One Go2.  Its clock is `time_s`, the number of its ticks times 2 ms."""

    def __init__(
        self,
        physics: RobotPhysics,
        *,
        start: str = "lying",
        on_silence: str = "hold",
        silence_s: float = 0.1,
        truth: Path | None = None,
    ) -> None:
        """`on_silence` says what the motors do `silence_s` after the last valid command: hold it, go limp or
        damp.  What a real Go2 does is unknown.  `truth` is the file of what truly happens."""
        if on_silence not in SILENCES:
            raise unknown("behavior on silence", on_silence, SILENCES)
        self.physics = physics
        self.motors = Motors(physics)
        self.battery = Battery()
        self.body = Body(physics, self.motors, start)
        self.service = MotionService(self.motors, self.body.start_pose)
        self.sensors = Sensors(physics, self.body, self.motors, self.battery, physics.seed)
        self.commands = Channel(physics.command_delay_s, physics.seed)
        self.states = Channel(0.0, physics.seed + 1)
        self.truth = Truth(truth, self.body, self.motors)
        self.counters: Counter[str] = Counter()
        """Commands `obeyed`, `damaged` (checksum, length), `while_service` (ignored: the service drives)."""
        self.sensor_faults: list[SensorFault] = []
        self.frozen = False
        """The state is sent again and again as it was."""
        self.muted = False
        """No state is sent."""
        self.ticks = 0
        self._on_silence, self._silence_s = on_silence, silence_s
        self._heard_s: float | None = None  # last valid command; None before the first and after silence
        self._last_command: bytes | None = None
        self._frozen_state: bytes = b""
        self._released_remote: tuple[float, Remote] | None = None  # when buttons come up, and the remote then
        self.truth.start(physics.record() | {"start": start, "on_silence": on_silence})

    @property
    def time_s(self) -> float:
        return self.ticks * TICK_S

    def tick(self, received: list[bytes]) -> list[bytes]:
        """One period: take the commands that have come, move, measure.  Returns the states that leave now."""
        now_s = self.time_s
        for data in received:
            self.commands.put(data, now_s)
        if self.service.tick(now_s):
            self.truth.event(now_s, "service released the motors")
        for data in self.commands.take(now_s):
            self._take_command(data, now_s)
        self._mind_silence(now_s)
        self.body.tick()
        self.ticks += 1
        if self.ticks % _SLOW_EVERY_TICKS == 0:
            self._slow()
        self.truth.tick(self.time_s)
        if not self.muted:
            self.states.put(self._state(), now_s)
        return self.states.take(now_s)

    def _take_command(self, data: bytes, now_s: float) -> None:
        if self.service.active:
            self.counters["while_service"] += 1
            return
        if data != self._last_command:
            try:
                message = decode(data, LOW_CMD)
            except WireError:
                self.counters["damaged"] += 1
                return
            self.motors.obey(message)
            self._last_command = data
        elif self._heard_s is None:  # after a silence the motors may no longer do what it says
            self.motors.obey(decode(data, LOW_CMD))
        self.counters["obeyed"] += 1
        self._heard_s = now_s

    def _mind_silence(self, now_s: float) -> None:
        if self._heard_s is None or now_s - self._heard_s <= self._silence_s:
            return
        self._heard_s = None
        self.truth.event(now_s, f"commands fell silent: {self._on_silence}")
        if self._on_silence == "limp":
            self.motors.damp(0.0)
        elif self._on_silence == "damp":
            self.motors.damp(DAMPING_KD)

    def _slow(self) -> None:
        dt_s = _SLOW_EVERY_TICKS * TICK_S
        self.motors.heat(self.body.torque, dt_s)
        self.battery.drain(self.body.torque, self.body.joint_velocity, dt_s)
        if self._released_remote is not None and self.time_s >= self._released_remote[0]:
            self.sensors.remote = self._released_remote[1]
            self._released_remote = None
        self.sensors.refresh_slow()

    def _state(self) -> bytes:
        if self.frozen and self._frozen_state:
            return self._frozen_state
        message = self.sensors.read()
        for fault in self.sensor_faults:
            values = message[fault.part]
            values = values[:12][fault.field] if fault.part == "motor_state" else values[fault.field]
            values[slice(None) if fault.index is None else fault.index] = fault.value
        self._frozen_state = encode(message)
        return self._frozen_state

    # What a person, or a test in the place of one, can do to the robot.

    def press(self, buttons: frozenset[str], seconds: float) -> None:
        """Hold buttons of the remote down for so long."""
        released = replace(self.sensors.remote, buttons=frozenset())
        self.sensors.remote = replace(released, buttons=buttons)
        self._released_remote = (self.time_s + seconds, released)
        self.sensors.refresh_slow()

    def steer(self, left_x: float, left_y: float, right_x: float, right_y: float) -> None:
        """Move the remote's sticks; they stay there."""
        self.sensors.remote = Remote(left_x, left_y, right_x, right_y, self.sensors.remote.buttons)
        if self._released_remote is not None:
            at_s, _ = self._released_remote
            self._released_remote = (at_s, replace(self.sensors.remote, buttons=frozenset()))
        self.sensors.refresh_slow()

    def set_temperature(self, celsius: float, motor: int | None) -> None:
        """Heat one motor, or all, to so many °C at once."""
        self.motors.temperature_c[slice(None) if motor is None else motor] = celsius
        self.sensors.refresh_slow()

    def set_battery(self, soc: float) -> None:
        """Set the state of charge [%].  Raises UserError outside 0..100."""
        if not 0.0 <= soc <= 100.0:
            raise UserError(f"battery {soc}: valid is a state of charge from 0 to 100 %")
        self.battery.soc = soc
        self.battery.drain(np.zeros(12), np.zeros(12), 0.0)
        self.sensors.refresh_slow()

    def clear_faults(self) -> None:
        """A good robot on a good network again."""
        self.sensor_faults, self.frozen, self.muted = [], False, False
        for channel in (self.commands, self.states):
            channel.faults = Faults()
