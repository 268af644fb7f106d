"""Measures a policy on the physics sets: fitness, falls, tracking, energy, slip, with intervals over seeds."""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import run_folder
from agents.checkpoint import LoadedPolicy, load_policy
from agents.episode_table import EpisodeTable
from configs.errors import UserError
from envs import physics
from envs.environment import Environment, Step
from envs.scene import Collision
from envs.tasks.task import Task

Act = Callable[[Tensor], Tensor]
GRAVITY_M_S2 = 9.81

# 97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom, and of the normal distribution.
_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.959964


def student_t(degrees: int) -> float:
    """97.5 % quantile of Student's t. Beyond the table: Abramowitz and Stegun 26.7.5, to 0.002 there."""
    if degrees <= len(_T):
        return _T[degrees - 1]
    z = _NORMAL
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


@dataclass(frozen=True)
class Episodes:
    """One batch of episodes, each run once from its start to its end. Arrays over N episodes."""

    fitness: np.ndarray
    fallen: np.ndarray
    """bool: ended by failure."""
    diverged: np.ndarray
    """bool: the simulation broke down; such episodes are left out of every mean and reported."""
    length_s: np.ndarray
    measures: dict[str, np.ndarray]
    """Mean of each measure over the episode's judged steps, or its value at the last step; see Task."""
    foot_use: np.ndarray
    """(N, F) share of the judged steps in which each foot carries load."""


@torch.no_grad()
def run_episodes(act: Act, environment: Environment, on_step: Callable[[Step], None] | None = None) -> Episodes:
    """Runs every simulation's first episode with the policy act(observation (N, ...)) -> action (N, A).

    on_step is called with each step once it is done, such as to draw it.
    """
    task, n = environment.task, environment.num_envs
    observation, _ = environment.reset()
    alive = torch.ones(n, dtype=torch.bool)
    fitness, steps, judged_steps = torch.zeros(n), torch.zeros(n), torch.zeros(n)
    fallen, broken = torch.zeros(n, dtype=torch.bool), torch.zeros(n, dtype=torch.bool)
    sums = {name: torch.zeros(n) for name in task.measures}
    feet = torch.zeros(n, len(environment.robot.feet))
    for step_index in range(environment.episodes.max_steps):
        taken = alive.clone()

        def measure(live: Tensor = taken) -> None:
            s, weight = environment.state, live.float()
            share = 1.0 if task.fitness_share is None else task.fitness_share(s)
            fitness.add_(task.fitness_rate(s) * share * weight * ~s.terminated)
            steps.add_(weight)
            judged = weight if task.judged is None else weight * task.judged(s)
            judged_steps.add_(judged)
            for name, function in task.measures.items():
                if name in task.measured_at_end:
                    sums[name] = torch.where(live, function(s), sums[name])
                else:
                    sums[name].add_(function(s) * judged)
            feet.add_(s.foot_contact * judged[:, None])

        environment.on_measured = measure
        step = environment.step(act(observation))
        observation = step.observation
        if on_step is not None:
            on_step(step)
        fallen |= alive & step.terminated
        if step_index < environment.episodes.max_steps - 1:
            broken |= alive & step.truncated  # no time limit yet: the simulation diverged
        alive &= ~(step.terminated | step.truncated)
        if not alive.any():
            break
    environment.on_measured = None
    count = judged_steps.clamp(min=1.0)
    whole = environment.episodes.max_steps if task.fitness_share is None else 1
    return Episodes(
        fitness=(fitness / whole).numpy(),
        fallen=fallen.numpy(),
        diverged=broken.numpy(),
        length_s=(steps * environment.dt).numpy(),
        measures={n: (value if n in task.measured_at_end else value / count).numpy() for n, value in sums.items()},
        foot_use=(feet / count[:, None]).numpy(),
    )


