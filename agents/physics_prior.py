"""`gantry prior RUN`: which physics a policy survives, one parameter at a time (the reward-aware physics prior).

After DrEureka (Ma, Liang et al. 2024, section 3.3): parameters are set to a list of values while everything else stays
nominal, and the lowest and highest values at which the policy still succeeds bound what a model may randomize. Here all
of them run as one batch; success is the task's own fitness threshold; the edges between success and failure are
bisected; and every value has enough episodes for an interval. agents/prior_terms.py says what is scanned,
agents/prior_batch.py how it is run, agents/prior_edges.py how edges are found.

physics_prior.json in the run's folder:
    format, task, run, fitness_threshold, needed_share (of a value's episodes), episodes, episode_s, seed, collision,
    push_every_s, gravity_every_s, physics_hash, policy_sha256, digest (of all results and settings, not of times)
    terms: {term: {unit, operation, meaning, neutral, bounds, symmetric (a value v stands for -v to v),
        range ([low, high] in which the policy survives; null where it fails at neutral),
        limited ([below, above]: false where success goes on to the bound), values: [{value, successes, episodes,
        share, low, high}] (95 % intervals)}}
    scan_seconds, bisection_seconds, rounds, simulations, env_steps, threads, versions, git_commit, machine, created
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import prior_terms, run_folder
from agents.checkpoint import LoadedPolicy, load_policy
from agents.prior_batch import GRAVITY_EVERY_S, PUSH_EVERY_S, Point, Trial, run_points
from agents.prior_edges import Curve, refine, scan
from configs.errors import UserError
from envs import physics
from envs.environment import Step
from envs.randomization import TERMS
from envs.scene import Collision
from envs.tasks.task import Task

FILE = "physics_prior.json"
FORMAT = 1
SEED = 3000
"""Far from the seeds of trainings (0 and up), finals (1,000), comparisons (5,000) and tables (7,000)."""
PUSH_INTERVAL_S = (5.0, 15.0)
"""When pushes come in training, for tasks whose own ranges do not say."""


@dataclass(frozen=True)
class Settings:
    """How a prior is measured."""

    terms: tuple[str, ...] = ()
    """Empty: all that apply to the task."""
    values: int = prior_terms.VALUES
    episodes: int = 32
    """Of each value."""
    seconds: float = 10.0
    """Longest episode."""
    threshold: float | None = None
    """Fitness from which an episode is a success; None: the task's own."""
    needed_share: float = 0.5
    """Of a value's episodes, to count as survived."""
    seed: int = SEED
    threads: int = 0
    collision: Collision | None = None
    """What may touch what; None: as in the policy's training."""

    def check(self) -> None:
        """Raises UserError for what makes no sense."""
        if self.episodes < 1 or not self.seconds > 0:
            raise UserError(f"episodes={self.episodes}, seconds={self.seconds}; both must be positive")
        if not 0 < self.needed_share <= 1:
            raise UserError(f"needed_share={self.needed_share}; valid: above 0, up to 1")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UserError(f"threshold={self.threshold}; valid: a fitness above 0, up to 1")


