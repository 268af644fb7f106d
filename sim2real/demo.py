"""`gantry demo`: trains the Go2 to walk, evaluates and films it, and walks a simulated Go2 with it over DDS."""

import math
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from agents.checkpoint import load_policy
from agents.evaluate import table
from agents.run_folder import read_json
from agents.train import train
from sim2real import rehearsal
from sim2real.export import export

PHYSICS = "randomized"
"""What the tour's robot is drawn from; benchmarks/deploy.py walks it on physics that training never saw."""


def main() -> int:
    """Takes the same overrides as `gantry train`, e.g. `gantry demo seed=2`. 1 if the tour was not finished."""
    with initialize_config_module("configs", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["name=demo", *sys.argv[1:]]), resolve=True)
    run = train(config)  # type: ignore[arg-type]
    console = Console()
    if (run / "evaluation.json").is_file():
        console.print(table(read_json(run / "evaluation.json")))
    row = walk(run, console)
    import_module("watch.report").write_report(run)
    for name in ("video.mp4", "evaluation.json", "bundle", "deploy/run.mp4", "report.html"):
        if (run / name).exists():
            console.print(f"{name:<18}{run / name}", soft_wrap=True, highlight=False)
    return 0 if row["ok"] else 1


def walk(run: Path, console: Console) -> dict[str, Any]:
    """Export the run's bundle and walk the tour with it; the tour's row."""
    export(load_policy(run))
    console.print("walking a simulated Go2 through a tour, over DDS, in real time ...")
    folder = run / "deploy"
    row = rehearsal.tour(run / "bundle", PHYSICS, 0, video=folder / "run.mp4", keep=folder)
    shown = Table(title="tour over DDS, by the robot's own record")
    for column in ("command", "seconds", "distance [m]", "turned [rad]", "velocity off by [m/s]"):
        shown.add_column(column, justify="left" if column == "command" else "right")
    for part in row["segments"]:
        off = math.hypot(part["speed"][0] - part["asked"][0], part["speed"][1] - part["asked"][1])
        cells = (part["seconds"], part["distance_m"], part["turned_rad"], off)
        shown.add_row(part["segment"], *(f"{cell:.2f}" for cell in cells))
    console.print(shown)
    if not row["ok"]:
        console.print(
            f"the tour was not finished: falls {row['falls']}, {row['damped_for'] or row['undone']}", style="red"
        )
    return row
