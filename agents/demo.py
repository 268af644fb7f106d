"""`gantry demo`: trains the Go2 to walk, evaluates it, films it and writes the run's report."""

import sys
from importlib import import_module
from importlib.util import find_spec

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from agents import train
from agents.evaluate import table
from agents.run_folder import read_json


def main() -> None:
    """Takes the same overrides as `gantry train`, e.g. `gantry demo seed=2`."""
    with initialize_config_module("configs", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["name=demo", *sys.argv[1:]]), resolve=True)
    run = train.train(config)  # type: ignore[arg-type]
    from rich.console import Console

    console = Console()
    if (run / "evaluation.json").is_file():
        console.print(table(read_json(run / "evaluation.json")))
    shown = {"video": run / "video.mp4", "evaluation": run / "evaluation.json"}
    if find_spec("watch.report") is not None:
        # By name: watch stands above agents and is not imported from here.
        shown["report"] = import_module("watch.report").write_report(run)
    for name, path in shown.items():
        if path.is_file():
            console.print(f"{name:<12}{path}", soft_wrap=True, highlight=False)