def measure(
    loaded: LoadedPolicy, settings: Settings, progress: Callable[[str, float], None] = lambda what, share: None
) -> dict[str, Any]:
    """A policy's prior, in the form of physics_prior.json.

    Args:
        loaded: the policy.
        settings: how it is measured.
        progress: told what is done, and which share of it.

    Raises:
        UserError: settings that make no sense.
    """
    settings.check()
    task = loaded.task
    names = prior_terms.choose(task, settings.terms)
    threshold = task.fitness_threshold if settings.threshold is None else settings.threshold
    trial = Trial.of(
        task, settings.seconds, episodes=settings.episodes, seed=settings.seed, threads=settings.threads,
        collision=_collision(settings, loaded), threshold=threshold,
    )  # fmt: skip
    ran = {"simulations": 0, "env_steps": 0}

    def run(points: Sequence[Point]) -> list[int]:
        what = f"{len(points)} values x {settings.episodes} episodes"
        steps, all_steps = 0, round(trial.task.episode_length_s / loaded.robot.control_dt_s)

        def on_step(step: Step) -> None:
            nonlocal steps
            steps += 1
            progress(what, steps / all_steps)

        ran["simulations"] += len(points) * settings.episodes
        results = run_points(loaded.act, points, trial, on_step)
        ran["env_steps"] += sum(r.env_steps for r in results)
        return [result.successes(threshold) for result in results]

    began = time.perf_counter()
    grids = {name: (TERMS[name].neutral, prior_terms.grid(name, settings.values)) for name in names}
    curves = scan(grids, settings.episodes, run)
    scanned = time.perf_counter()
    rounds = refine(curves, settings.needed_share, settings.episodes, run)
    content: dict[str, Any] = {
        "format": FORMAT, "task": task.name, "run": loaded.run.name, "fitness_threshold": threshold,
        "needed_share": settings.needed_share, "episodes": settings.episodes,
        "episode_s": trial.task.episode_length_s, "seed": settings.seed, "collision": trial.collision,
        "push_every_s": PUSH_EVERY_S, "gravity_every_s": GRAVITY_EVERY_S, "physics_hash": physics.digest(task),
        "policy_sha256": _policy_sha256(loaded),
        "terms": {name: _term(curve, settings.needed_share) for name, curve in curves.items()},
    }  # fmt: skip
    content["digest"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
    return content | ran | {
        "scan_seconds": round(scanned - began, 2), "bisection_seconds": round(time.perf_counter() - scanned, 2),
        "rounds": rounds, "threads": settings.threads or os.cpu_count(), "versions": run_folder.versions(),
        "git_commit": run_folder.git_commit(), "machine": run_folder.machine(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }  # fmt: skip


def _policy_sha256(loaded: LoadedPolicy) -> str:
    """Of the weights; a checkpoint's file differs with its time."""
    digest = hashlib.sha256()
    for name, value in sorted(loaded.policy.state_dict().items()):
        digest.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _term(curve: Curve, needed: float) -> dict[str, Any]:
    term, name = TERMS[curve.term], curve.term
    survived = curve.survived(needed)
    values = []
    for m in curve.values():
        low, high = m.interval
        values.append({"value": m.value, "successes": m.successes, "episodes": m.episodes,
                       "share": round(m.share, 4), "low": round(low, 4), "high": round(high, 4)})  # fmt: skip
    limited = [curve.bracket(direction, needed)[1] is not None for direction in (-1, 1)]
    return {
        "unit": term.unit, "operation": term.operation, "meaning": term.meaning, "neutral": term.neutral,
        "bounds": list(prior_terms.bounds(name)), "symmetric": prior_terms.symmetric(name),
        "range": None if survived is None else list(survived), "limited": limited, "values": values,
    }  # fmt: skip


def write(run: Path, content: Mapping[str, Any]) -> Path:
    """RUN/physics_prior.json."""
    path = run / FILE
    run_folder.write_atomically(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return path


def read(run: Path) -> dict[str, Any]:
    """A run's prior. Raises UserError where there is none, or it is damaged or of another version."""
    if not (run / FILE).is_file():
        raise UserError(f"{run} holds no {FILE}; measure it first: gantry prior {run}")
    content = run_folder.read_json(run / FILE)
    if content.get("format") != FORMAT or not isinstance(content.get("terms"), dict):
        raise UserError(f"{run / FILE} is not of format {FORMAT}; measure it again: gantry prior {run}")
    return content


def answers(content: Mapping[str, Any], settings: Settings, loaded: LoadedPolicy) -> bool:
    """Whether a prior is what `measure` would find, its seed and grid apart."""
    asked = {
        "policy_sha256": _policy_sha256(loaded), "physics_hash": physics.digest(loaded.task),
        "fitness_threshold": loaded.task.fitness_threshold if settings.threshold is None else settings.threshold,
        "needed_share": settings.needed_share, "episodes": settings.episodes,
        "episode_s": min(settings.seconds, loaded.task.episode_length_s), "collision": _collision(settings, loaded),
    }  # fmt: skip
    names = prior_terms.choose(loaded.task, settings.terms)
    return list(content["terms"]) == list(names) and all(content.get(key) == value for key, value in asked.items())


def _collision(settings: Settings, loaded: LoadedPolicy) -> Collision:
    found: Collision = settings.collision or loaded.config.get("collision", "feet")
    return found


def surviving_ranges(content: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    """The prior as randomization ranges, without the interval between pushes.

    A parameter that the policy survives at its nominal value alone is left out: there is nothing to draw.

    Raises:
        UserError: the policy fails on nominal physics already, so there is no range that it survives.
    """
    found = {}
    for name, term in content["terms"].items():
        if term["range"] is None:
            share = next(v["share"] for v in term["values"] if v["value"] == term["neutral"])
            raise UserError(
                f"the policy reaches fitness {content['fitness_threshold']:g} in {share:.0%} of its episodes on "
                f"nominal physics, and {content['needed_share']:.0%} are needed; train it longer, or lower the "
                "threshold"
            )
        low, high = term["range"]
        if low < high:
            found[name] = (-high, high) if term["symmetric"] else (low, high)
    return found


def with_push_interval(ranges: Mapping[str, tuple[float, float]], task: Task) -> dict[str, tuple[float, float]]:
    """Ranges that training takes: pushes need to be told when they come."""
    if "push_interval" in ranges or not any(name.endswith("push_velocity") for name in ranges):
        return dict(ranges)
    return {**ranges, "push_interval": task.randomization.get("push_interval", PUSH_INTERVAL_S)}


def table(content: Mapping[str, Any]) -> Any:
    """For a terminal (rich): a row a parameter."""
    from rich.table import Table

    shown = Table(
        title=f"{content['task']}: physics that the policy survives (fitness {content['fitness_threshold']:g} in "
        f"{content['needed_share']:.0%} of {content['episodes']} episodes)"
    )
    for column in ("parameter", "nominal", "from", "to", "unit", "scanned"):
        shown.add_column(column, justify="left" if column in ("parameter", "unit") else "right")
    for name, term in content["terms"].items():
        cells = ("fails", "at nominal") if term["range"] is None else tuple(
            f"{value:.4g}" + ("" if limited else " (bound)")
            for value, limited in zip(term["range"], term["limited"], strict=True)
        )  # fmt: skip
        low, high = term["bounds"]
        shown.add_row(name, f"{term['neutral']:g}", *cells, term["unit"], f"{low:g} to {high:g}")
    return shown


def main() -> None:
    """`gantry prior RUN`"""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    default = Settings()
    parser = argparse.ArgumentParser(
        prog="gantry prior", description="Find the physics that a run's policy survives, one parameter at a time."
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--terms", default="", help="comma-separated; by default all that apply to the task")
    parser.add_argument("--values", type=int, default=default.values, help="of each parameter, before bisection")
    parser.add_argument("--episodes", type=int, default=default.episodes, help="of each value")
    parser.add_argument("--seconds", type=float, default=default.seconds, help="longest episode")
    parser.add_argument("--threshold", type=float, help="fitness that counts as success; by default the task's")
    parser.add_argument("--share", type=float, default=default.needed_share, help="of a value's episodes that succeed")
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--threads", type=int, default=0, help="cores; 0 means all")
    parser.add_argument("--collision", choices=("feet", "ground", "full"), help="by default as in its training")
    options = parser.parse_args()
    settings = Settings(
        terms=tuple(name for name in options.terms.split(",") if name), values=options.values,
        episodes=options.episodes, seconds=options.seconds, threshold=options.threshold, needed_share=options.share,
        seed=options.seed, threads=options.threads, collision=options.collision,
    )  # fmt: skip
    loaded = load_policy(options.run)
    console = Console()
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("", total=1.0)
        content = measure(loaded, settings, lambda what, share: bar.update(shown, description=what, completed=share))
    path = write(options.run, content)
    console.print(table(content))
    console.print(
        f"scan {content['scan_seconds']:.0f} s, bisection {content['bisection_seconds']:.0f} s in {content['rounds']} "
        f"rounds; written to {path}", highlight=False, soft_wrap=True,
    )  # fmt: skip
    surviving_ranges(content)


if __name__ == "__main__":
    main()
