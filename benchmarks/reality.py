"""What stands for reality in the transfer benchmark: there is no lab here, so it is strict, and every figure says so.

Two parts. *Report physics*: the task's held-out `report` set (other integrator, elliptic cones, stiction, parameters
outside of every training range, biased sensors), in batches. *The simulated robot*: `gantry robot`, another process
with other simulator settings, motors, sensors and delays, behind the real robot's protocol, on draws of the same set.

How many of the set's parameters are off at once is its severity, the same in both parts. It is fixed before any arm
runs, by a policy of its own (human ranges, a seed that no arm has), so that this policy finishes the 5 m in 50 to 80 %
of its runs: then there is room both ways. Seeds come from ranges that no other stage of the project draws from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.checkpoint import LoadedPolicy
from agents.evaluate import Act, Episodes, run_episodes
from configs.errors import UserError
from envs import physics
from envs.environment import Environment
from envs.physics import no_reward
from envs.tasks.task import Task
from sim2real import transfer_tour
from sim2real.commands import State
from sim2real.log import read_log
from sim2real.tour import read_truth

CALIBRATION_SEED, SEED, ROBOT_SEED = 800_000, 900_000, 950_000
FINISHING = (0.5, 0.8)
"""Share of the calibrating policy's runs that reach the end of the track."""
TARGET_M_S, TRACK_M = 2.0, transfer_tour.DASH_M


def environment(task: Task, severity: int | None, episodes: int, seed: int, threads: int = 0) -> Environment:
    """Report physics with that many parameters off at once; None: as many as the set says."""
    chosen = physics.physics_set(task, "report")
    return Environment(
        task, episodes, reward=no_reward, seed=seed, randomization=chosen.ranges, shifts=chosen.shifts,
        at_once=chosen.at_once if severity is None else severity, terrain=chosen.terrain, collision="full",
        solver=chosen.solver, stiction=chosen.stiction, num_threads=threads,
    )  # fmt: skip


def episodes_of(
    act: Act, task: Task, severity: int | None, episodes: int, seed: int = SEED, threads: int = 0
) -> Episodes:
    """Episodes of a policy in report physics."""
    torch.set_num_threads(1)
    return run_episodes(act, environment(task, severity, episodes, seed, threads))


def most_severe(task: Task) -> int:
    """How many parameters the set can shift."""
    return len(physics.physics_set(task, "report").shifts)


def on_track(
    loaded: LoadedPolicy, severity: int, episodes: int, seed: int = SEED, threads: int = 0
) -> dict[str, float]:
    """A dash in report physics: means over the episodes."""
    done = episodes_of(loaded.act, loaded.task, severity, episodes, seed, threads)
    kept = ~done.diverged
    mean = lambda values: float(values[kept].mean())  # noqa: E731
    return {
        "velocity_m_s": mean(done.measures["forward_velocity"]), "metres": mean(done.measures["distance"]),
        "error_m_s": mean(done.measures["velocity_error"]), "falls": mean(done.fallen.astype(float)),
        "finished": mean(done.measures["finished"]), "diverged": float(done.diverged.sum()),
    }  # fmt: skip


def seconds_on_ball(act: Act, task: Task, episodes: int, seed: int = SEED, threads: int = 0) -> dict[str, float]:
    """How long a policy stays on the ball in report physics."""
    done = episodes_of(act, task, None, episodes, seed, threads)
    seconds = done.measures["seconds"][~done.diverged]
    return {"seconds": float(seconds.mean()), "std": float(seconds.std()), "diverged": float(done.diverged.sum())}


def frozen(num_actions: int) -> Act:
    """The home pose, whatever happens."""
    return lambda observation: Tensor(torch.zeros(len(observation), num_actions))


def robot_dash(bundle: Path, severity: int, seed: int, folder: Path) -> dict[str, Any]:
    """One dash of the simulated robot over DDS, in real time, by the robot's own record, as far as the track's end.

    The command lasts beyond that (sim2real/transfer_tour.py), and falls count wherever they happen.
    """
    row = transfer_tour.tour(bundle, "report", seed, folder, shifts=severity)
    truth, log = read_truth(folder / "truth.jsonl"), read_log(folder / "run.mcap")
    decisions, commands = log.messages.get("/decision", []), log.messages.get("/command", [])
    running = [
        time_s
        for time_s, decision, command in zip(log.times_s["/command"], decisions, commands, strict=False)
        if decision["state"] == State.RUNNING and command["command"][0] > 0
    ]
    within = (truth.time_s >= running[0]) & (truth.time_s <= running[-1]) if running else np.zeros(0, bool)
    if within.sum() < 2:
        return {"velocity_m_s": 0.0, "metres": 0.0, "error_m_s": TARGET_M_S, "falls": float(row["falls"] > 0),
                "finished": 0.0, "seed": seed, "damped_for": row["damped_for"]}  # fmt: skip
    heading = truth.heading[within][0]
    along_m = (truth.position_w[within] - truth.position_w[within][0])[:, :2] @ (np.cos(heading), np.sin(heading))
    past = np.flatnonzero(along_m >= TRACK_M)
    last = int(past[0]) + 1 if len(past) else len(along_m)
    velocity = np.gradient(along_m[:last], truth.time_s[within][:last])
    return {
        "velocity_m_s": float(velocity.mean()), "metres": float(np.clip(along_m[last - 1], 0.0, TRACK_M)),
        "error_m_s": float(np.abs(velocity - TARGET_M_S).mean()), "falls": float(row["falls"] > 0),
        "finished": float(len(past) > 0), "seed": seed, "damped_for": row["damped_for"],
    }  # fmt: skip


def choose_severity(shares: Sequence[float], given: int | None = None) -> tuple[int, bool]:
    """(severity, whether its share lies within FINISHING): the one given, or whose share is nearest the middle.

    shares: of each severity, from 0, how many of the calibrating policy's runs finish.

    Raises UserError for a given one at which that share is not within.
    """
    middle = sum(FINISHING) / 2
    within = [severity for severity, share in enumerate(shares) if FINISHING[0] <= share <= FINISHING[1]]
    if given is not None and given not in within:
        raise UserError(f"severity={given}; valid, with {FINISHING[0]:.0%} to {FINISHING[1]:.0%} finishing: {within}")
    best = given if given is not None else min(range(len(shares)), key=lambda s: abs(shares[s] - middle))
    return best, best in within
