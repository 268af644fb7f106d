"""One suite over every task: a task is tested from the day that its file is added.

Episodes are cut to 1.5 s with a new command every 0.5 s and a push every 0.2 to 0.6 s, so that 300 steps of
random actions see falls, time limits, commands, pushes and restarts. Comparisons are of bits unless stated.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from torch import Tensor

import envs  # registers the tasks with Gymnasium
from envs import rewards, tasks
from envs.environment import Environment, Step
from envs.randomization import TERMS
from envs.randomizer import Randomizer
from envs.robots import get as get_robot
from envs.scene import SolverSettings, build_model
from envs.simulation import Simulation
from envs.tasks.task import Task
from envs.vec_env import GantryEnv, GantryVectorEnv, SB3VecEnv, make_environment

STEPS = 300
TASKS = tasks.names()
ROOT = Path(envs.__file__).resolve().parents[1]
every_task = pytest.mark.parametrize("name", TASKS)


def brief(name: str) -> Task:
    task = tasks.get(name)
    ranges = dict(task.randomization)
    if get_robot(task.robot).feet:
        ranges |= {"push_interval": (0.2, 0.6), "push_velocity": (-1.0, 1.0)}
    command = task.command and replace(task.command, resample_s=0.5, standing_share=0.3)
    return replace(task, episode_length_s=1.5, command=command, randomization=ranges)


def make(name: str, num_envs: int, seed: int = 0, num_threads: int = 1) -> Environment:
    task = brief(name)
    reward = rewards.load(rewards.path_of("human", task))
    options = {"reward": reward, "seed": seed, "num_threads": num_threads, "termination_penalty": 3.0}
    return Environment(task, num_envs, **options)  # type: ignore[arg-type]


def random_actions(env: Environment, steps: int = STEPS, spread: float = 1.0) -> Tensor:
    """(steps, N, A): each simulation's actions depend on its number alone."""
    shape = (steps, env.num_actions)
    rows = [np.random.default_rng(i).uniform(-spread, spread, shape) for i in range(env.num_envs)]
    return torch.from_numpy(np.stack(rows, 1).astype(np.float32))


@dataclass
class Rollout:
    """Stacked over steps: (T, N, ...)."""

    observation: Tensor
    critic: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    command: Tensor
    position: Tensor
    ends: list[tuple[list[int], Tensor, Tensor]]

    def rows(self, ids: list[int] | slice) -> list[Tensor]:
        parts = (self.observation, self.critic, self.reward, self.terminated, self.truncated, self.command)
        return [part[:, ids] for part in (*parts, self.position)]


def rollout(env: Environment, actions: Tensor) -> Rollout:
    start, critic = env.reset()
    command = env.state.command.clone()
    kept: list[list[Tensor]] = [[start.clone()], [critic.clone()], [], [], [], [command], []]
    ends = []
    for action in actions:
        step = env.step(action)
        now = (step.observation, step.critic_observation, step.reward, step.terminated, step.truncated)
        for into, tensor in zip(kept, (*now, env.state.command, torch.from_numpy(env.sim.qpos)), strict=True):
            into.append(tensor.clone())
        if len(step.ended):
            final = step.final_observation.clone(), step.final_critic_observation.clone()
            ends.append((step.ended.tolist(), *final))
    return Rollout(*(torch.stack(k) for k in kept), ends)


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# Determinism and independence


@every_task
def test_same_seed_same_bits_other_seed_others(name: str) -> None:
    env = make(name, 8, seed=3)
    actions = random_actions(env)
    first, again, other = (rollout(make(name, 8, seed=seed), actions) for seed in (3, 3, 4))
    assert same(first.rows(slice(None)), again.rows(slice(None)))
    assert [e[0] for e in first.ends] == [e[0] for e in again.ends]
    assert all(torch.equal(a[1], b[1]) for a, b in zip(first.ends, again.ends, strict=True))
    assert len(first.ends) > 3  # restarts were part of it
    # With another seed every simulation starts elsewhere and goes elsewhere.
    assert not torch.isclose(first.observation, other.observation).all(-1).any()


@every_task
def test_batch_size_changes_nothing(name: str) -> None:
    """Simulation i of 64 is simulation i of 8, through restarts, commands, pushes and noise.

    All bits but the reward's: torch adds the joints of a batch in an order that depends on its size, and the
    reward leads nowhere that a simulation could notice. Its terms are of size 10 at most: rounding within 1e-5.
    """
    large, small = make(name, 64), make(name, 8)
    actions = random_actions(large, 160)
    many, few = rollout(large, actions), rollout(small, actions[:, :8])
    assert (few.terminated | few.truncated).any(0).all()  # every simulation restarted at least once
    assert torch.allclose(many.reward[:, :8], few.reward, rtol=1e-6, atol=1e-5)
    many.reward[:, :8] = few.reward
    assert same(many.rows(slice(8)), few.rows(slice(None)))


