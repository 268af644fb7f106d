"""MuJoCo's arrays to the part of State that the latest instant alone decides, packed in one tensor."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from envs.ground import Ground
from envs.kinematics import LegKinematics, add_cross, rotation_matrices, to_base, to_world
from envs.robots.spec import RobotSpec
from envs.simulation import Simulation
from envs.state import State

CONTACT_FORCE_N = 1.0
"""A foot that carries more than this is on the ground."""
_BALL = ("ball_position_b", "ball_linear_velocity_b", "ball_angular_velocity_b")


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
            self._foot_radius = np.float32(model.geom(robot.feet[0]).size[0])
            self._find_sensors(model, robot)
        if sim.ball_qpos is not None:
            shapes |= {name: (3,) for name in _BALL}
        self.columns: dict[str, slice] = {}
        self._shapes = shapes
        start = 0
        for name, shape in shapes.items():
            size = int(np.prod(shape))
            self.columns[name] = slice(start, start + size)
            start += size
        self._width = start

    def _find_sensors(self, model: mujoco.MjModel, robot: RobotSpec) -> None:
        # The sensor gives the force that the foot exerts on the ground, world frame: z is minus the load.
        starts = [int(model.sensor(f"{foot}_force").adr[0]) for foot in robot.feet]
        self._force_at = [start + axis for start in starts for axis in (2, 0, 1)]
        self._sees_touch = f"{robot.base_body}_touch" in [model.sensor(i).name for i in range(model.nsensor)]
        if not self._sees_touch:
            return  # only feet can touch the ground
        legal = list(robot.contact_bodies)
        if self._sim.ball_qpos is not None:
            legal += [model.body(model.body(body).parentid[0]).name for body in legal]
        self._legal_at = [int(model.sensor(f"{body}_touch").adr[0]) for body in legal]
        self._touch_at = int(model.sensor(f"{robot.base_body}_touch").adr[0])
        self._down_at = int(model.sensor("down_touch").adr[0]) if self._sim.ball_qpos is not None else None

    def __call__(self, qpos: np.ndarray, qvel: np.ndarray, force: np.ndarray, sensors: np.ndarray) -> Tensor:
        """(width, K) float32 from qpos (K, nq), qvel (K, nv), actuator force (K, nu) and sensor data (K, ns)."""
        sim, robot = self._sim, self._sim.robot
        q, v = _columns(qpos), _columns(qvel)
        packed = np.empty((self._width, len(qpos)), dtype=np.float32)
        part = {name: packed[columns] for name, columns in self.columns.items()}
        position, velocity, torque = part["joint_position"], part["joint_velocity"], part["joint_torque"]
        position[:], velocity[:], torque[:] = q[sim.joint_qpos], v[sim.joint_dofs], _columns(force)
        driven = velocity if robot.num_actions == robot.num_joints else velocity[robot.driven_index]
        np.multiply(torque, driven, out=part["joint_power"])
        if not sim.floating:  # a base that stands still and upright
            part["base_angular_velocity_b"][:] = 0.0
            part["gravity_b"][:] = np.array([0.0, 0.0, -1.0])[:, None]
            return torch.from_numpy(packed)
        rotation = rotation_matrices(q[3:7])
        np.negative(rotation[2], out=part["gravity_b"])
        part["base_position_w"][:], part["base_quaternion_w"][:] = q[0:3], q[3:7]
        part["base_linear_velocity_w"][:], part["base_angular_velocity_b"][:] = v[0:3], v[3:6]
        part["base_linear_velocity_b"][:] = to_base(rotation, v[0:3])
        np.subtract(q[2], self._ground.height(q[0], q[1]), out=part["base_height"][0])
        if self._legs is not None:
            feet = self._legs(position, velocity)  # component, position and velocity, foot, simulation
            offset, moving = feet[:, 0], feet[:, 1]
            part["foot_position_b"].reshape(offset.shape)[:] = offset
            add_cross(moving, v[3:6], offset)
            world = to_world(rotation, feet.reshape(3, -1, len(qpos))).reshape(feet.shape)
            np.add(world[:, 1], v[0:3, None], out=part["foot_velocity_w"].reshape(moving.shape))
            x, y, z = world[:, 0]
            sole = np.add(z, q[2] - self._foot_radius, out=part["foot_height"])
            if self._ground.rough is not None:
                sole -= self._ground.height(x + q[0], y + q[1])
            forces = _columns(sensors[:, self._force_at])
            np.negative(forces[0::3], out=part["foot_contact_force"])
            np.hypot(forces[1::3], forces[2::3], out=part["foot_shear_force"])
        if sim.ball_qpos is not None and sim.ball_dofs is not None:
            self._measure_ball(part, rotation, q, v[sim.ball_dofs :], sim.ball_qpos)
        return torch.from_numpy(packed)

    @staticmethod
    def _measure_ball(
        part: dict[str, np.ndarray], rotation: np.ndarray, q: np.ndarray, velocity: np.ndarray, at: int
    ) -> None:
        part["ball_position_b"][:] = to_base(rotation, q[at : at + 3] - q[0:3])
        part["ball_linear_velocity_b"][:] = to_base(rotation, velocity[0:3])
        # MuJoCo gives a free body's angular velocity in its own axes, which roll along.
        spin_w = to_world(rotation_matrices(q[at + 3 : at + 7]), velocity[3:6, None])[:, 0]
        part["ball_angular_velocity_b"][:] = to_base(rotation, spin_w)

    def fastest(self, packed: Tensor) -> np.ndarray:
        """(N,) greatest of each simulation's joint, angular and linear velocities, a ball's too [rad/s, m/s]."""
        joints = self.columns["joint_velocity"]
        speed = packed[joints.start : joints.stop + 3].abs().amax(0)  # the gyro's three follow the joints
        if "base_linear_velocity_w" in self.columns:
            speed = torch.maximum(speed, packed[self.columns["base_linear_velocity_w"]].abs().amax(0))
        for name in _BALL[1:] if self._sim.ball_qpos is not None else ():
            speed = torch.maximum(speed, packed[self.columns[name]].abs().amax(0))
        result: np.ndarray = speed.numpy()
        return result

    def sensors(self, packed: Tensor) -> Tensor:
        """(N, 2 J + 6) what perfect sensors read: joint positions and velocities, gyro, direction of gravity."""
        return packed[: self._num_sensors].T

    def illegal_contact(self, sensors: np.ndarray) -> Tensor:
        """(K,) bool: something other than the parts that may is on the ground, or the ball; or anything below it."""
        if self._legs is None or not self._sees_touch:
            return torch.zeros(len(sensors), dtype=torch.bool)
        illegal = sensors[:, self._touch_at] > sensors[:, self._legal_at].sum(1)
        if self._down_at is not None:
            illegal |= sensors[:, self._down_at] > 0
        return torch.from_numpy(illegal)

    def show(self, packed: Tensor, state: State) -> None:
        """Makes the state's fields views of packed (width, N)."""
        for (name, part), shape in zip(self.columns.items(), self._shapes.values(), strict=True):
            block = packed[part]
            if len(shape) == 2:  # stored by component: x of every foot, then y, then z
                setattr(state, name, block.view(shape[1], shape[0], -1).permute(2, 1, 0))
            else:
                setattr(state, name, block.T if shape else block[0])


def _columns(array: np.ndarray) -> np.ndarray:
    """(columns, K) float32: arithmetic on whole quantities then runs over contiguous memory."""
    # Rows lie far apart in the simulations' states: they are read in order first, and turned when small and close.
    return np.ascontiguousarray(array.astype(np.float32, order="C").T)
