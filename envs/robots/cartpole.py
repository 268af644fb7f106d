"""Cart and pole: a cart on a rail carries a pole that swings freely. Only the cart is driven."""

from pathlib import Path

import numpy as np

from envs.robots.spec import RobotSpec

SPEC = RobotSpec(
    name="cartpole",
    mjcf=Path(__file__).with_suffix(".xml"),
    joint_names=("slider", "hinge"),
    driven_joints=("slider",),
    home_joint_position=np.array([0.0, 0.0]),
    kp=np.array([20.0]),  # [N/m]
    kd=np.array([2.0]),  # [N·s/m]
    torque_limit=np.array([20.0]),  # [N], for a slider all "torques" are forces
    knee_velocity=np.array([5.0]),  # [m/s]
    velocity_limit=np.array([10.0]),
    action_scale=np.array([1.5]),
    control_dt_s=0.02,
    base_body="cart",
    # The pole hangs or stands in the rail's plane; the mirror swaps left and right along the rail.
    mirror_joints=("slider", "hinge"),
    mirror_signs=(-1.0, -1.0),
)
