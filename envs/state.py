"""State: what rewards, observations and terminations read. One object, refilled every step."""

import ast
import inspect
from dataclasses import dataclass, fields
from functools import cache
from itertools import pairwise

from torch import Tensor


@dataclass(slots=True)
class State:
    """The batch after the latest step. N simulations, J joints, A driven joints, F feet.

    All tensors are float32 unless stated. Frames: `_w` world (z up), `_b` the robot's base (x forward, y left,
    z up). Everything describes the instant after the step, except contact forces and torques: those are the
    ones that acted during the last physics step, the newest there are.
    """

    base_position_w: Tensor
    """(N, 3) [m] origin of the base, world frame."""
    base_quaternion_w: Tensor
    """(N, 4) orientation of the base as w, x, y, z."""
    base_height: Tensor
    """(N,) [m] height of the base above the ground below it."""
    base_linear_velocity_w: Tensor
    """(N, 3) [m/s] velocity of the base, world frame."""
    base_linear_velocity_b: Tensor
    """(N, 3) [m/s] velocity of the base, base frame: forward, left, up."""
    base_angular_velocity_b: Tensor
    """(N, 3) [rad/s] angular velocity of the base, base frame: roll, pitch and yaw rate."""
    gravity_b: Tensor
    """(N, 3) unit vector of gravity, base frame: (0, 0, -1) when upright."""
    joint_position: Tensor
    """(N, J) [rad; m for a slider] joint positions in policy order."""
    joint_velocity: Tensor
    """(N, J) [rad/s; m/s] joint velocities."""
    joint_acceleration: Tensor
    """(N, J) [rad/s^2; m/s^2] change of joint velocity over the last control step, divided by its duration."""
    joint_home: Tensor
    """(J,) [rad; m] the home pose, which a zero action commands."""
    joint_lower: Tensor
    """(J,) [rad; m] lower soft limit of each joint."""
    joint_upper: Tensor
    """(J,) [rad; m] upper soft limit of each joint."""
    joint_torque: Tensor
    """(N, A) [N·m; N] torque of each driven joint's motor."""
    joint_power: Tensor
    """(N, A) [W] mechanical power of each motor, torque times velocity; negative when it brakes."""
    joint_target: Tensor
    """(N, A) [rad; m] position target that the last action set."""
    action: Tensor
    """(N, A) the action just taken, within -1..1."""
    previous_action: Tensor
    """(N, A) the action before it."""
    command: Tensor
    """(N, C) what the task asks for; for walking: forward velocity [m/s], leftward velocity [m/s] (both in the
    base frame) and yaw rate [rad/s]."""
    foot_contact: Tensor
    """(N, F) bool: the foot carries more than 1 N (on the ball, where there is one)."""
    foot_contact_force: Tensor
    """(N, F) [N] upward force on each foot of what it stands on: the ground, or the ball."""
    foot_shear_force: Tensor
    """(N, F) [N] size of the horizontal ground force on each foot; above friction times the upward force it slips."""
    foot_air_time: Tensor
    """(N, F) [s] how long the foot has been in the air; at touch-down the length of the flight just ended, then 0."""
    foot_contact_time: Tensor
    """(N, F) [s] how long the foot has been on the ground; at lift-off the length of the stance just ended, then 0."""
    foot_touchdown: Tensor
    """(N, F) bool: the foot came down during this step."""
    foot_position_b: Tensor
    """(N, F, 3) [m] foot centers relative to the base, base frame."""
    foot_height: Tensor
    """(N, F) [m] height of the foot's sole above the ground below it."""
    foot_velocity_w: Tensor
    """(N, F, 3) [m/s] velocity of each foot's center, world frame."""
    illegal_contact: Tensor
    """(N,) bool: something other than a foot or calf touches the ground; on a ball: anything of the robot touches the
    ground, or its trunk or hips the ball."""
    ball_position_b: Tensor
    """(N, 3) [m] center of the ball relative to the base, base frame; (N, 0) in tasks without a ball."""
    ball_linear_velocity_b: Tensor
    """(N, 3) [m/s] velocity of the ball's center over the ground, base frame; (N, 0) without a ball."""
    ball_angular_velocity_b: Tensor
    """(N, 3) [rad/s] angular velocity of the ball, base frame; (N, 0) without a ball."""
    terminated: Tensor
    """(N,) bool: the episode just ended by failure, not by time."""
    time_s: Tensor
    """(N,) [s] time since the episode began."""


@cache
def field_docs() -> dict[str, str]:
    """Each field's docstring, in order, read from this file: the text that a language model is shown."""
    body = ast.parse(inspect.getsource(State)).body[0].body  # type: ignore[attr-defined]
    docs: dict[str, str] = {}
    for item, following in pairwise(body):
        if isinstance(item, ast.AnnAssign) and isinstance(following, ast.Expr):
            docs[item.target.id] = " ".join(following.value.value.split())  # type: ignore[union-attr,attr-defined]
    assert list(docs) == [f.name for f in fields(State)]
    return docs