def interval(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and 95 % confidence interval (Student's t) of one number per seed; one seed has no interval."""
    array = np.asarray(values, dtype=float)
    mean = float(array.mean())
    if len(array) < 2:
        return {"mean": mean, "low": None, "high": None}
    half = student_t(len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def summarize(task: Task, batches: Sequence[Episodes], mass_kg: float) -> dict[str, Any]:
    """What is reported of one physics set, from one batch of episodes per seed."""
    kept = [~b.diverged for b in batches]
    if not all(k.any() for k in kept):
        raise UserError("every simulation diverged; the physics set or the policy's actions are out of bounds")

    def over_seeds(pick: Callable[[Episodes], np.ndarray]) -> dict[str, Any]:
        return interval([float(pick(b)[k].mean()) for b, k in zip(batches, kept, strict=True)])

    report: dict[str, Any] = {
        "fitness": over_seeds(lambda b: b.fitness),
        "fall_rate": over_seeds(lambda b: b.fallen.astype(float)),
        "length_s": over_seeds(lambda b: b.length_s),
        "measures": {
            name: {**over_seeds(lambda b, n=name: b.measures[n]), "unit": task.measure_units.get(name, "")}  # type: ignore[misc]
            for name in task.measures
        },
        "diverged": int(sum(b.diverged.sum() for b in batches)),
    }
    if batches[0].foot_use.shape[1]:
        use = np.concatenate([b.foot_use[k] for b, k in zip(batches, kept, strict=True)]).mean(0)
        report["foot_use"] = [float(x) for x in use]
    if {"power", "speed"} <= set(task.measures):
        weight = mass_kg * GRAVITY_M_S2
        means = [(b.measures["power"][k].mean(), b.measures["speed"][k].mean())
                 for b, k in zip(batches, kept, strict=True)]  # fmt: skip
        report["cost_of_transport"] = interval(
            [float(power) / (weight * max(float(speed), 1e-6)) for power, speed in means]
        )
    return report


def evaluate(
    act: Act,
    task: Task,
    sets: Sequence[str] = physics.SETS[:3],
    *,
    episodes: int = 256,
    seeds: Sequence[int] = (1000, 1001, 1002),
    collision: Collision = "full",
    threads: int = 0,
    progress: Callable[[str], None] = lambda text: None,
    gather: EpisodeTable | None = None,
) -> dict[str, Any]:
    """Fitness and measures on the physics sets, `episodes` episodes for each seed. JSON-ready.

    gather: takes the single episodes, with the physics that each drew.
    """
    report: dict[str, Any] = {
        "task": task.name, "physics_hash": physics.digest(task), "episodes": episodes, "seeds": [int(s) for s in seeds],
        "fitness_threshold": task.fitness_threshold, "sets": {},
    }  # fmt: skip
    for name in sets:
        batches, mass = [], 0.0
        for seed in seeds:
            progress(f"{name}, seed {seed}")
            environment = physics.build(task, name, episodes, seed, collision=collision, num_threads=threads)
            mass = float(environment.sim.model.body_mass.sum())
            batches.append(run_episodes(act, environment))
            if gather is not None:
                gather.add(name, environment, batches[-1])
        report["sets"][name] = summarize(task, batches, mass)
    return report


def table(report: Mapping[str, Any]) -> Any:
    """The report as a table for a terminal (rich): a row a figure, a column a physics set."""
    from rich.table import Table

    shown = Table(title=f"{report['task']}: {len(report['seeds'])} x {report['episodes']} episodes a set")
    shown.add_column("")
    for set_name in report["sets"]:
        shown.add_column(set_name, justify="right")
    results = list(report["sets"].values())
    for name in ["fitness", "fall_rate", *results[0]["measures"]]:
        cells = [result.get(name) or result["measures"].get(name) for result in results]
        shown.add_row(name.replace("_", " "), *("" if cell is None else _cell(cell) for cell in cells))
    return shown


def _cell(value: Mapping[str, Any]) -> str:
    spread = "" if value["low"] is None else f" ±{(value['high'] - value['low']) / 2:.2g}"
    return f"{value['mean']:.3g}{spread} {value.get('unit', '')}".rstrip()


def evaluate_run(loaded: LoadedPolicy, sets: Sequence[str], **options: Any) -> dict[str, Any]:
    """Evaluates a run's policy and writes evaluation.json into its folder, keeping sets measured before.

    The single episodes go into episodes.json beside it.
    """
    torch.set_num_threads(1)
    episodes = EpisodeTable()
    report = evaluate(loaded.act, loaded.task, sets, gather=episodes, **options)
    episodes.write(loaded.run, report)
    path = loaded.run / "evaluation.json"
    if path.is_file():
        before = run_folder.read_json(path)
        same = all(before.get(k) == report[k] for k in ("physics_hash", "episodes", "seeds"))
        if same:
            report["sets"] = {**before.get("sets", {}), **report["sets"]}
    run_folder.write_atomically(path, json.dumps(report, indent=1) + "\n")
    return report


def main() -> None:
    """`gantry evaluate RUN`"""
    parser = argparse.ArgumentParser(prog="gantry evaluate", description="Measure a run's policy on the physics sets.")
    parser.add_argument("run", type=Path)
    parser.add_argument(
        "--sets", default=",".join(physics.SETS[:3]), help="comma-separated, of " + ", ".join(physics.SETS)
    )
    parser.add_argument("--episodes", type=int, default=256, help="episodes of each seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds")
    parser.add_argument("--threads", type=int, default=0, help="cores; 0 means all")
    arguments = parser.parse_args()
    if arguments.episodes < 1 or arguments.seeds < 1:
        raise UserError("--episodes and --seeds must be at least 1")
    from rich.console import Console

    console = Console()
    loaded = load_policy(arguments.run)
    with console.status("evaluating") as status:
        report = evaluate_run(
            loaded, arguments.sets.split(","), episodes=arguments.episodes,
            seeds=range(1000, 1000 + arguments.seeds), threads=arguments.threads,
            progress=lambda text: status.update(f"evaluating: {text}"),
        )  # fmt: skip
    console.print(table(report))
    console.print(f"written to {arguments.run / 'evaluation.json'}")
