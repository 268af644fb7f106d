"""How much of raw physics speed the whole environment keeps, and how it compares with one process per simulation.

    python -m benchmarks.throughput [--rounds 7] [--quick]

Raw physics: the same model, initial states, batch size and recorded controls, stepped by mjbatch with four physics
steps a call and only qpos, qvel and ctrl bound. The environment: randomization, delay, noise, observations, rewards
and resets on top. Both are timed in turns within one run, in short slices, and the ratio is the median over rounds
of the slices' ratio, so that a busy moment of the machine hits both sides.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import mujoco
import numpy as np
import torch
from mjbatch import Batch
from stable_baselines3.common.vec_env import SubprocVecEnv

from agents.ppo import TensorPPO
from benchmarks.report import finish, peak_memory_gb
from configs.schema import PPO
from envs import tasks
from envs.environment import Environment
from envs.vec_env import GantryEnv, SB3VecEnv, make_environment

NUM_ENVS = 1024


Snapshot = dict[str, np.ndarray]


def record_controls(environment: Environment, steps: int) -> tuple[Snapshot, list[np.ndarray], list[torch.Tensor]]:
    """Where a stretch of gentle random motion starts, its controls and its actions.

    It starts with the batch a control step into its episodes, which are staggered, so that some end in each step.
    """
    environment.reset(stagger=True)
    environment.step(torch.zeros(environment.num_envs, environment.num_actions))
    start = {name: array.copy() for name, array in environment.snapshot().items()}
    generator = torch.Generator().manual_seed(0)
    controls, actions = [], []
    for _ in range(steps):
        actions.append(0.15 * torch.randn(environment.num_envs, environment.num_actions, generator=generator))
        environment.step(actions[-1])
        controls.append(environment.sim.ctrl.copy())
    return start, controls, actions


def raw_stepper(
    model: mujoco.MjModel, rows: np.ndarray, controls: list[np.ndarray], substeps: int
) -> Callable[[], None]:
    """One call replays the recorded stretch on bare mjbatch."""
    batch = Batch(model, len(rows))
    state, ctrl = batch.bind("state"), batch.bind("ctrl")
    batch.bind("qpos")
    batch.bind("qvel")

    def run() -> None:
        state[:] = rows
        for values in controls:
            ctrl[:] = values
            batch.step(nstep=substeps)

    return run


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def subprocess_rate(task: str, processes: int, steps: int) -> float:
    """Environment steps a second of SB3's SubprocVecEnv over single Gymnasium environments of the task."""
    env = SubprocVecEnv([lambda: GantryEnv(task) for _ in range(processes)])
    env.reset()
    action = np.zeros((processes, *env.action_space.shape), dtype=np.float32)
    env.step(action)
    took = seconds(lambda: [env.step(action) for _ in range(steps)])
    env.close()
    return processes * steps / took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=40, help="control steps a slice")
    parser.add_argument("--no-subproc", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    task = tasks.get("go2-walk")
    environment = make_environment("go2-walk", NUM_ENVS, seed=1)
    start, controls, actions = record_controls(environment, arguments.steps)
    raw = raw_stepper(environment.sim.model, start["rows"], controls, environment.sim.substeps)

    def timed_full() -> float:
        environment.restore(start)
        return seconds(lambda: [environment.step(a) for a in actions])

    timed_full()
    raw()
    raw_s, full_s = [], []
    for _ in range(arguments.rounds):
        raw_s.append(seconds(raw))
        full_s.append(timed_full())
    steps = NUM_ENVS * arguments.steps
    ratios = [r / f for r, f in zip(raw_s, full_s, strict=True)]
    figures = {
        "num_envs": NUM_ENVS,
        "raw_physics_steps_per_s": round(steps / statistics.median(raw_s)),
        "env_steps_per_s": round(steps / statistics.median(full_s)),
        "ratio_to_physics": round(statistics.median(ratios), 3),
        "ratio_to_physics_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }

    learned = training_rate(arguments.rounds)
    figures |= learned
    figures["peak_memory_gb"] = round(peak_memory_gb(), 2)
    if not arguments.no_subproc:
        cores = os.cpu_count() or 1
        rates = [subprocess_rate("go2-walk", n, 150) for n in (cores, 4 * cores, 16 * cores)]
        figures["subproc_steps_per_s"] = round(max(rates))
        figures["ratio_to_subproc"] = round(figures["env_steps_per_s"] / max(rates), 2)
    finish("throughput", figures, task)


def training_rate(rounds: int) -> dict[str, float]:
    """Training with learning against the environment alone, with the default learner's settings."""
    settings = PPO()
    environment = make_environment("go2-walk", settings.num_envs, seed=2)
    env = SB3VecEnv(environment)
    ppo = TensorPPO(
        env, seed=0, n_steps=settings.n_steps, n_epochs=settings.n_epochs,
        num_minibatches=settings.num_minibatches, learning_threads=os.cpu_count() or 1,
        policy_kwargs={"actor_hidden": settings.actor_hidden, "critic_hidden": settings.critic_hidden},
    )  # fmt: skip
    from stable_baselines3.common.logger import Logger

    ppo.set_logger(Logger(None, []))
    ratios, rates = [], []

    def alone_steps() -> None:
        for action in 0.15 * torch.randn(ppo.n_steps, settings.num_envs, environment.num_actions):
            environment.step(action)

    ppo.iterate()
    for _ in range(rounds):
        alone = seconds(alone_steps)
        whole = seconds(ppo.iterate)
        ratios.append(alone / whole)
        rates.append(settings.num_envs * ppo.n_steps / whole)
    return {
        "training_steps_per_s": round(statistics.median(rates)),
        "training_ratio": round(statistics.median(ratios), 3),
    }


if __name__ == "__main__":
    main()
