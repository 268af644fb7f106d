"""Wall time to a Go2 that walks: three trainings of fixed length, each evaluated once on fresh episodes.

    python -m benchmarks.time_to_walk [--seeds 0 1 2] [--episodes 1024]

The stopping rule is the default `env_steps` of configs/task/go2-walk.yaml. The time is that of the whole command
`gantry train`, from its start to the written checkpoint, set-up and compilation of the model included; evaluation is
not. The evaluation: `randomized` physics, full collision geometry, 20 s episodes, commands uniform over the task's
ranges and drawn anew every 5 s, one in ten of them zero.
"""

import argparse
import contextlib
import io
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from agents.checkpoint import load_policy
from agents.evaluate import evaluate
from agents.run_folder import read_json
from benchmarks.report import finish
from envs import tasks

LIMITS = {"fall_rate": 0.02, "velocity_error_m_s": 0.15, "yaw_rate_error_rad_s": 0.2, "tilt_deg": 5.0}
FRESH_SEED = 77_000
"""Far from every seed that training or model selection uses."""


def train(seed: int, runs: Path, overrides: list[str]) -> tuple[Path, float]:
    """The run folder of one training and the minutes that it took."""
    command = [sys.executable, "-m", "gantry", "train", "task=go2-walk", f"seed={seed}", f"runs={runs}",
               f"name=seed{seed}", "evaluate=false", "video=false", *overrides]  # fmt: skip
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=sys.stderr)
    minutes = (time.perf_counter() - start) / 60
    return next((runs / "go2-walk").glob(f"*-seed{seed}")), minutes


def judge(run: Path, episodes: int, seed: int) -> dict[str, Any]:
    """The figures of one policy."""
    loaded = load_policy(run)
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        result = evaluate(loaded.act, loaded.task, ("randomized",), episodes=episodes, seeds=(FRESH_SEED + seed,))
    figures = result["sets"]["randomized"]
    measures = {name: value["mean"] for name, value in figures["measures"].items()}
    use = figures["foot_use"]
    return {
        "fall_rate": round(figures["fall_rate"]["mean"], 4),
        "velocity_error_m_s": round(measures["velocity_error"], 4),
        "yaw_rate_error_rad_s": round(measures["yaw_rate_error"], 4),
        "foot_use": [round(x, 3) for x in use],
        "foot_use_ratio": round(max(use) / max(min(use), 1e-9), 3),
        "tilt_deg": round(measures["tilt"], 2),
        "foot_slip_m_s": round(measures["foot_slip"], 3),
        "cost_of_transport": round(figures["cost_of_transport"]["mean"], 3),
        "fitness": round(figures["fitness"]["mean"], 3),
        "diverged": figures["diverged"],
    }


def reached(figures: dict[str, Any]) -> bool:
    """Whether a policy walks: the limits above, and a gait that uses all four feet alike."""
    even = figures["foot_use_ratio"] <= 1.4 and all(0.35 <= use <= 0.75 for use in figures["foot_use"])
    return even and all(figures[name] <= limit for name, limit in LIMITS.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=1024)
    parser.add_argument("--runs", type=Path, default=None, help="keep the run folders here")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for the trainings")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        runs = arguments.runs or Path(scratch)
        per_seed = []
        for seed in arguments.seeds:
            run, minutes = train(seed, runs, arguments.overrides)
            record = read_json(run / "run.json")
            figures = judge(run, arguments.episodes, seed)
            per_seed.append({"seed": seed, "minutes": round(minutes, 2), "env_steps": record["env_steps"],
                             "reached": reached(figures), **figures})  # fmt: skip
            print(per_seed[-1], file=sys.stderr, flush=True)

    def middle(name: str) -> float:
        return round(statistics.median(r[name] for r in per_seed), 4)

    def worst(name: str) -> float:
        return max(r[name] for r in per_seed)

    names = ("minutes", "fall_rate", "velocity_error_m_s", "yaw_rate_error_rad_s", "tilt_deg", "foot_use_ratio",
             "foot_slip_m_s", "cost_of_transport")  # fmt: skip
    feet = [round(statistics.median(r["foot_use"][i] for r in per_seed), 3) for i in range(4)]
    figures = {
        **{name: middle(name) for name in names},
        "foot_use": feet,
        "env_steps": per_seed[0]["env_steps"],
        "worst": {name: worst(name) for name in names},
        "all_reached": all(r["reached"] for r in per_seed),
        "episodes": arguments.episodes,
        "commands": "vx -0.5..1.5 m/s, vy -0.5..0.5 m/s, yaw rate -1..1 rad/s, every 5 s, 10 % standing",
        "seeds": per_seed,
    }
    finish("time_to_walk", figures, tasks.get("go2-walk"))


if __name__ == "__main__":
    main()
