"""What the training physics' speed costs in accuracy, against a converged reference.

    python -m benchmarks.physics RUN [--sims 64] [--seconds 10] [--episodes 512]

A trained policy walks in the reference: 0.5 ms steps, many solver iterations, full collision geometry, randomized.
Every 0.1 s a simulation with the training physics starts from the reference's state, with the same per-simulation
parameters and the same control history, and runs 0.1 s under the same controls; where it ends is compared. Then the
policy's fall rates in both physics are compared over the same episodes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from agents.checkpoint import LoadedPolicy, load_policy
from agents.evaluate import run_episodes
from benchmarks.report import finish
from envs.environment import Environment
from envs.physics import no_reward
from envs.scene import REFERENCE, Collision, SolverSettings

WINDOW_STEPS = 5
"""0.1 s of control steps."""


def make(loaded: LoadedPolicy, sims: int, seed: int, solver: SolverSettings, collision: Collision) -> Environment:
    return Environment(loaded.task, sims, reward=no_reward, seed=seed, solver=solver, collision=collision)


def history_values(controls: list[np.ndarray], samples: int, substeps: int) -> np.ndarray:
    """(N, nu, samples) what a control history of physics steps holds, oldest first, after these control steps."""
    steps_ago = (np.arange(samples, 0, -1) - 1) // substeps + 1
    return np.stack([controls[-min(int(ago), len(controls))] for ago in steps_ago], -1)


@torch.no_grad()
def window_errors(loaded: LoadedPolicy, sims: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Joint errors [rad] and base position errors [m] at the ends of all windows."""
    reference = make(loaded, sims, 9_000, REFERENCE, "full")
    trained = make(loaded, sims, 9_000, SolverSettings(), loaded.config["collision"])
    observation, _ = reference.reset()
    trained.reset()  # the same seed and episode: the same draws of every model field
    joint_errors: list[np.ndarray] = []
    base_errors: list[np.ndarray] = []
    controls: list[np.ndarray] = []
    alive = np.ones(sims, dtype=bool)
    a, b = reference.sim, trained.sim
    slots = b.history_columns.shape[1]
    for step in range(round(seconds / reference.dt)):
        if step >= 10 and (step - 10) % WINDOW_STEPS == 0:
            rows = b.initial_rows(a.qpos, a.qvel, controls[-1])
            rows[:, b.history_columns] = history_values(controls, slots, b.substeps)
            b.rows[:] = rows
        result = reference.step(loaded.act(observation))
        observation = result.observation
        alive[result.ended.numpy()] = False  # a restarted episode has other physics in the two
        controls = [*controls[-8:], a.ctrl.copy()]
        b.ctrl[:] = a.ctrl
        b.step()
        if step >= 10 and (step - 10) % WINDOW_STEPS == WINDOW_STEPS - 1:
            difference = b.qpos[alive] - a.qpos[alive]
            joint_errors.append(np.abs(difference[:, a.joint_qpos]).ravel())
            base_errors.append(np.linalg.norm(difference[:, :3], axis=1))
    return np.concatenate(joint_errors), np.concatenate(base_errors)


def fall_rate(loaded: LoadedPolicy, episodes: int, solver: SolverSettings, collision: Collision) -> float:
    environment = make(loaded, episodes, 9_100, solver, collision)
    return float(run_episodes(loaded.act, environment).fallen.mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sims", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--episodes", type=int, default=512)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_policy(arguments.run)
    joint, base = window_errors(loaded, arguments.sims, arguments.seconds)
    training = fall_rate(loaded, arguments.episodes, SolverSettings(), loaded.config["collision"])
    reference = fall_rate(loaded, arguments.episodes, REFERENCE, "full")
    figures = {
        "joint_error_rad": round(float(np.median(joint)), 5),
        "joint_error_p95_rad": round(float(np.percentile(joint, 95)), 5),
        "base_error_mm": round(float(np.median(base)) * 1e3, 3),
        "base_error_p95_mm": round(float(np.percentile(base, 95)) * 1e3, 3),
        "windows": len(base),
        "fall_rate_training_physics": round(training, 4),
        "fall_rate_reference": round(reference, 4),
        "fall_rate_difference": round(reference - training, 4),
        "episodes": arguments.episodes,
    }
    finish("physics", figures, loaded.task)


if __name__ == "__main__":
    main()
