"""The curriculum: where its ranges stand, what is drawn from them, and that a resumed training walks the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents import checkpoint, train
from agents.curriculum import Curriculum
from configs.errors import UserError
from envs import physics, tasks
from envs.environment import Environment
from envs.randomization import TERMS

RANGES = {"joint_damping": (0.5, 2.0), "link_mass": (0.8, 1.2)}


def test_ranges_move_linearly_by_hand() -> None:
    """From [6, 8] to [0.5, 2] over the first half: at a quarter of the training half way, [3.25, 5]."""
    curriculum = Curriculum({"until": 0.5, "start": {"joint_damping": [6.0, 8.0]}}, RANGES)
    assert curriculum.ranges(0.0) == {"joint_damping": (6.0, 8.0)}
    assert curriculum.ranges(0.25)["joint_damping"] == pytest.approx((3.25, 5.0))
    assert curriculum.ranges(0.5) == curriculum.ranges(1.0) == {"joint_damping": (0.5, 2.0)}
    assert curriculum.final == RANGES


def test_phases_follow_one_another_by_hand() -> None:
    """Damping moves alone at first; then all but what sensors say, and damping, widens from nothing."""
    ranges = RANGES | {"joint_position_noise": (-0.1, 0.1)}
    config = {
        "stiff": {"until": 0.2, "start": {"joint_damping": [6.0, 8.0]}},
        "widen": {"begin": 0.2, "until": 0.6, "start": "noise"},
    }
    curriculum = Curriculum(config, ranges)
    assert curriculum.final == ranges
    nothing, half = (1.0, 1.0), pytest.approx((0.9, 1.1))
    for progress, damping, mass in (
        (0.0, (6.0, 8.0), nothing), (0.1, (3.25, 5.0), nothing), (0.2, (0.5, 2.0), nothing),
        (0.4, (0.5, 2.0), half), (0.6, (0.5, 2.0), (0.8, 1.2)), (1.0, (0.5, 2.0), (0.8, 1.2)),
    ):  # fmt: skip
        now = curriculum.ranges(progress)
        assert now.keys() == {"joint_damping", "link_mass"}, "the noise stays as wide as it is"
        assert now["joint_damping"] == pytest.approx(damping) and now["link_mass"] == mass
    at_once = Curriculum({"begin": 0.3, "until": 0.3, "start": "neutral"}, RANGES)
    assert at_once.ranges(0.29)["link_mass"] == (1.0, 1.0) and at_once.ranges(0.3) == RANGES


def test_a_phase_goes_back_while_robots_fall_too_often_by_hand() -> None:
    """From 0.2 to 0.6 of the training, in tenths of it: too many falls in two of them, and again at its end."""
    config = {"until": 0.6, "begin": 0.2, "start": "neutral", "falls_per_minute": 2.0}
    curriculum = Curriculum(config, RANGES)
    falls = [9.0, 9.0, 0.0, 2.0, 2.1, 5.0, 2.1, 0.0, 0.0, 0.0, 0.0, 0.0, 9.0, 0.0]
    done = []
    for tenth, of_tenth in enumerate(falls):
        done.append(curriculum.done(tenth / 10)["curriculum"])
        curriculum.judge(0.1, of_tenth)
    # What falls before it begins is not its affair; it never goes back behind its start.
    assert done == pytest.approx([0, 0, 0, 0.25, 0.5, 0.25, 0, 0, 0.25, 0.5, 0.75, 1, 1, 0.75], abs=1e-9)
    again = Curriculum(config, RANGES)
    again.reached = curriculum.reached
    assert again.ranges(0.3) == curriculum.ranges(0.7) == RANGES


def test_phases_go_back_each_for_itself() -> None:
    config = {
        "first": {"until": 0.5, "start": {"joint_damping": [6.0, 8.0]}},
        "second": {"until": 0.5, "start": "neutral", "falls_per_minute": 1.0},
    }
    curriculum = Curriculum(config, RANGES)
    for falls in (0.0, 0.0, 3.0, 0.0, 3.0):
        curriculum.judge(0.1, falls)
    assert curriculum.done(0.5) == {"first": 1.0, "second": pytest.approx(0.2)}
    assert Curriculum(None, RANGES).done(0.5) == {}


@pytest.mark.parametrize("task", tasks.names())
def test_each_task_has_a_curriculum_that_holds(task: str, configure: Any, tmp_path: Path) -> None:
    config = configure(tmp_path, f"task={task}")
    ranges = train.resolve_ranges(config["randomization"], tasks.get(task))
    for drawn in (ranges, {}):
        curriculum = Curriculum(config["curriculum"], drawn)
        end = curriculum.ranges(1.0)
        assert end == {term: curriculum.final[term] for term in end}


def test_a_term_that_training_does_not_draw_ends_neutral() -> None:
    curriculum = Curriculum({"until": 1.0, "start": {"gravity": [-6.0, -4.0]}}, {})
    assert curriculum.final == {"gravity": (0.0, 0.0)}
    assert curriculum.ranges(0.5) == {"gravity": (-3.0, -2.0)}


def test_none_is_no_curriculum() -> None:
    assert Curriculum(None, RANGES).ranges(0.3) == {} and Curriculum(None, RANGES).final == RANGES


def test_episodes_that_begin_are_drawn_from_where_the_ranges_stand() -> None:
    curriculum = Curriculum({"until": 1.0, "start": {"joint_damping": [6.0, 8.0]}}, RANGES)
    task = tasks.get("cartpole-swingup")
    env = Environment(task, 64, reward=physics.no_reward, randomization=curriculum.final, num_threads=1)
    default = env.sim.model.dof_damping[env.sim.joint_dofs]
    for progress, (low, high) in ((0.0, (6.0, 8.0)), (0.5, (3.25, 5.0)), (1.0, (0.5, 2.0))):
        curriculum.apply(env, progress)
        env.reset()
        scale = env.sim.expand("dof_damping")[:, env.sim.joint_dofs][:, default > 0] / default[default > 0]
        assert scale.min() >= low - 1e-9 and scale.max() <= high + 1e-9
        assert np.ptp(scale) > 0.8 * (high - low)  # of 64 draws or more
        mass = env.randomizer.describe(0, int(env.episodes.episode[0]))["link_mass"]
        assert ((mass >= 0.8) & (mass <= 1.2)).all()  # the others stay as they are


def test_all_ranges_widen_from_neutral() -> None:
    """Physics, noise and pushes, of a dash: at half of `until` half as wide."""
    task = tasks.get("go2-dash")
    ranges = {"friction": (0.4, 1.2), "joint_velocity_noise": (-1.0, 1.0), "gravity_noise": (-0.1, 0.1),
              "push_velocity": (-2.0, 2.0), "push_interval": (0.1, 0.2)}  # fmt: skip
    curriculum = Curriculum({"until": 0.8, "start": "neutral"}, ranges)
    assert curriculum.final == ranges
    half = {"friction": (0.6, 1.0), "joint_velocity_noise": (-0.5, 0.5), "gravity_noise": (-0.05, 0.05),
            "push_velocity": (-1.0, 1.0)}  # fmt: skip
    assert {name: pytest.approx(span) for name, span in half.items()} == curriculum.ranges(0.4)
    env = Environment(task, 64, reward=physics.no_reward, randomization=curriculum.final, num_threads=1)
    for progress, share in ((0.0, 0.0), (0.4, 0.5), (0.8, 1.0)):
        curriculum.apply(env, progress)
        env.reset()
        friction = env.randomizer.describe(0, int(env.episodes.episode[0]))["friction"]
        assert (abs(friction - 0.8) <= 0.4 * share + 1e-9).all()
        pushes = env.episodes.arrays()["push_velocity"]
        assert abs(pushes).max() == pytest.approx(2.0 * share, rel=0.05)
        exact = torch.zeros(64, env.sensing.error.shape[1])
        error = env.sensing.noisy(exact, env.episodes.episode, env.episodes.step)
        assert error[:, 12:24].abs().max() == pytest.approx(1.0 * share, rel=0.05), "of joint velocity"
        assert error[:, -3:].abs().max() == pytest.approx(0.1 * share, rel=0.1), "of gravity"
        assert not error[:, :12].any()


def test_noise_that_only_the_curriculum_has() -> None:
    curriculum = Curriculum({"until": 0.5, "start": {"joint_position_noise": [-0.2, 0.2]}}, {})
    env = Environment(tasks.get("cartpole-swingup"), 4, reward=physics.no_reward, randomization=curriculum.final)
    env.reset()
    for progress, noisy in ((0.0, True), (0.5, False)):
        curriculum.apply(env, progress)
        exact = torch.zeros(4, env.sensing.error.shape[1])
        error = env.sensing.noisy(exact, env.episodes.episode, env.episodes.step)
        assert bool(error.any()) == noisy


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"until": 1.5, "start": {}}, r"curriculum.until=1.5; valid: 0 to 1"),
        ({"until": "soon", "start": {}}, r"curriculum.until=soon; valid: 0 to 1"),
        ({"til": 0.5}, "curriculum setting.*til"),
        ({"until": 0.5, "start": {"gravitas": [0, 1]}}, "randomization term.*gravitas"),
        ({"until": 0.5, "start": {"gravity": [1, 0]}}, "gravity.*wrong way round"),
        ({"until": 0.5, "start": {"push_velocity": [0, 1]}}, "push_velocity: nobody is pushed in this training"),
        ({"until": 0.5, "start": {"push_interval": [1, 2]}}, "curriculum term.*push_interval"),
        ({"until": 0.5, "start": "nothing"}, r"curriculum.start=nothing; valid: neutral, noise, or"),
        ({"until": 0.2, "begin": 0.5}, r"curriculum.until=0.2 lies before its begin=0.5"),
        ({"until": 0.2, "first": {"until": 0.1}}, "curriculum setting.*first"),
        ({"first": {"til": 0.5}}, "curriculum.first setting.*til"),
        ({"first": {"begin": -1}}, r"curriculum.first.begin=-1; valid: 0 to 1"),
        ({"until": 0.5, "falls_per_minute": 0}, r"curriculum.falls_per_minute=0; valid: a number above 0"),
        ({"first": {"falls_per_minute": "few"}}, r"curriculum.first.falls_per_minute=few; valid: a number above 0"),
        (
            {name: {"until": 0.1, "start": {"gravity": [0, 1]}} for name in ("first", "second")},
            "gravity has two phases",
        ),
        ({name: {"until": 0.1, "start": "neutral"} for name in ("first", "second")}, "has two phases"),
    ],
)
def test_bad_input_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Curriculum(config, RANGES)


class StopAfter:
    """Stands in for the progress display and ends the training once an iteration is done."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def update(self, entry: dict[str, Any]) -> None:
        if entry["iteration"] == self.iteration:
            raise KeyboardInterrupt


