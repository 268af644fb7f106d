"""Bad input gives one clear error: the value, what is valid, the fix. Bad physics is counted and contained."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch
from mjbatch import Batch
from torch import Tensor

from configs.errors import UserError
from envs import rewards, robots, tasks
from envs.environment import Environment
from envs.observations import Observation
from envs.randomization import TERMS, validate
from envs.simulation import MAX_VELOCITY
from envs.state import State
from envs.vec_env import make_environment


def message(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    text = str(error.value)
    assert "\n" not in text and len(text) < 1000
    return text


# Names


def test_unknown_task() -> None:
    text = message(lambda: make_environment("go2-wlak"))
    assert text.startswith("unknown task 'go2-wlak'")
    assert all(name in text for name in tasks.names()) and "did you mean 'go2-walk'?" in text


@pytest.mark.parametrize("name", ["", "task", "../secrets", "__init__", "go2_walk"])
def test_names_that_are_no_tasks(name: str) -> None:
    assert f"unknown task {name!r}" in message(lambda: tasks.get(name))


def test_unknown_robot() -> None:
    text = message(lambda: robots.get("go3"))
    assert text.startswith("unknown robot 'go3'; valid: cartpole, go1, go2; did you mean")
    assert "unknown robot 'spec'" in message(lambda: robots.get("spec"))


def test_unknown_observation_term() -> None:
    text = message(lambda: Observation(robots.get("go2"), ("gravity", "joint_positions"), 1))
    assert "unknown observation term 'joint_positions'" in text and "did you mean 'joint_position'?" in text


def test_no_simulation_at_all() -> None:
    assert "num_envs is 0" in message(lambda: make_environment("go2-walk", 0))


# Reward files


def test_reward_file_that_does_not_exist() -> None:
    text = message(lambda: make_environment("go2-walk", reward="humna"))
    assert "'humna'" in text and "human, sparse or the path" in text


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def reward(s:\n", "SyntaxError"),
        ("import nonsense_that_is_not_there\n", "ModuleNotFoundError"),
        ("1 / 0\n", "ZeroDivisionError"),
        ("def rewards(s): return {}\n", "defines no function `reward(s)`"),
        ("reward = 3\n", "defines no function `reward(s)`"),
    ],
)
def test_reward_file_that_does_not_load(tmp_path: Path, code: str, expected: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(code)
    with pytest.raises(UserError) as error:
        rewards.load(path)
    assert expected in str(error.value) and str(path) in str(error.value)


def stepped(reward: Callable[[State], dict[str, Tensor]]) -> str:
    def run() -> None:
        env = Environment(tasks.get("cartpole-swingup"), 4, reward=reward, num_threads=1)
        env.reset()
        env.step(torch.zeros(4, 1))

    return message(run)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_reward_that_is_not_finite_names_its_component(bad: float) -> None:
    def reward(s: State) -> dict[str, Tensor]:
        value = torch.ones(4)
        value[2] = bad
        return {"fine": torch.ones(4), "shaky": value, "also_fine": torch.zeros(4)}

    text = stepped(reward)
    assert "'shaky'" in text and str(bad) in text and "1 of 4" in text and "fine'" not in text


def test_reward_whose_sum_overflows() -> None:
    assert "sum" in stepped(lambda s: {"a": torch.full((4,), 3e38), "b": torch.full((4,), 3e38)})


@pytest.mark.parametrize("shape", [(), (4, 1), (3,), (1,), (4, 4)])
def test_reward_of_the_wrong_shape_names_its_component(shape: tuple[int, ...]) -> None:
    text = stepped(lambda s: {"fine": torch.ones(4), "odd": torch.ones(shape)})
    assert "'odd'" in text and str(shape) in text and "(4,)" in text


# Randomization ranges


def test_unknown_randomization_term() -> None:
    text = message(lambda: make_environment("go2-walk", randomization={"fricton": (0.3, 1.0)}))
    assert "unknown randomization term 'fricton'" in text and "did you mean 'friction'?" in text
    assert all(term in text for term in TERMS)


def test_range_the_wrong_way_round() -> None:
    text = message(lambda: validate({"friction": (1.5, 0.3)}))
    assert "friction" in text and "[1.5, 0.3]" in text and "wrong way round" in text


@pytest.mark.parametrize(
    "value", [None, 0.5, "abc", "12", [1.0], [0.1, 0.2, 0.3], ["low", "high"], [None, 1.0], [[0.1], [0.2]], {},
              [math.nan, 1.0], [0.1, math.nan], [math.nan, math.nan]],
)  # fmt: skip
def test_range_that_is_no_pair_of_numbers(value: object) -> None:
    text = message(lambda: validate({"friction": value}))
    assert text.startswith(f"randomization friction: {value!r} is no range") and "[low, high]" in text


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("side", ["low", "high"])
def test_range_beyond_its_bounds(term: str, side: str) -> None:
    low, high = TERMS[term].bounds
    for beyond in (1e-3, math.inf):
        value = (low - beyond, high) if side == "low" else (low, high + beyond)
        text = message(lambda value=value: validate({term: value}))  # type: ignore[misc]
        assert term in text and str([low, high]) in text
        assert TERMS[term].unit in text


@pytest.mark.parametrize("term", TERMS)
def test_bounds_hold_the_neutral_value(term: str) -> None:
    low, high = TERMS[term].bounds
    assert low <= TERMS[term].neutral <= high
    assert validate({term: [low, high]}) == {term: (low, high)}
    assert validate({term: (str(low), high)}) == {term: (low, high)}  # YAML reads 1e-3 as text


# Diverged simulations


def zero(s: State) -> dict[str, Tensor]:
    """Finite wherever the state is: shows what of a diverged simulation leaks into a reward."""
    fields = (s.base_position_w, s.base_linear_velocity_b, s.joint_velocity, s.joint_acceleration, s.joint_torque)
    return {"motion": sum((field.abs().sum(1) for field in fields), torch.zeros(len(s.time_s)))}


@pytest.mark.parametrize("name", tasks.names())
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e12, -1e6, 3 * MAX_VELOCITY])
def test_diverged_simulation_is_counted_and_contained(
    name: str, bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Over and over in the same simulation, for MuJoCo resets its own counters; the others do not notice."""
    monkeypatch.chdir(tmp_path)  # where MuJoCo would write its MUJOCO_LOG.TXT
    options = {"reward": zero, "num_threads": 1, "seed": 1, "termination_penalty": 100.0}
    broken, healthy = (Environment(tasks.get(name), 4, **options) for _ in range(2))  # type: ignore[arg-type]
    assert torch.equal(broken.reset()[0], healthy.reset()[0])
    others = [0, 1, 3]
    for count in range(1, 4):
        for _ in range(3):
            action = torch.full((4, broken.num_actions), 0.1)
            step, reference = broken.step(action), healthy.step(action)
            assert torch.equal(step.observation[others], reference.observation[others])
        broken.sim.qvel[2, :] = bad
        step, reference = broken.step(action), healthy.step(action)
        assert broken.diverged_count == count
        assert step.ended.tolist() == [2]
        # Not the policy's failure: no termination, no penalty, and nothing of the garbage in any number.
        assert bool(step.truncated[2]) and not bool(step.terminated[2])
        assert step.components["termination"].tolist() == [0.0] * 4
        assert 0.0 <= float(step.reward[2]) < 50.0  # the state of some start; speeds there are below 0.3
        for tensor in (step.observation, step.critic_observation, step.final_observation,
                       step.final_critic_observation):  # fmt: skip
            assert torch.isfinite(tensor).all() and tensor.abs().max() < 100.0
        assert torch.isfinite(step.reward).all()
        assert torch.equal(step.observation[others], reference.observation[others])
        assert torch.equal(step.reward[others], reference.reward[others])
    assert healthy.diverged_count == 0
    assert np.abs(broken.sim.qvel).max() < MAX_VELOCITY
    assert float(broken.state.time_s[2]) == 0.0
    assert list(tmp_path.iterdir()) == [] and capfd.readouterr() == ("", "")  # counted, not shouted


