"""The simulated robot's motors: the control law that runs in each, torque-speed curve, stiction and heat.

Arrays are (12,), in the order of the motors' indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim2real.links.unitree_wire import MOTOR_MODE_SERVO, NO_POSITION, NO_VELOCITY, Message
from sim2real.robot_physics import Array, RobotPhysics

STRIBECK_RAD_S = 0.1
"""Speed over which static friction gives way to sliding friction."""
AMBIENT_C = 25.0
HEATING_C_PER_S_NM2 = 0.002
"""Heating by the windings' loss: 10 N·m held for good ends 60 °C above ambient (assumed, not measured)."""
COOLING_S = 300.0
"""Time constant of cooling (assumed)."""


class Motors:
    """Twelve motors.  Between messages each keeps its law: kp (q* - q) + kd (dq* - dq) + tau, limited."""

    def __init__(self, physics: RobotPhysics) -> None:
        robot = physics.robot
        self._strength = physics.by_motor("motor_strength")
        self._kp_scale, self._kd_scale = physics.by_motor("kp"), physics.by_motor("kd")
        self._limit = physics.spec_by_motor(robot.torque_limit)
        self._stall = physics.spec_by_motor(robot.stall_torque)
        self._no_load = physics.spec_by_motor(robot.velocity_limit)
        self._stiction = physics.stiction
        self._kp, self._kd, self._feed_forward = np.zeros(12), np.zeros(12), np.zeros(12)
        self._target, self._velocity_target = np.zeros(12), np.zeros(12)
        self.temperature_c = np.full(12, AMBIENT_C + 5.0)
        self.ignored = 0
        """Motor commands ignored: motor not in servo mode, or a number that is not finite."""

    @property
    def stiff(self) -> bool:
        """Whether any motor holds a position."""
        return bool(self._kp.any())

    def obey(self, message: Message) -> None:
        """Take a LowCmd_ whose checksum has been checked.

        A motor out of servo mode, or asked for numbers that are not finite, keeps what it had.  "No position"
        and "no velocity" switch that part of its law off.
        """
        motors = message["motor_cmd"][:12]
        numbers = [motors[name].astype(np.float64) for name in ("q", "dq", "kp", "kd", "tau")]
        good = (motors["mode"] == MOTOR_MODE_SERVO) & np.isfinite(numbers).all(0)
        q, dq, kp, kd, tau = numbers
        no_position, no_velocity = np.abs(q) >= NO_POSITION, np.abs(dq) >= NO_VELOCITY
        new = (
            np.where(no_position, 0.0, q),
            np.where(no_velocity, 0.0, dq),
            np.where(no_position, 0.0, kp),
            np.where(no_velocity, 0.0, kd),
            tau,
        )
        if good.all():
            self._set(*new)
        else:
            self.ignored += int((~good).sum())
            old = (self._target, self._velocity_target, self._kp, self._kd, self._feed_forward)
            self._set(*(np.where(good, a, b) for a, b in zip(new, old, strict=True)))

    def hold(self, target: Array, kp: float, kd: float) -> None:
        """Hold `target` [rad] with these gains."""
        self._set(target.copy(), np.zeros(12), np.full(12, kp), np.full(12, kd), np.zeros(12))

    def damp(self, kd: float) -> None:
        """Only resist motion."""
        self.hold(np.zeros(12), 0.0, kd)

    def _set(self, target: Array, velocity_target: Array, kp: Array, kd: Array, feed_forward: Array) -> None:
        self._target, self._velocity_target, self._feed_forward = target, velocity_target, feed_forward
        self._kp, self._kd = kp * self._kp_scale, kd * self._kd_scale

    def torque(self, position: Array, velocity: Array) -> Array:
        """Torque at the joints [N·m] for what the encoders read [rad] and the joints' speed [rad/s].

        The straight falling part of the torque-speed curve is cut at the torque limit; beyond the no-load
        speed a motor brakes.
        """
        asked = self._kp * (self._target - position) + self._kd * (self._velocity_target - velocity)
        asked += self._feed_forward
        lost = self._stall * (velocity / self._no_load)
        upper = np.minimum(self._limit, self._stall - lost)
        lower = np.maximum(-self._limit, -self._stall - lost)
        torque: Array = np.minimum(np.maximum(asked, lower), upper) * self._strength
        return torque

    def estimate(self, torque: Array) -> Array:
        """What the motors report for `torque` [N·m]: they know their current, not their strength."""
        return torque / self._strength

    def friction(self, sliding: Array, velocity: Array) -> Array:
        """Stribeck's curve: dry friction [N·m] at `velocity` [rad/s] from its value when `sliding`."""
        excess = (self._stiction - 1.0) * np.exp(-np.square(velocity / STRIBECK_RAD_S))
        friction: Array = sliding * (1.0 + excess)
        return friction

    def heat(self, torque: Array, dt_s: float) -> None:
        """First-order heating by the square of the torque."""
        rate = HEATING_C_PER_S_NM2 * torque**2 - (self.temperature_c - AMBIENT_C) / COOLING_S
        self.temperature_c += rate * dt_s

    def temperature_bytes(self) -> NDArray[np.uint8]:
        """(12,) [°C] as on the wire."""
        return np.clip(np.rint(self.temperature_c), 0, 255).astype(np.uint8)


class Battery:
    """Eight cells in series; the voltage falls with the charge and sags under load (assumed figures)."""

    CELLS = 8
    CAPACITY_AH = 8.0
    RESISTANCE_OHM = 0.08
    ELECTRONICS_W = 35.0
    COPPER_W_PER_NM2 = 0.12
    """Loss in a motor's windings for each N·m squared."""

    def __init__(self, soc: float = 95.0) -> None:
        self.soc = soc
        """State of charge [%]."""
        self.current_a = 0.0
        self.voltage_v = self._open_circuit_v()

    def _open_circuit_v(self) -> float:
        cell = np.interp(self.soc, [0, 5, 20, 50, 80, 100], [3.0, 3.4, 3.62, 3.75, 3.95, 4.18])
        return float(cell) * self.CELLS

    def drain(self, torque: Array, velocity: Array, dt_s: float) -> None:
        """Draw what the motors and the electronics need for `dt_s`; braking does not charge."""
        power = np.maximum(torque * velocity, 0.0).sum() + self.COPPER_W_PER_NM2 * float(torque @ torque)
        open_circuit = self._open_circuit_v()
        self.current_a = float(power + self.ELECTRONICS_W) / max(self.voltage_v, 10.0)
        self.voltage_v = open_circuit - self.RESISTANCE_OHM * self.current_a
        self.soc = max(0.0, self.soc - 100.0 * self.current_a * dt_s / (3600.0 * self.CAPACITY_AH))