def go(training: Any, iteration: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        training.learn(StopAfter(iteration))
    training.save()


def finished_in(stops: list[int], runs: Path, configure: Any, *overrides: str) -> tuple[Any, dict[str, Any]]:
    """A training that was stopped and resumed at these iterations: its curriculum and the last checkpoint."""
    run, training = train.prepare(configure(runs, *overrides, f"name=to{len(stops)}"))
    go(training, stops[0])
    for stop in stops[1:]:
        _, training = train.prepare(configure(runs, f"resume={run}"))
        go(training, stop)
    return training.curriculum, checkpoint.read(run / checkpoint.CHECKPOINT)


def same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for part in ("policy", "environment"):
        for name, value in one[part].items():
            assert value.equal(other[part][name]), name


def test_resumed_in_its_middle_it_goes_on_to_the_bit(tmp_path: Path, configure: Any) -> None:
    override = "curriculum={until: 0.9, start: {joint_damping: [6.0, 8.0], gravity: [-5.0, -3.0]}}"
    (_, one), (_, other) = (finished_in(stops, tmp_path, configure, override) for stops in ([4], [2, 4]))
    same(one, other)
    assert TERMS["gravity"].neutral == 0.0 and "field/gravity" in one["environment"]


def test_resumed_after_it_went_back_it_goes_on_to_the_bit(tmp_path: Path, configure: Any) -> None:
    """Robots that nobody has taught to walk fall within 80 steps."""
    overrides = ["task=go2-walk", "env_steps=1280", "ppo.num_envs=16", "ppo.n_steps=8",
                 "curriculum={until: 1, start: neutral, falls_per_minute: 1}"]  # fmt: skip
    (curriculum, one), (again, other) = (finished_in(s, tmp_path, configure, *overrides) for s in ([8], [6, 8]))
    assert again.reached["curriculum"] == curriculum.reached["curriculum"] < 0.7
    same(one, other)
