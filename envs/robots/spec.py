"""RobotSpec: everything about a robot that is not in its MJCF, once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class RobotSpec:
    """A robot as data. Arrays over joints are in *policy order*, the order of `joint_names`.

    The MJCF holds bodies, geometry, inertia and joint ranges; this holds what drives them.
    J counts the joints that are measured, A those that a motor drives (all, unless `driven_joints` says).
    """

    name: str
    mjcf: Path
    joint_names: tuple[str, ...]
    home_joint_position: np.ndarray
    """(J,) [rad or m] the pose that a zero action commands."""
    kp: np.ndarray
    """(A,) [N·m/rad] position gain of the joint controller."""
    kd: np.ndarray
    """(A,) [N·m·s/rad] velocity gain of the joint controller."""
    torque_limit: np.ndarray
    """(A,) [N·m] what the motor gives at low speed."""
    knee_velocity: np.ndarray
    """(A,) [rad/s] speed from which the available torque falls, linearly."""
    velocity_limit: np.ndarray
    """(A,) [rad/s] speed at which no torque is left."""
    action_scale: np.ndarray
    """(A,) [rad or m] deviation from home that an action of 1 commands."""
    control_dt_s: float
    base_body: str
    driven_joints: tuple[str, ...] = ()
    """The joints with a motor, in policy order; empty means all of `joint_names`."""
    feet: tuple[str, ...] = ()
    """Names of the foot geoms; a site of the same name marks each center."""
    contact_bodies: tuple[str, ...] = ()
    """Bodies that may touch the ground, the feet's parents first and in the order of `feet`."""
    imu_site: str = "imu"
    home_base_height_m: float = 0.0
    soft_limit: float = 0.95
    """Share of the joint range, about its middle, that targets may use."""
    mirror_joints: tuple[str, ...] = ()
    """Left-right partner of each joint; empty where the robot has no such symmetry."""
    mirror_signs: tuple[float, ...] = ()
    mirror_feet: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.driven_joints:
            object.__setattr__(self, "driven_joints", self.joint_names)
        sizes = dict.fromkeys(("kp", "kd", "torque_limit", "knee_velocity", "velocity_limit", "action_scale"),
                              self.num_actions)  # fmt: skip
        for name, size in {"home_joint_position": self.num_joints, **sizes}.items():
            value = np.asarray(getattr(self, name), dtype=np.float64)
            if value.shape != (size,) or not np.isfinite(value).all():
                raise ValueError(f"robot {self.name}: {name} must be {size} finite numbers, got {value}")
            value.setflags(write=False)
            object.__setattr__(self, name, value)

    @property
    def num_joints(self) -> int:
        return len(self.joint_names)

    @property
    def num_actions(self) -> int:
        return len(self.driven_joints)

    @property
    def driven_index(self) -> np.ndarray:
        """(A,) index in policy order of each driven joint."""
        return np.array([self.joint_names.index(name) for name in self.driven_joints], dtype=np.int64)

    @property
    def home_target(self) -> np.ndarray:
        """(A,) [rad or m] the target of a zero action."""
        return self.home_joint_position[self.driven_index]

    @property
    def stall_torque(self) -> np.ndarray:
        """(A,) [N·m] torque at zero speed of the straight line through the falling part of the motor curve."""
        return self.torque_limit * self.velocity_limit / (self.velocity_limit - self.knee_velocity)

    @property
    def mirror_index(self) -> np.ndarray:
        """(J,) index in policy order of each joint's left-right partner."""
        return np.array([self.joint_names.index(name) for name in self.mirror_joints], dtype=np.int64)
