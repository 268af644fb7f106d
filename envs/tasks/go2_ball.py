"""Go2 stands on a yoga ball and keeps its balance. Its policy never sees the ball."""

from torch import Tensor

from envs.ball import Ball
from envs.state import State
from envs.tasks import go2_walk
from envs.tasks.task import Start, Task

BALL = Ball()


def up_from_ball(s: State) -> Tensor:
    """(N,) [m] height of the base above the ball's center."""
    return (s.gravity_b * s.ball_position_b).sum(1)


def off_center(s: State) -> Tensor:
    """(N,) [m] horizontal distance of the base from the ball's center."""
    return (s.ball_position_b - up_from_ball(s)[:, None] * s.gravity_b).norm(dim=1)


def ball_speed(s: State) -> Tensor:
    """(N,) [m/s] how fast the ball rolls."""
    return s.ball_linear_velocity_b.norm(dim=1)


def off_the_ball(s: State) -> Tensor:
    """The base lower than the ball is high, tilt over 60 degrees, anything of the robot on the ground, or its trunk
    or hips on the ball."""
    return (s.base_height < 2 * BALL.radius_m) | (s.gravity_b[:, 2] > -0.5) | s.illegal_contact


def on_top(s: State) -> Tensor:
    """1 as long as the robot stands on the ball: an episode's fitness is the share of its 30 s that it does."""
    return (~off_the_ball(s)).float()


TASK = Task(
    name="go2-ball",
    description=(
        "A four-legged robot (Unitree Go2, 15 kg) stands on a yoga ball of 0.45 m radius and 1 to 3 kg, which rolls "
        "freely on flat ground, and keeps its balance for up to 30 seconds. At the start it stands on its feet on top "
        "of the ball, its base about 0.67 m above the ball's center and 1.12 m above the ground. The episode ends "
        "when its base is lower than 0.9 m, when it tilts by more than 60 degrees, when anything of it touches the "
        "ground, or its trunk or hips the ball. Robot and ball are pushed now and then. The policy senses "
        "its joints, angular velocity and the direction of gravity, and nothing of the ball; the reward may use the "
        "ball's position and velocities (ball_position_b, ball_linear_velocity_b, ball_angular_velocity_b)."
    ),
    robot="go2",
    episode_length_s=30.0,
    observation=("angular_velocity", "gravity", "joint_position", "joint_velocity", "previous_action"),
    # How the ball moves shows only in how the robot's motion answers its actions, over several steps.
    history=15,
    # The feet of the home pose touch the ball with the base 1.121 m high: they drop onto it by 0 to 2 cm.
    start=Start(joint_position=(-0.05, 0.05), joint_velocity=(-0.2, 0.2), base_height_m=(0.86, 0.88),
                base_offset_m=(-0.02, 0.02), base_velocity=(-0.1, 0.1)),
    ball=BALL,
    terminated=off_the_ball,
    fitness_rate=on_top,
    fitness_threshold=0.51,  # 15.4 s, what DrEureka's policy reached on a real robot
    human_reward="ball.py",
    sparse_reward="ball_sparse.py",
    measures={
        "seconds": lambda s: s.time_s,
        "off_center": off_center,
        "ball_speed": ball_speed,
        "ball_spin": lambda s: s.ball_angular_velocity_b.norm(dim=1),
        "tilt": go2_walk.TASK.measures["tilt"],
        "base_height": lambda s: s.base_height,
        "feet_on_ball": lambda s: s.foot_contact.sum(1).float(),
        "power": go2_walk.TASK.measures["power"],
        "action_rate": go2_walk.TASK.measures["action_rate"],
        "joint_acceleration": go2_walk.TASK.measures["joint_acceleration"],
    },
    measured_at_end=("seconds",),
    measure_units={
        "seconds": "s", "off_center": "m", "ball_speed": "m/s", "ball_spin": "rad/s", "tilt": "deg",
        "base_height": "m", "feet_on_ball": "", "power": "W", "action_rate": "", "joint_acceleration": "rad/s^2",
    },
    randomization={
        **go2_walk.TASK.randomization,
        "contact_softness": (1.0, 3.0),
        "ball_mass": (1.0, 3.0),
        "ball_friction": (0.4, 1.2),
        "ball_rolling_friction": (0.0, 0.01),
        "ball_drag": (0.0, 1.0),
        "ball_softness": (1.0, 3.0),
        "ball_restitution": (0.0, 0.5),
        "ball_push_velocity": (-0.2, 0.2),
    },
)  # fmt: skip
