"""What the physics prior costs: one batch of everything against one process a value, itself batched.

    python -m benchmarks.transfer_prior RUN [--sample 26] [--out FILE]

The scan: 13 parameters (DrEureka's list), 11 values each, 32 episodes of 10 s a value, then bisection. The comparison:
a fresh process for each (parameter, value), which loads the policy and runs the same 32 episodes as one batch; as many
at a time as there are cores, one thread each. `--sample` draws so many of the 143 values at random and scales their
time up; 0 runs all. Prints JSON on its last line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agents import prior_terms
from agents.checkpoint import load_policy
from agents.physics_prior import SEED, Settings, measure, surviving_ranges
from agents.prior_batch import Point, Trial, run_points
from agents.run_folder import write_atomically
from benchmarks.report import finish, peak_memory_gb

PARAMETERS = ("friction", "restitution", "base_mass", "center_of_mass", "motor_strength", "kp", "kd", "joint_stiffness",
              "joint_damping", "joint_friction", "armature", "push_velocity", "gravity")  # fmt: skip
EPISODES, SECONDS = 32, 10.0


def one_value(run: Path, term: str, value: float) -> None:
    """What a process of the comparison does: prints how many episodes succeed."""
    loaded = load_policy(run)
    threshold = loaded.task.fitness_threshold
    trial = Trial.of(
        loaded.task, SECONDS, episodes=EPISODES, seed=SEED, threads=1, threshold=threshold,
        collision=loaded.config["collision"],
    )  # fmt: skip
    [result] = run_points(loaded.act, [Point(term, value)], trial)
    print(json.dumps({"successes": result.successes(threshold)}))


def one_process_a_value(run: Path, points: list[Point], sample: int) -> dict[str, Any]:
    """Wall time [s] of the comparison, and what it found."""
    chosen = points if not sample else random.Random(0).sample(points, min(sample, len(points)))

    def ask(point: Point) -> int:
        command = [sys.executable, "-m", "benchmarks.transfer_prior", str(run), "--one", point.term, repr(point.value)]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        return int(json.loads(done.stdout.splitlines()[-1])["successes"])

    cores = len(os.sched_getaffinity(0))
    began = time.perf_counter()
    with ThreadPoolExecutor(cores) as pool:
        successes = list(pool.map(ask, chosen))
    seconds = time.perf_counter() - began
    return {
        "measured_seconds": round(seconds, 1), "values_run": len(chosen), "values": len(points), "processes": cores,
        "seconds": round(seconds * len(points) / len(chosen), 1),
        "successes": {f"{p.term}={p.value:g}": n for p, n in zip(chosen, successes, strict=True)},
    }  # fmt: skip


def compare(run: Path, sample: int) -> dict[str, Any]:
    """Figures of the prior and of the comparison."""
    loaded = load_policy(run)
    content = measure(loaded, Settings(terms=PARAMETERS, episodes=EPISODES, seconds=SECONDS))
    ranges = surviving_ranges(content)
    points = [Point(name, value) for name in PARAMETERS for value in prior_terms.grid(name)]
    alone = one_process_a_value(run, points, sample)
    scanned = {
        f"{name}={v['value']:g}": v["successes"] for name, term in content["terms"].items() for v in term["values"]
    }
    differ = {key: [scanned[key], n] for key, n in alone.pop("successes").items() if abs(scanned[key] - n) > 1}
    return {
        "prior_seconds": content["scan_seconds"], "bisection_seconds": content["bisection_seconds"],
        "bisection_rounds": content["rounds"], "prior_speedup": round(alone["seconds"] / content["scan_seconds"], 2),
        "parameters": len(PARAMETERS), "values": prior_terms.VALUES, "episodes": EPISODES, "episode_s": SECONDS,
        "simulations": content["simulations"], "env_steps": content["env_steps"], "one_process_a_value": alone,
        # Policies on a batch of another size round differently, so single episodes may end otherwise.
        "values_that_differ_by_more_than_one_episode": differ, "ranges": ranges, "digest": content["digest"],
        "run": loaded.run.name, "policy_sha256": content["policy_sha256"][:12],
        "peak_memory_gb": round(peak_memory_gb(), 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--sample", type=int, default=26, help="values that the comparison runs; 0: all")
    parser.add_argument("--out", type=Path, help="also write the figures there, for benchmarks.transfer")
    parser.add_argument("--one", nargs=2, metavar=("TERM", "VALUE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one_value(options.run, options.one[0], float(options.one[1]))
        return
    figures = compare(options.run, options.sample)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(options.out, json.dumps(figures, indent=1) + "\n")
    finish("transfer_prior", figures, load_policy(options.run).task)


if __name__ == "__main__":
    main()
