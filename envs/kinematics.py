"""Rotations and leg kinematics on batches, in torch: fresh after a step without another MuJoCo forward pass."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from envs.robots.spec import RobotSpec

Vector = list[Tensor]
"""Three tensors of equal shape: x, y, z. Short operations on whole components beat strided ones on (..., 3)."""


def rotation_rows(quaternion: Tensor) -> list[Vector]:
    """Rows of the rotation matrices (base to world) of unit quaternions (4, N), w x y z; entries (N,)."""
    w, x, y, z = quaternion.unbind()
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    return [
        [1 - 2 * (yy + zz), 2 * (xy - wz), 2 * (xz + wy)],
        [2 * (xy + wz), 1 - 2 * (xx + zz), 2 * (yz - wx)],
        [2 * (xz - wy), 2 * (yz + wx), 1 - 2 * (xx + yy)],
    ]


def to_world(rows: list[Vector], v: Vector) -> Vector:
    """Base-frame components (..., N) into the world frame."""
    return [r[0] * v[0] + r[1] * v[1] + r[2] * v[2] for r in rows]


def to_base(rows: list[Vector], v: Vector) -> Vector:
    """World-frame components (..., N) into the base frame."""
    return [rows[0][i] * v[0] + rows[1][i] * v[1] + rows[2][i] * v[2] for i in range(3)]


def cross(a: Vector, b: Vector) -> Vector:
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


class LegKinematics:
    """Position and velocity of each foot's center relative to the base, from joint positions and velocities.

    Built from the model: each foot must hang from the base by the same number of hinges, each about a
    coordinate axis of its body, with body frames parallel to their parents'. Raises ValueError otherwise.
    """

    def __init__(self, model: mujoco.MjModel, robot: RobotSpec) -> None:
        chains = [self._chain(model, robot, foot) for foot in robot.feet]
        depths = {len(chain) for chain in chains}
        axes = {tuple(axis for _, axis, _ in chain) for chain in chains}
        if len(depths) != 1 or len(axes) != 1:
            raise ValueError(f"robot {robot.name}: its legs differ in their joints' number or axes")
        self._axes = axes.pop()
        depth = depths.pop()
        order = [c[k][0] for k in range(depth) for c in chains]
        self._order = torch.tensor(order)
        self._depth, self._num_feet = depth, len(chains)
        self._offsets = [
            list(torch.tensor(np.array([c[k][2] for c in chains]), dtype=torch.float32).T.unsqueeze(-1))
            for k in range(len(self._axes))
        ]
        tips = np.array([model.site(foot).pos for foot in robot.feet])
        self._tips = list(torch.tensor(tips, dtype=torch.float32).T.unsqueeze(-1))

    @staticmethod
    def _chain(model: mujoco.MjModel, robot: RobotSpec, foot: str) -> list[tuple[int, int, np.ndarray]]:
        """(joint in policy order, axis 0..2, body offset) from the base outwards."""
        chain: list[tuple[int, int, np.ndarray]] = []
        body, base = int(model.site(foot).bodyid[0]), model.body(robot.base_body).id
        while body != base:
            joint = model.joint(int(model.body(body).jntadr[0]))
            aligned = np.allclose(model.body(body).quat, [1, 0, 0, 0]) and np.allclose(joint.pos, 0)
            if not (aligned and joint.type[0] == mujoco.mjtJoint.mjJNT_HINGE and joint.axis.max() == 1):
                raise ValueError(f"robot {robot.name}: joint {joint.name} is not a hinge about a coordinate axis")
            chain.append((robot.joint_names.index(joint.name), int(joint.axis.argmax()), model.body(body).pos))
            body = int(model.body(body).parentid[0])
        return chain[::-1]

    def __call__(self, joint_position: Tensor, joint_velocity: Tensor) -> tuple[Vector, Vector]:
        """Foot positions [m] and velocities [m/s] relative to the base, base frame; components (F, N).

        Joint positions and velocities are (J, N), in policy order.
        """
        shape = (self._depth, self._num_feet, joint_position.shape[1])
        angles = joint_position[self._order]
        sines, cosines = angles.sin().view(shape), angles.cos().view(shape)
        rates = joint_velocity[self._order].view(shape)
        p: Vector = [tip.expand(shape[1:]) for tip in self._tips]
        v: Vector | None = None
        for k in range(self._depth - 1, -1, -1):
            s, c, rate, axis, offset = sines[k], cosines[k], rates[k], self._axes[k], self._offsets[k]
            p = _turn(p, axis, s, c)
            spin = _spin(p, axis, rate)
            v = spin if v is None else [a + b for a, b in zip(_turn(v, axis, s, c), spin, strict=True)]
            p = [a + b for a, b in zip(p, offset, strict=True)]
        assert v is not None
        return p, v


def _turn(v: Vector, axis: int, s: Tensor, c: Tensor) -> Vector:
    """v turned about a coordinate axis."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    turned = list(v)
    turned[j], turned[k] = c * v[j] - s * v[k], s * v[j] + c * v[k]
    return turned


def _spin(p: Vector, axis: int, rate: Tensor) -> Vector:
    """Velocity of point p on a body that spins about a coordinate axis."""
    j, k = (axis + 1) % 3, (axis + 2) % 3
    velocity = [torch.zeros_like(rate)] * 3
    velocity[j], velocity[k] = -rate * p[k], rate * p[j]
    return velocity