@every_task
def test_thread_count_changes_nothing(name: str) -> None:
    env = make(name, 16, num_threads=1)
    actions = random_actions(env, 120)
    one, two = rollout(env, actions), rollout(make(name, 16, num_threads=2), actions)
    assert same(one.rows(slice(None)), two.rows(slice(None)))


@every_task
def test_simulations_share_no_memory(name: str) -> None:
    """Other actions in simulation 3 change its own rows and no others, over restarts and many steps."""
    env = make(name, 8)
    actions = random_actions(env, 200)
    changed = actions.clone()
    changed[5:, 3] *= -0.7
    a, b = rollout(env, actions), rollout(make(name, 8), changed)
    others = [i for i in range(8) if i != 3]
    assert same(a.rows(others), b.rows(others))
    assert (a.position[6:20, 3] != b.position[6:20, 3]).any(-1).all()  # delays are shorter than a step
    assert (a.position[6:, 3] != b.position[6:, 3]).any(-1).float().mean() > 0.9
    assert torch.equal(a.observation[:6, 3], b.observation[:6, 3])


# Values and bounds


@every_task
def test_finite_and_within_bounds(name: str) -> None:
    env = make(name, 16)
    env.reset()
    s = env.state
    driven = torch.from_numpy(env.robot.driven_index)
    strongest = 1.1 * torch.tensor(env.robot.torque_limit) + 1e-4  # motor_strength scales by at most 1.1
    for action in random_actions(env, spread=3.0):  # two thirds of these leave -1..1
        step = env.step(action)
        for tensor in (step.observation, step.critic_observation, step.reward, *step.components.values()):
            assert torch.isfinite(tensor).all()
        kept = ~(step.terminated | step.truncated)
        assert torch.equal(s.action[kept], action[kept].clamp(-1, 1))
        assert (s.action.abs() <= 1).all() and (s.previous_action.abs() <= 1).all()
        assert (s.joint_target >= s.joint_lower[driven]).all()
        assert (s.joint_target <= s.joint_upper[driven]).all()
        # float32 sums of three or four squares: a few rounding errors of 6e-8
        assert torch.allclose(s.gravity_b.norm(dim=1), torch.ones(16), atol=1e-6)
        assert torch.allclose(s.base_quaternion_w.norm(dim=1), torch.ones(16), atol=1e-6)
        assert (s.joint_torque.abs() <= strongest).all()
    # The two solver iterations of training do not converge at every hard landing: under full random actions a
    # leg is thrown beyond 100 rad/s about once in 2,000 steps on a Go1. Ten iterations: never.
    assert env.diverged_count <= 0.002 * STEPS * 16


@every_task
def test_nothing_diverges_with_a_converged_solver(name: str) -> None:
    env = Environment(brief(name), 16, reward=lambda s: {"zero": s.time_s * 0}, num_threads=1,
                      solver=SolverSettings(iterations=10, line_search_iterations=20))  # fmt: skip
    env.reset()
    fastest = 0.0
    for action in random_actions(env, 150, spread=3.0):
        env.step(action)
        fastest = max(fastest, float(env.state.joint_velocity.abs().max()))
    assert env.diverged_count == 0
    assert 1.0 < fastest < 40.0  # motors stop pushing at 30 rad/s; 25 to 30 is what landings reach


@every_task
def test_actions_beyond_the_bounds_act_as_the_bounds(name: str) -> None:
    a, b = make(name, 4), make(name, 4)
    actions = random_actions(a, 60, spread=3.0)
    assert same(rollout(a, actions).rows(slice(None)), rollout(b, actions.clamp(-1, 1)).rows(slice(None)))


@every_task
def test_reward_is_the_sum_of_its_components(name: str) -> None:
    env = make(name, 8)
    env.reset()
    ended = 0
    for action in random_actions(env, 80):
        step = env.step(action)
        # Up to 16 float32 terms of size 10 at most: rounding of 1e-6 each
        assert torch.allclose(step.reward, sum(step.components.values()), rtol=0, atol=1e-5)  # type: ignore[arg-type]
        assert torch.equal(step.components["termination"], -3.0 * step.terminated.float())
        ended += int(step.terminated.sum())
    assert ended > 0 or not env.robot.feet  # a walking robot falls under random actions; a cart cannot


