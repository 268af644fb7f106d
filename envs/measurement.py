"""MuJoCo's arrays to the part of State that the latest instant alone decides, packed in one tensor."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from envs.ground import Ground
from envs.kinematics import LegKinematics, cross, rotation_rows, to_base, to_world
from envs.robots.spec import RobotSpec
from envs.simulation import Simulation
from envs.state import State

CONTACT_FORCE_N = 1.0
"""A foot that carries more than this is on the ground."""


class Measurement:
    """Computes base, joint and foot quantities for K simulations at once.

    They are rows of one tensor (width, K), one simulation a column, so that what is computed on all simulations
    runs over contiguous memory and a simulation's column can be replaced in a single write when its episode
    restarts. `show` makes the fields of a State views of it.
    """

    def __init__(self, sim: Simulation, ground: Ground) -> None:
        robot, model = sim.robot, sim.model
        self._sim, self._ground = sim, ground
        self._legs = LegKinematics(model, robot) if robot.feet else None
        self._driven = torch.tensor(robot.driven_index)
        self._joint_qpos, self._joint_dofs = torch.tensor(sim.joint_qpos), torch.tensor(sim.joint_dofs)
        self._all_driven = robot.num_actions == robot.num_joints
        joints, actions, feet = robot.num_joints, robot.num_actions, len(robot.feet)
        # What the robot's sensors measure comes first, in one block.
        shapes: dict[str, tuple[int, ...]] = {
            "joint_position": (joints,), "joint_velocity": (joints,), "base_angular_velocity_b": (3,),
            "gravity_b": (3,), "joint_torque": (actions,), "joint_power": (actions,),
        }  # fmt: skip
        self._num_sensors = 2 * joints + 6
        if sim.floating:
            shapes |= {
                "base_position_w": (3,), "base_quaternion_w": (4,), "base_linear_velocity_w": (3,),
                "base_linear_velocity_b": (3,), "base_height": (),
            }  # fmt: skip
        if feet:
            shapes |= {
                "foot_position_b": (feet, 3), "foot_velocity_w": (feet, 3), "foot_height": (feet,),
                "foot_contact_force": (feet,), "foot_shear_force": (feet,),
            }  # fmt: skip
            self._foot_radius = float(model.geom(robot.feet[0]).size[0])
            self._find_sensors(model, robot)
        self.columns: dict[str, slice] = {}
        self._shapes = shapes
        start = 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            self.columns[name] = slice(start, start + size)
            start += size

    def _find_sensors(self, model: mujoco.MjModel, robot: RobotSpec) -> None:
        # The sensor gives the force that the foot exerts on the ground, world frame: z is minus the load.
        starts = [int(model.sensor(f"{foot}_force").adr[0]) for foot in robot.feet]
        self._force_at = [start + axis for start in starts for axis in (2, 0, 1)]
        self._sees_touch = f"{robot.base_body}_touch" in [model.sensor(i).name for i in range(model.nsensor)]
        if not self._sees_touch:
            return  # only feet can touch the ground
        self._legal_at = [int(model.sensor(f"{body}_touch").adr[0]) for body in robot.contact_bodies]
        self._touch_at = int(model.sensor(f"{robot.base_body}_touch").adr[0])

    def __call__(self, qpos: np.ndarray, qvel: np.ndarray, force: np.ndarray, sensors: np.ndarray) -> Tensor:
        """(width, K) float32 from qpos (K, nq), qvel (K, nv), actuator force (K, nu) and sensor data (K, ns)."""
        sim = self._sim
        q, v, torque = _columns(qpos), _columns(qvel), _columns(force)
        position, velocity = q[self._joint_qpos], v[self._joint_dofs]
        driven = velocity if self._all_driven else velocity[self._driven]
        motors = [torque, torque * driven]
        if not sim.floating:  # a base that stands still and upright
            level = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0])[:, None].expand(6, q.shape[1])
            return torch.cat([position, velocity, level, *motors])
        rows = rotation_rows(q[3:7])
        linear_w, angular = list(v[0:3]), list(v[3:6])
        height = q[2] - self._ground.height(q[0], q[1])
        gravity = torch.stack(rows[2]).neg_()
        parts = [position, velocity, v[3:6], gravity, *motors, q[:7], v[:3]]
        parts.append(torch.stack([*to_base(rows, linear_w), height]))
        if self._legs is not None:
            foot_p, foot_v = self._legs(position, velocity)
            spin = cross(angular, foot_p)
            moving = to_world(rows, [a + b for a, b in zip(foot_v, spin, strict=True)])
            x, y, z = to_world(rows, foot_p)
            sole = z + (q[2] - self._foot_radius)
            if self._ground.rough is not None:
                sole = sole - self._ground.height(x + q[0], y + q[1])
            feet_v = (moving[i] + linear_w[i] for i in range(3))
            ground = _columns(sensors[:, self._force_at])
            shear = torch.hypot(ground[1::3], ground[2::3])
            parts += [*foot_p, *feet_v, sole, -ground[0::3], shear]
        return torch.cat(parts)

    def fastest(self, packed: Tensor) -> np.ndarray:
        """(N,) greatest of each simulation's joint, angular and linear velocities [rad/s, m/s]."""
        joints = self.columns["joint_velocity"]
        speed = packed[joints.start : joints.stop + 3].abs().amax(0)  # the gyro's three follow the joints
        if "base_linear_velocity_w" in self.columns:
            speed = torch.maximum(speed, packed[self.columns["base_linear_velocity_w"]].abs().amax(0))
        result: np.ndarray = speed.numpy()
        return result

    def sensors(self, packed: Tensor) -> Tensor:
        """(N, 2 J + 6) what perfect sensors read: joint positions and velocities, gyro, direction of gravity."""
        return packed[: self._num_sensors].T

    def illegal_contact(self, sensors: np.ndarray) -> Tensor:
        """(K,) bool: something other than the parts that may is on the ground."""
        if self._legs is None or not self._sees_touch:
            return torch.zeros(len(sensors), dtype=torch.bool)
        return torch.from_numpy(sensors[:, self._touch_at] > sensors[:, self._legal_at].sum(1))

    def show(self, packed: Tensor, state: State) -> None:
        """Makes the state's fields views of packed (width, N)."""
        for (name, part), shape in zip(self.columns.items(), self._shapes.values(), strict=True):
            block = packed[part]
            if len(shape) == 2:  # stored by component: x of every foot, then y, then z
                setattr(state, name, block.view(shape[1], shape[0], -1).permute(2, 1, 0))
            else:
                setattr(state, name, block.T if shape else block[0])


def _columns(array: np.ndarray) -> Tensor:
    """(columns, K) float32: arithmetic on whole quantities then runs over contiguous memory."""
    # Rows lie far apart in the simulations' states: they are read in order first, and turned when small and close.
    return torch.from_numpy(array.astype(np.float32, order="C")).T.contiguous()
