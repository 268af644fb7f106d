"""The simulated robot's body in its world: MuJoCo stepped with the motors' torque, the rope, pushes."""

from __future__ import annotations

import math

import mujoco
import numpy as np
from numpy.typing import NDArray

from sim2real.links.unitree_commands import MOTOR_ORDER
from sim2real.robot_motors import Motors
from sim2real.robot_physics import TICK_S, Array, RobotPhysics

LYING_POSE = np.tile([0.0, 1.36, -2.65], 4)
"""(12,) [rad] joints of a Go2 that lies with its legs folded."""
STARTS = ("lying", "standing", "hanging")
_LYING_HEIGHT_M = 0.12
_HANGING_HEIGHT_M = 0.55


class Rope:
    """Holds the base from a gantry: pulls, never pushes."""

    ANCHOR_M = 1.6
    STIFFNESS = 3000.0
    DAMPING = 150.0
    AIR_DAMPING = 8.0
    """[N·s/m] and [N·m·s/rad] so that swinging and turning die out."""
    HOIST_M_S = 0.1
    EYE = np.array([0.0, 0.0, 0.06])
    """[m] where it is tied, base frame."""

    def __init__(self, eye_height_m: float, load_n: float) -> None:
        self.length_m = self.ANCHOR_M - eye_height_m - load_n / self.STIFFNESS
        self.target_m = self.length_m

    def lower(self, distance_m: float) -> None:
        """Let down (or, if negative, pull up) at the hoist's speed."""
        self.target_m = min(max(self.target_m + distance_m, 0.2), self.ANCHOR_M)

    def pull(self, model: mujoco.MjModel, data: mujoco.MjData, base: int, dt_s: float) -> None:
        """Write force and torque on the base for the next physics step."""
        step = self.HOIST_M_S * dt_s
        self.length_m += min(max(self.target_m - self.length_m, -step), step)
        rotation = data.xmat[base].reshape(3, 3)
        eye = data.xpos[base] + rotation @ self.EYE
        to_anchor = np.array([0.0, 0.0, self.ANCHOR_M]) - eye
        distance = float(np.sqrt(to_anchor @ to_anchor))
        direction = to_anchor / distance
        linear, angular = data.qvel[:3], rotation @ data.qvel[3:6]
        speed = float((linear + np.cross(angular, eye - data.xpos[base])) @ direction)
        tension = self.STIFFNESS * (distance - self.length_m) - self.DAMPING * speed
        force = direction * max(tension, 0.0) if distance > self.length_m else np.zeros(3)
        wrench = data.xfrc_applied[base]
        wrench[:3] = force - self.AIR_DAMPING * linear
        wrench[3:] = np.cross(eye - data.xipos[base], force) - 0.1 * self.AIR_DAMPING * angular


class Body:
    """The body's state and its physics.  Arrays over joints are (12,), by motor index."""

    def __init__(self, physics: RobotPhysics, motors: Motors, start: str) -> None:
        self.physics, self.motors = physics, motors
        self.model = physics.model
        self.data = mujoco.MjData(self.model)
        joints = [self.model.joint(f"{name}_joint") for name in MOTOR_ORDER]
        self._qpos = np.array([int(joint.qposadr[0]) for joint in joints])
        self._dofs = np.array([int(joint.dofadr[0]) for joint in joints])
        self._sliding = self.model.dof_frictionloss[self._dofs].copy()
        self._encoder_offset = physics.by_motor("motor_offset")
        self.base = self.model.body(physics.robot.base_body).id
        robot = physics.robot
        sensor_at = [int(self.model.sensor(f"{foot}_force").adr[0]) for foot in robot.feet]
        self._foot_at = np.array(sensor_at) + 2  # the force's z component
        self._legal_at = np.array([int(self.model.sensor(f"{b}_touch").adr[0]) for b in robot.contact_bodies])
        self._touch_at = int(self.model.sensor(f"{robot.base_body}_touch").adr[0])
        self._substeps = physics.substeps  # asking MuJoCo for its options costs 25 µs
        self.torque = np.zeros(12)
        """[N·m] at the joints in the last physics step."""
        self.rope: Rope | None = None
        self._place(start)

    def _place(self, start: str) -> None:
        home = self.physics.spec_by_motor(self.physics.robot.home_joint_position)
        self.start_pose: Array = LYING_POSE if start == "lying" else home
        heights = {"lying": _LYING_HEIGHT_M, "hanging": _HANGING_HEIGHT_M}
        height = heights.get(start, self.physics.robot.home_base_height_m + 0.01)
        self.data.qpos[self._qpos] = self.start_pose
        self.data.qpos[:3] = (0.0, 0.0, height)
        if start == "hanging":
            weight = float(self.model.body_mass.sum()) * float(np.abs(self.model.opt.gravity[2]))
            self.rope = Rope(height + float(Rope.EYE[2]), weight)
        mujoco.mj_forward(self.model, self.data)

    @property
    def joint_position(self) -> Array:
        """True joint positions [rad], a copy."""
        return self.data.qpos[self._qpos]

    @property
    def joint_velocity(self) -> Array:
        """[rad/s], a copy."""
        return self.data.qvel[self._dofs]

    @property
    def joint_acceleration(self) -> Array:
        """[rad/s²] in the last physics step, a copy."""
        return self.data.qacc[self._dofs]

    @property
    def encoder(self) -> Array:
        """What the encoders read [rad]: the true position with their zero's error."""
        return self.data.qpos[self._qpos] + self._encoder_offset

    @property
    def foot_force_n(self) -> NDArray[np.float64]:
        """(4,) load on each foot (FR, FL, RR, RL), before the last physics step's motion."""
        return -self.data.sensordata[self._foot_at]

    @property
    def illegal_contact(self) -> bool:
        """Whether anything but feet and calves touches the ground."""
        sensors = self.data.sensordata
        return bool(sensors[self._touch_at] > sensors[self._legal_at].sum())

    @property
    def tilt_rad(self) -> float:
        """Angle between the base's z axis and the vertical."""
        x, y = self.data.qpos[4], self.data.qpos[5]
        return math.acos(min(1.0, max(-1.0, 1.0 - 2.0 * (x * x + y * y))))

    def tick(self) -> None:
        """One period of the robot, `TICK_S`: the motors' law runs in every physics step."""
        model, data, motors = self.model, self.data, self.motors
        for _ in range(self._substeps):
            velocity = data.qvel[self._dofs]
            self.torque = motors.torque(self.encoder, velocity)
            data.qfrc_applied[self._dofs] = self.torque
            model.dof_frictionloss[self._dofs] = motors.friction(self._sliding, velocity)
            if self.rope is not None:
                self.rope.pull(model, data, self.base, TICK_S / self._substeps)
            mujoco.mj_step(model, data)

    def push(self, forward_m_s: float, left_m_s: float) -> None:
        """Change the base's horizontal velocity at once, along its heading."""
        w, x, y, z = self.data.qpos[3:7]
        heading = math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        c, s = math.cos(heading), math.sin(heading)
        self.data.qvel[:2] += (c * forward_m_s - s * left_m_s, s * forward_m_s + c * left_m_s)

    def unhook(self) -> None:
        """Take the rope off."""
        self.rope = None
        self.data.xfrc_applied[self.base] = 0.0

    def diverged(self) -> bool:
        """Whether MuJoCo has warned about the simulation; it resets itself, so NaN would not be seen."""
        return any(warning.number for warning in self.data.warning)