# Episodes


@every_task
def test_history_starts_full_of_the_first_frame(name: str) -> None:
    env = make(name, 8)
    observation, _ = env.reset()
    size, history = env.observation.frame_size, env.observation.history

    def check(rows: Tensor) -> None:
        frames = rows.view(len(rows), history, size)
        assert torch.equal(frames, frames[:, :1].expand_as(frames))

    check(observation)
    before = observation.clone()
    restarts = 0
    for action in random_actions(env, 100):
        step = env.step(action)
        check(step.observation[step.ended])
        restarts += len(step.ended)
        running = ~(step.terminated | step.truncated)
        older, known = step.observation[running][:, :-size], before[running][:, size:]
        assert torch.equal(older, known)  # one frame further
        before = step.observation.clone()
    assert restarts


@every_task
def test_time_limit_truncates(name: str) -> None:
    task = replace(brief(name), terminated=lambda s: torch.zeros_like(s.terminated))
    env = Environment(task, 4, reward=lambda s: {"zero": s.time_s * 0}, num_threads=1)
    env.reset()
    action = torch.zeros(4, env.num_actions)
    for count in range(1, 151):
        step = env.step(action)
        assert not step.terminated.any()
        assert bool(step.truncated.all()) == (count % 75 == 0)  # 1.5 s of 0.02 s steps
        assert bool(step.truncated.any()) == bool(step.truncated.all())
        assert torch.allclose(env.state.time_s, torch.full((4,), 0.02 * (count % 75)), atol=1e-5)


@every_task
def test_failure_terminates_and_does_not_truncate(name: str) -> None:
    task = replace(brief(name), terminated=lambda s: s.time_s > 0.05)
    env = Environment(task, 3, reward=lambda s: {"zero": s.time_s * 0}, num_threads=1)
    env.reset()
    steps = [env.step(torch.zeros(3, env.num_actions)) for _ in range(3)]
    assert [bool(s.terminated.all()) for s in steps] == [False, False, True]
    assert not any(bool(s.truncated.any()) for s in steps)
    assert env.state.time_s.tolist() == [0.0, 0.0, 0.0]


@every_task
def test_final_observation_is_the_one_before_the_restart(name: str) -> None:
    """The run that never ends (same task without its end) sees at that step what final_observation says."""
    task = replace(brief(name), terminated=lambda s: (s.time_s > 0.3) & (s.time_s < 0.33))
    endless = replace(task, terminated=lambda s: torch.zeros_like(s.terminated))
    zero = {"reward": lambda s: {"zero": s.time_s * 0}, "num_threads": 1}
    a, b = Environment(task, 4, **zero), Environment(endless, 4, **zero)  # type: ignore[arg-type]
    a.reset(), b.reset()
    for action in random_actions(a, 16):
        step, reference = a.step(action), b.step(action)
    assert step.ended.tolist() == [0, 1, 2, 3] and not len(reference.ended)
    assert torch.equal(step.final_observation, reference.observation)
    assert torch.equal(step.final_critic_observation, reference.critic_observation)
    assert not torch.isclose(step.observation, step.final_observation).all(1).any()


# Memory of what is returned


@every_task
def test_later_steps_and_resets_leave_returned_tensors_alone(name: str) -> None:
    env = make(name, 4)
    first, _ = env.reset()
    kept: list[tuple[Tensor, Tensor]] = [(first, first.clone())]
    for action in random_actions(env, 90):
        step = env.step(action)
        tensors = (step.observation, step.critic_observation, step.reward, step.terminated, step.truncated,
                   step.final_observation, *step.components.values())  # fmt: skip
        kept += [(t, t.clone()) for t in tensors]
    env.reset()
    assert all(torch.equal(live, copy) for live, copy in kept)


@every_task
def test_writing_into_what_the_faces_return_changes_nothing(name: str) -> None:
    clean, spoilt = SB3VecEnv(make(name, 4)), SB3VecEnv(make(name, 4))
    a, b = clean.reset(), spoilt.reset()
    for action in random_actions(clean.environment, 90).numpy():
        assert np.array_equal(a, b)
        b[:] = np.nan
        a, reward_a, done_a, infos_a = clean.step(action)
        b, reward_b, done_b, infos_b = spoilt.step(action)
        assert np.array_equal(reward_a, reward_b) and np.array_equal(done_a, done_b)
        for info_a, info_b in zip(infos_a, infos_b, strict=True):
            if "terminal_observation" in info_a:
                assert np.array_equal(info_a["terminal_observation"], info_b["terminal_observation"])
                info_b["terminal_observation"][:] = np.nan
        reward_b[:] = np.nan
        done_b[:] = True


