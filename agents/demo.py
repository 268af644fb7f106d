"""`gantry demo`: trains the Go2 to walk, evaluates it, films it and writes the run's report."""

import sys

from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from rich.console import Console

from agents.evaluate import table
from agents.run_folder import read_json
from agents.train import train


def main() -> None:
    """Takes the same overrides as `gantry train`, e.g. `gantry demo seed=2`."""
    with initialize_config_module("configs", version_base="1.3"):
        config = OmegaConf.to_container(compose("train", ["name=demo", *sys.argv[1:]]), resolve=True)
    run = train(config)  # type: ignore[arg-type]
    console = Console()
    if (run / "evaluation.json").is_file():
        console.print(table(read_json(run / "evaluation.json")))
    for name in ("video.mp4", "evaluation.json", "report.html"):
        if (run / name).is_file():
            console.print(f"{name:<18}{run / name}", soft_wrap=True, highlight=False)
