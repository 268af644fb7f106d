"""Rotations and leg kinematics on batches: fresh after a step without another MuJoCo forward pass.

In NumPy, whose calls cost a third of torch's on arrays as small as these, and in place: at 1,024 simulations the
arithmetic is nothing beside the calls. Simulations are the last axis, so each operation runs over contiguous memory.
Sums go term by term: the order of a sum over an axis may depend on the batch size.
"""

import mujoco
import numpy as np

from envs.robots.spec import RobotSpec


def rotation_matrices(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3, N) base to world, of unit quaternions (4, N), w x y z: (2w^2 - 1) I + 2 u u^T + 2w [u]x."""
    double = quaternion + quaternion
    matrix: np.ndarray = quaternion[1:, None] * double[1:]
    x, y, z = quaternion[0] * double[1:]
    diagonal = quaternion[0] * double[0] - 1.0
    for i in range(3):
        matrix[i, i] += diagonal
    matrix[2, 1] += x
    matrix[1, 2] -= x
    matrix[0, 2] += y
    matrix[2, 0] -= y
    matrix[1, 0] += z
    matrix[0, 1] -= z
    return matrix


def to_world(rotation: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Base-frame vectors (3, K, N) into the world frame, by rotation (3, 3, N)."""
    rotated: np.ndarray = rotation[:, 0, None] * v[0]
    rotated += rotation[:, 1, None] * v[1]
    rotated += rotation[:, 2, None] * v[2]
    return rotated


def to_base(rotation: np.ndarray, v: np.ndarray) -> np.ndarray:
    """World-frame vectors (3, N) into the base frame."""
    rotated: np.ndarray = rotation[0] * v[0]
    rotated += rotation[1] * v[1]
    rotated += rotation[2] * v[2]
    return rotated


def add_cross(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> None:
    """total (3, K, N) += a x b, of vectors a (3, N) and b (3, K, N)."""
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        total[i] += a[j] * b[k]
        total[i] -= a[k] * b[j]


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
        self._order = np.array([[c[k][0] for c in chains] for k in range(depth)])  # depth, F
        offsets = np.array([[c[k][2] for c in chains] for k in range(depth)], dtype=np.float32)
        self._offsets = offsets.transpose(0, 2, 1)[..., None]  # depth, 3, F, 1
        tips = np.array([model.site(foot).pos for foot in robot.feet], dtype=np.float32)
        self._tips = tips.T[..., None]

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

    def __call__(self, joint_position: np.ndarray, joint_velocity: np.ndarray) -> np.ndarray:
        """(3, 2, F, N): each foot's center relative to the base, its position [m] and velocity [m/s], base frame.

        Joint positions and velocities are (J, N), in policy order.
        """
        angles, rates = joint_position[self._order], joint_velocity[self._order]  # depth, F, N
        sines, cosines = np.sin(angles), np.cos(angles)
        moved = np.zeros((3, 2, *angles.shape[1:]), dtype=np.float32)  # component, position and velocity
        position = moved[:, 0]
        position += self._tips
        for depth in range(len(self._axes) - 1, -1, -1):
            axis, s, c, rate = self._axes[depth], sines[depth], cosines[depth], rates[depth]
            y, z = moved[(axis + 1) % 3], moved[(axis + 2) % 3]
            # The joint turns what hangs from it about its axis, and its rate adds axis x position.
            turned = c * y
            turned -= s * z
            z *= c
            z += s * y
            y[:] = turned
            y[1] -= rate * z[0]
            z[1] += rate * y[0]
            position += self._offsets[depth]
        return moved