# Randomization over many resets


@every_task
def test_randomization_does_not_accumulate(name: str) -> None:
    """After 100 resets every model field is what the 100th draw makes of the stored defaults, to the bit."""
    task = brief(name)
    robot = get_robot(task.robot)

    def fresh() -> tuple[Simulation, Randomizer]:
        sim = Simulation(build_model(robot, ball=task.ball), robot, 6, num_threads=1)
        return sim, Randomizer(sim, task.randomization, seed=5)

    sim, randomizer = fresh()
    rng = np.random.default_rng(0)
    episode = np.full(6, -1)
    for _ in range(200):
        ids = np.flatnonzero(rng.random(6) < 0.6)
        ids = ids[episode[ids] < 99]
        if len(ids):
            episode[ids] += 1
            randomizer.reset(ids, episode[ids])
    assert episode.tolist() == [99] * 6
    once, drawn_once = fresh()
    for i in (4, 2, 0, 5, 1, 3):
        drawn_once.reset(np.array([i]), np.array([99]))

    fields = sorted({field for term in task.randomization for field in TERMS[term].fields})
    derived = ["body_subtreemass", "body_invweight0", "dof_M0", "dof_invweight0"] if fields else []
    for field in fields + derived:
        assert np.array_equal(sim.expand(field), once.expand(field)), field
    for term, value in randomizer.values.items():
        assert np.array_equal(value, drawn_once.values[term]), term
        low, high = task.randomization[term]
        assert (value >= low).all() and (value <= high).all(), term

    model, base = sim.model, sim.model.body(robot.base_body).id
    low, high = task.randomization["base_mass"]
    added = sim.expand("body_mass")[:, base] - model.body_mass[base]
    assert (added >= low).all() and (added <= high).all() and np.ptp(added) > 0.2 * (high - low)
    links = [b for b in range(1, model.nbody) if b != base and model.body(b).name != "ball"]
    scales = {"link_mass": ("body_mass", links),
              "joint_damping": ("dof_damping", sim.joint_dofs),
              "joint_friction": ("dof_frictionloss", sim.joint_dofs),
              "armature": ("dof_armature", sim.joint_dofs)}  # fmt: skip
    for term, (field, columns) in scales.items():
        if term in task.randomization:
            low, high = task.randomization[term]
            factor = sim.expand(field)[:, columns] / getattr(model, field)[columns]
            assert (factor >= low - 1e-12).all() and (factor <= high + 1e-12).all(), term


@every_task
def test_snapshot_continues_to_the_bit(name: str) -> None:
    """In a fresh environment, over restarts, pushes and new commands; the snapshot's arrays must be copied."""
    env = make(name, 6)
    actions = random_actions(env, 160)
    env.reset()
    for action in actions[:60]:
        env.step(action)
    saved = {key: np.array(value) for key, value in env.snapshot().items()}
    other = make(name, 6)
    other.reset()
    other.restore(saved)
    ended = 0
    for action in actions[60:]:
        a, b = env.step(action), other.step(action)
        ended += len(a.ended)
        assert torch.equal(a.observation, b.observation) and torch.equal(a.reward, b.reward)
        assert torch.equal(a.critic_observation, b.critic_observation)
        assert torch.equal(a.terminated, b.terminated) and torch.equal(a.truncated, b.truncated)
        assert torch.equal(a.final_observation, b.final_observation)
    assert ended
    assert env.diverged_count == other.diverged_count


# The faces


@every_task
def test_gymnasium_environment_is_a_batch_of_one(name: str) -> None:
    """Over several episodes: reset() after an end takes up the episode that the batch has already begun."""
    single = GantryEnv(name)
    batch = make_environment(name, 1, seed=7, num_threads=1)
    observation, _ = single.reset(seed=7)
    assert np.array_equal(observation, batch.reset()[0][0].numpy())
    for env in (single.environment, batch):
        env.episodes.max_steps = 60  # ends within the test
    ends = 0
    for action in random_actions(batch):
        step = batch.step(action)
        observation, reward, terminated, truncated, info = single.step(action[0].numpy())
        assert (reward, terminated, truncated) == (
            float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]))  # fmt: skip
        assert sum(info[f"reward/{c}"] for c in step.components) == pytest.approx(reward, abs=1e-5)
        if terminated or truncated:
            assert np.array_equal(observation, step.final_observation[0].numpy())
            observation, _ = single.reset()
            ends += 1
        assert np.array_equal(observation, step.observation[0].numpy())
    assert ends >= 4


