"""Unitree Go1. Limits from Unitree's public description."""

from pathlib import Path

from envs.robots.quadruped import per_joint, quadruped_names
from envs.robots.spec import RobotSpec

SPEC = RobotSpec(
    name="go1",
    mjcf=Path(__file__).with_suffix(".xml"),
    home_joint_position=per_joint(0.0, 0.9, -1.8),
    kp=per_joint(35.0, 35.0, 35.0),
    kd=per_joint(0.8, 0.8, 0.8),
    torque_limit=per_joint(23.7, 23.7, 35.55),
    knee_velocity=per_joint(13.5, 13.5, 9.0),
    velocity_limit=per_joint(30.1, 30.1, 20.06),
    action_scale=per_joint(0.5, 1.0, 1.0),
    control_dt_s=0.02,
    home_base_height_m=0.27,
    **quadruped_names(),
)
