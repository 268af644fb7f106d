"""Go2 dashes over a straight track of 5 m at a target of 2 m/s, as in DrEureka (Ma, Liang et al. 2024), and stops.

How an episode goes:

- The track lies along the world's x axis, from the origin to 5 m. The robot starts standing on its first line,
  placed by hand: heading within 0.05 rad of the track. There is no run-up: the start counts.
- The command is (2, 0, 0) until the base crosses the finish, and zero from then on: a robot that runs at 2 m/s has
  to be able to stop. The policy sees the command, as on the robot, but neither its place nor its heading: it keeps
  straight as well as its gyroscope lets it.
- An episode lasts 5 s. Whoever needs longer for the 5 m misses the target by more than 1 m/s on average, which is
  where the paper draws the line between success and failure.
- Pushes come every 1 to 4 s instead of the walk's 5 to 15 s, so that each dash of 2.5 s or more meets some.

What is measured: velocity along the track, its distance from the target, gait and effort are means over the steps on
the track. Distance (at most 5 m), finish, drift and the speed that is left are those of the last step: a robot that
falls has come as far as it fell. A fall counts wherever it happens, also in braking.

Fitness is the mean over the track, meter by meter, of 1 - |v - 2| (never below 0): 1 would be 2 m/s from the first
step to the line; meters that are not run count 0, so falling half way halves it; standing or ambling at 1 m/s is
worth 0. A mean over distance, so that neither the time limit nor what comes after the line has a part in it.
The threshold, 0.7, leaves the start and the ripple of a stride and asks for the rest; about 1.75 m/s over the 5 m.
"""

from torch import Tensor

from envs.robots import get as get_robot
from envs.state import State
from envs.tasks import go2_walk
from envs.tasks.task import Command, Start, Task

TRACK_M = 5.0
TARGET_M_S = 2.0
_DT_S = get_robot("go2").control_dt_s


def forward_velocity(s: State) -> Tensor:
    """(N,) [m/s] along the track."""
    return s.base_linear_velocity_w[:, 0]


def velocity_error(s: State) -> Tensor:
    """(N,) [m/s] how far the velocity along the track is from its target."""
    return (forward_velocity(s) - TARGET_M_S).abs()


def on_track(s: State) -> Tensor:
    """(N,) bool: the finish is still ahead."""
    return s.base_position_w[:, 0] < TRACK_M


def distance(s: State) -> Tensor:
    """(N,) [m] along the track, at most its length."""
    return s.base_position_w[:, 0].clamp(0.0, TRACK_M)


def on_pace(s: State) -> Tensor:
    """(N,) 1 at the velocity that is commanded, falling to 0 at 1 m/s from it."""
    return (1.0 - (forward_velocity(s) - s.command[:, 0]).abs()).clamp(min=0.0)


def track_share(s: State) -> Tensor:
    """(N,) the part of the track that the step just made covers."""
    before = s.base_position_w[:, 0] - forward_velocity(s).clamp(min=0.0) * _DT_S
    return (distance(s) - before.clamp(0.0, TRACK_M)) / TRACK_M


TASK = Task(
    name="go2-dash",
    description=(
        "A four-legged robot (Unitree Go2, 15 kg) dashes over a straight, flat track of 5 m, along the world's x axis "
        "from the origin. It starts standing, heading along the track, and its target is a forward velocity of "
        "2 m/s: command is (2, 0, 0) until the base has crossed the finish at x = 5 m, and (0, 0, 0) from then on: "
        "then it stops and stands. It must keep straight without seeing its place or heading, must not fall, and "
        "should run so that a real robot could."
    ),
    robot="go2",
    episode_length_s=5.0,
    observation=go2_walk.TASK.observation,
    history=3,
    start=Start(joint_position=(-0.05, 0.05), joint_velocity=(-0.1, 0.1), base_height_m=(0.0, 0.02),
                base_velocity=(-0.1, 0.1), heading=(-0.05, 0.05), spread=False),
    command=Command(low=(0.0, 0.0, 0.0), high=(TARGET_M_S, 0.0, 0.0), units=("m/s", "m/s", "rad/s"),
                    standing_share=0.0, fixed=(TARGET_M_S, 0.0, 0.0), until=lambda s: ~on_track(s)),
    terminated=go2_walk.fallen,
    fitness_rate=on_pace,
    fitness_share=track_share,
    fitness_threshold=0.7,
    human_reward="dash.py",
    sparse_reward="dash_sparse.py",
    judged=on_track,
    measures={
        "forward_velocity": forward_velocity,
        "velocity_error": velocity_error,
        "distance": distance,
        "finished": lambda s: (~on_track(s)).float(),
        "drift": lambda s: s.base_position_w[:, 1].abs(),
        "end_speed": lambda s: s.base_linear_velocity_w[:, :2].norm(dim=1),
        **{name: go2_walk.TASK.measures[name] for name in
           ("tilt", "foot_slip", "power", "speed", "action_rate", "joint_acceleration", "base_height")},
    },
    measured_at_end=("distance", "finished", "drift", "end_speed"),
    measure_units={
        "forward_velocity": "m/s", "velocity_error": "m/s", "distance": "m", "finished": "", "drift": "m",
        "end_speed": "m/s",
        **{name: go2_walk.TASK.measure_units[name] for name in
           ("tilt", "foot_slip", "power", "speed", "action_rate", "joint_acceleration", "base_height")},
    },
    randomization={**go2_walk.TASK.randomization, "push_interval": (1.0, 4.0)},
)  # fmt: skip
