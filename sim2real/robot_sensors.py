"""What the simulated robot measures, as a LowState_ message: IMU at its true place, encoders, feet, battery.

Errors come from the physics draw where it has them; else small ones stand that a healthy robot has.
"""

from __future__ import annotations

import math

import mujoco
import numpy as np

from sim2real.links.link import Remote
from sim2real.links.unitree_remote import encode_remote
from sim2real.links.unitree_wire import LOW_STATE, MOTOR_MODE_SERVO, Message
from sim2real.robot_body import Body
from sim2real.robot_motors import Battery, Motors
from sim2real.robot_physics import Array, RobotPhysics

HEALTHY_NOISE: dict[str, tuple[float, float]] = {
    "joint_position_noise": (-0.001, 0.001),  # [rad]
    "joint_velocity_noise": (-0.05, 0.05),  # [rad/s]
    "angular_velocity_noise": (-0.01, 0.01),  # [rad/s]
    "gravity_noise": (-0.003, 0.003),  # of a unit vector
}
"""Uniform errors, new in every message, of the terms that a draw does not have (assumed)."""
ACCELEROMETER_NOISE_M_S2 = 0.05
TICK_MS = 2


def quaternion_product(a: Array, b: Array) -> Array:
    """(4,) w, x, y, z: rotation b, then a."""
    w, x, y, z = a.tolist()
    p, q, r, s = b.tolist()
    return np.array(
        [
            w * p - x * q - y * r - z * s,
            w * q + x * p + y * s - z * r,
            w * r - x * s + y * p + z * q,
            w * s + x * r - y * q + z * p,
        ]
    )


def small_rotation(x: float, y: float) -> Array:
    """(4,) unit quaternion of a small turn about x and y [rad]."""
    half = np.array([1.0, 0.5 * x, 0.5 * y, 0.0])
    return half / math.sqrt(float(half @ half))


def roll_pitch_yaw(quaternion: Array) -> tuple[float, float, float]:
    """[rad] turns about x, y, z (z first) of a unit quaternion w, x, y, z."""
    w, x, y, z = quaternion.tolist()
    return (
        math.atan2(2.0 * (w * x + y * z), 1.0 - 2.0 * (x * x + y * y)),
        math.asin(min(1.0, max(-1.0, 2.0 * (w * y - x * z)))),
        math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)),
    )


class Sensors:
    """Fills LowState_ messages from body, motors, battery and remote."""

    def __init__(self, physics: RobotPhysics, body: Body, motors: Motors, battery: Battery, seed: int) -> None:
        self._body, self._motors, self._battery = body, motors, battery
        self._rng = np.random.default_rng([seed, 1])
        self._imu = body.model.site(physics.robot.imu_site).id
        self._gyro_bias = physics.vector("angular_velocity_bias")
        # A sensor turned by -by about x and bx about y sees gravity (0, 0, -1) as (bx, by, -1).  The bias's
        # third component cannot be had: what is reported is a rotation, so gravity stays a unit vector.
        tilt = physics.vector("gravity_bias")
        self._mount = small_rotation(-float(tilt[1]), float(tilt[0]))
        to_base = np.zeros(9)
        mujoco.mju_quat2Mat(to_base, self._mount)
        self._to_sensor = to_base.reshape(3, 3).T
        noise = [physics.values.get(name, np.array(pair)) for name, pair in HEALTHY_NOISE.items()]
        pairs = [*noise, np.array([-ACCELEROMETER_NOISE_M_S2, ACCELEROMETER_NOISE_M_S2])]
        sizes = (12, 12, 3, 2, 3)
        self._low = np.repeat([float(pair[0]) for pair in pairs], sizes)
        self._span = np.repeat([float(pair[1] - pair[0]) for pair in pairs], sizes)
        self._spatial = np.zeros(6)
        self.remote = Remote()
        self.tick = 0
        """[ms], modulo 2**32 in the message."""
        self._message = np.zeros((), LOW_STATE)
        self._message["head"] = (0xFE, 0xEF)
        self._message["level_flag"] = 0xFF
        self._imu_state = self._message["imu_state"]
        self._motor_state = self._message["motor_state"][:12]
        self._motor_state["mode"] = MOTOR_MODE_SERVO
        self.refresh_slow()

    def true_accelerometer(self) -> Array:
        """(3,) [m/s²] proper acceleration of the IMU in its own frame, at the last physics step."""
        model, data = self._body.model, self._body.data
        mujoco.mj_rnePostConstraint(model, data)
        mujoco.mj_objectAcceleration(model, data, mujoco.mjtObj.mjOBJ_SITE, self._imu, self._spatial, 1)
        return self._spatial[3:].copy()

    def read(self) -> Message:
        """The message of this tick: a view that the next call overwrites.  Advances the tick."""
        body, imu, motor = self._body, self._imu_state, self._motor_state
        error = self._low + self._span * self._rng.random(self._low.size)
        acceleration = body.joint_acceleration
        encoder, velocity = body.encoder, body.joint_velocity
        motor["q"], motor["q_raw"] = encoder + error[:12], encoder
        motor["dq"], motor["dq_raw"] = velocity + error[12:24], velocity
        motor["ddq"] = motor["ddq_raw"] = acceleration
        motor["tau_est"] = self._motors.estimate(body.torque)
        imu["gyroscope"] = self._to_sensor @ body.data.qvel[3:6] + self._gyro_bias + error[24:27]
        imu["accelerometer"] = self._to_sensor @ self.true_accelerometer() + error[29:32]
        wobble = small_rotation(-float(error[28]), float(error[27]))
        quaternion = quaternion_product(quaternion_product(body.data.qpos[3:7], self._mount), wobble)
        imu["quaternion"] = quaternion
        imu["rpy"] = roll_pitch_yaw(quaternion)
        self._message["foot_force"] = np.clip(body.foot_force_n, 0.0, 30000.0)
        self.tick += TICK_MS
        self._message["tick"] = self.tick % (1 << 32)
        return self._message

    def refresh_slow(self) -> None:
        """Take over what changes slowly: temperatures, battery, remote."""
        message, battery = self._message, self._battery
        self._motor_state["temperature"] = self._motors.temperature_bytes()
        self._imu_state["temperature"] = 45
        message["foot_force_est"] = message["foot_force"]
        bms = message["bms_state"]
        bms["soc"] = round(battery.soc)
        bms["current"] = round(-1000.0 * battery.current_a)  # the sign that means discharging is assumed
        bms["cell_vol"][: battery.CELLS] = round(1000.0 * battery.voltage_v / battery.CELLS)
        message["power_v"], message["power_a"] = battery.voltage_v, battery.current_a
        message["temperature_ntc1"] = message["temperature_ntc2"] = 40
        message["wireless_remote"] = encode_remote(self.remote)