def test_other_warnings_of_mujoco_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """From the threads of a batch as well."""
    monkeypatch.chdir(tmp_path)
    box = '<body pos="{} 0 .04"><freejoint/><geom type="box" size=".05 .05 .05"/></body>'
    boxes = "".join(box.format(i / 10) for i in range(8))
    world = f'<worldbody><geom type="plane" size="9 9 1"/>{boxes}</worldbody>'
    Batch(mujoco.MjModel.from_xml_string(f'<mujoco><size memory="60K"/>{world}</mujoco>'), 4, 2).step()
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err.count("MuJoCo warns: Insufficient arena memory") == 4


def test_divergence_on_the_ground_is_no_failure_of_the_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A robot that lies on its back, which alone would terminate, spins impossibly fast."""
    monkeypatch.chdir(tmp_path)
    env = make_environment("go2-walk", 2, num_threads=1, collision="ground", randomization={})
    env.reset()
    for diverges in (False, True):
        env.sim.qpos[:, 2] = 0.06
        env.sim.qpos[:, 3:7] = [0.0, 1.0, 0.0, 0.0]
        if diverges:
            env.sim.qvel[1, 5] = 300.0
        step = env.step(torch.zeros(2, 12))
        assert step.terminated.tolist() == [True, not diverges]
        assert step.truncated.tolist() == [False, diverges]
        assert env.diverged_count == int(diverges)
        assert not env.state.illegal_contact.any()  # both stand at a new start


def test_action_that_is_not_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = make_environment("go2-walk", 3, num_threads=1)
    env.reset()
    action = torch.zeros(3, 12)
    action[1, 5] = math.nan
    step = env.step(action)
    assert env.diverged_count == 1 and step.ended.tolist() == [1]
    assert torch.isfinite(step.observation).all() and torch.isfinite(step.reward).all()
    step = env.step(torch.zeros(3, 12))
    assert torch.isfinite(step.observation).all() and not len(step.ended)