@every_task
def test_gymnasium_make_gives_the_task(name: str) -> None:
    env = gymnasium.make(f"gantry/{name}-v0")
    assert isinstance(env.unwrapped, GantryEnv) and env.unwrapped.environment.task.name == name
    observation, _ = env.reset(seed=1)
    reference = make_environment(name, 1, seed=1, num_threads=1)
    assert np.array_equal(observation, reference.reset()[0][0].numpy())
    assert env.metadata["render_fps"] == 50
    env.close()


@every_task
def test_gymnasium_make_vec_steps_the_batch(name: str) -> None:
    env = gymnasium.make_vec(f"gantry/{name}-v0", num_envs=5, num_threads=1)
    assert isinstance(env.unwrapped, GantryVectorEnv)
    reference = make_environment(name, 5, seed=2, num_threads=1)
    observation, _ = env.reset(seed=2)
    assert np.array_equal(observation, reference.reset()[0].numpy())
    for actor in (env.unwrapped.environment, reference):
        actor.episodes.max_steps = 20
    for action in random_actions(reference, 45):
        observation, reward, terminated, truncated, info = env.step(action.numpy())
        step: Step = reference.step(action)
        assert np.array_equal(observation, step.observation.numpy())
        assert np.array_equal(reward, step.reward.numpy())
        assert np.array_equal(terminated, step.terminated.numpy())
        assert np.array_equal(truncated, step.truncated.numpy())
        if len(step.ended):
            ended = np.flatnonzero(info["_final_obs"])
            assert ended.tolist() == step.ended.tolist()
            assert np.array_equal(np.stack(list(info["final_obs"][ended])), step.final_observation.numpy())
        else:
            assert not info
    assert env.observation_space.contains(observation)
    assert env.action_space.shape == (5, reference.num_actions)
    env.close()


@every_task
def test_sb3_face_reports_ends(name: str) -> None:
    env, reference = SB3VecEnv(make(name, 6)), make(name, 6)
    env.reset(), reference.reset()
    for actor in (env.environment, reference):
        actor.episodes.max_steps = 15  # before most falls
    truncations = 0
    for action in random_actions(reference, 80):
        _, _, done, infos = env.step(action.numpy())
        step = reference.step(action)
        assert np.array_equal(done, (step.terminated | step.truncated).numpy())
        assert [i for i, info in enumerate(infos) if info] == step.ended.tolist()
        for row, i in enumerate(step.ended.tolist()):
            assert np.array_equal(infos[i]["terminal_observation"], step.final_observation[row].numpy())
            assert infos[i]["TimeLimit.truncated"] == bool(step.truncated[i])
            truncations += infos[i]["TimeLimit.truncated"]
    assert truncations


ALLOWED_WARNINGS = ("A Box observation space m(in|ax)imum value is",)
"""Observations have no bounds: noise and velocities have none. The action space is normalized."""


@pytest.mark.parametrize("check", ["gymnasium", "sb3"])
@every_task
def test_checkers_pass_without_warnings(name: str, check: str) -> None:
    env = gymnasium.make(f"gantry/{name}-v0").unwrapped
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for allowed in ALLOWED_WARNINGS:
            warnings.filterwarnings("ignore", message=f".*{allowed}")
        if check == "gymnasium":
            gymnasium_check_env(env, skip_render_check=True)  # tests/envs/test_rendering.py draws
        else:
            sb3_check_env(env, warn=True, skip_render_check=True)
    env.close()


def run_python(code: str) -> str:
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_import_registers_and_loads_nothing_heavy() -> None:
    found = run_python(
        "import sys, envs, gymnasium\n"
        "print(*sorted(i for i in gymnasium.registry if i.startswith('gantry/')))\n"
        "print(*(m for m in ('torch', 'mujoco', 'mjbatch', 'stable_baselines3') if m in sys.modules))"
    )
    assert found.split() == [f"gantry/{name}-v0" for name in TASKS]


def test_import_works_without_gymnasium() -> None:
    code = "import sys; sys.modules['gymnasium'] = None; import envs.robots; print(*envs.robots.names())"
    assert run_python(code).split() == ["cartpole", "go1", "go2"]
