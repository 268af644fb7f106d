"""`gantry train`: one training run, from configuration to evaluated, filmed run folder."""

import json
import os
import resource
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from agents import checkpoint, run_folder
from agents.curriculum import Curriculum
from agents.evaluate import evaluate_run
from agents.progress import Progress
from agents.training import Training
from agents.video import film
from configs import schema
from configs.errors import UserError, leave, unknown
from envs import randomization, rewards, tasks
from envs.scene import Collision, Terrain
from envs.tasks.task import Task

schema.register()


def resolve_ranges(choice: Any, task: Task) -> dict[str, tuple[float, float]]:
    """The randomization that a configuration asks for, checked. Raises UserError for what makes no sense."""
    if choice == "task":
        return dict(task.randomization)
    if choice == "none":
        return {}
    if isinstance(choice, str):
        path = Path(choice)
        if not path.is_file():
            raise UserError(
                f"randomization {choice!r} is no file; valid: task, none, a YAML file, or {{term: [low, high]}}"
            )
        try:
            choice = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise UserError(f"randomization {path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(choice, Mapping):
        raise UserError(f"randomization {choice!r} is no mapping; write {{term: [low, high]}}")
    ranges = randomization.validate(choice)
    if "push_velocity" in ranges and "push_interval" not in ranges:
        raise UserError("randomization push_velocity: nobody is pushed without push_interval: [5.0, 15.0] or the like")
    return ranges


def count_threads(configured: int) -> int:
    """How many cores to use. 0 means all, or 1 when a parallel launcher runs several jobs at a time."""
    if configured > 0:
        return configured
    if configured < 0:
        raise UserError(f"threads={configured}; valid: 0 (all cores) or a positive number")
    hydra_config = HydraConfig.get() if HydraConfig.initialized() else None
    parallel = (
        hydra_config is not None
        and hydra_config.mode == RunMode.MULTIRUN
        and "BasicLauncher" not in hydra_config.launcher._target_
    )
    return 1 if parallel else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check(config: Mapping[str, Any]) -> None:
    """Raises UserError for settings that make no sense, which types alone let through."""
    if config["env_steps"] < 1:
        raise UserError(f"env_steps={config['env_steps']}; at least 1 step is needed")
    if not 0 <= config["seed"] < 2**32:
        raise UserError(f"seed={config['seed']}; valid: 0 to {2**32 - 1}")
    if not 0 <= config["film_every"] <= 1:
        raise UserError(f"film_every={config['film_every']}; valid: 0 (no films) to 1, a share of the training")
    if not 0 <= config["ppo"]["average_last"] <= 1:
        raise UserError(f"ppo.average_last={config['ppo']['average_last']}; valid: 0 to 1, a share of the training")
    Curriculum(config.get("curriculum"), resolve_ranges(config["randomization"], tasks.get(config["task"])))
    for name, valid in (("terrain", get_args(Terrain)), ("collision", get_args(Collision))):
        if config[name] not in valid:
            raise unknown(name, config[name], valid)
    ppo = config["ppo"]
    for name in ("num_envs", "n_steps", "n_epochs", "num_minibatches"):
        if ppo[name] < 1:
            raise UserError(f"ppo.{name}={ppo[name]}; at least 1 is needed")
    if ppo["num_envs"] * ppo["n_steps"] < max(2, ppo["num_minibatches"]):
        raise UserError(
            f"ppo.num_envs={ppo['num_envs']} times ppo.n_steps={ppo['n_steps']} is too little for "
            f"ppo.num_minibatches={ppo['num_minibatches']}; each needs a step, and there must be two in all"
        )


_NEEDED = ("config.yaml", "randomization.yaml", "reward.py")
"""What a run folder must hold to be continued."""


def prepare(config: dict[str, Any]) -> tuple[Path, Training]:
    """Checks the configuration and makes (or finds) the run folder and its Training. Raises UserError."""
    schema.require_known(config, schema.Train)
    resume = config.pop("resume")
    if resume:
        run = _find_unfinished(config) if resume is True else run_folder.require(Path(str(resume)), *_NEEDED)
        kept = run_folder.read_config(run)
        _refuse_changes(config, kept, run)
        ranges = yaml.safe_load((run / "randomization.yaml").read_text()) or {}
        training = Training(kept, run, run / "reward.py", randomization.validate(ranges))
        training.resume()
        return run, training
    task = tasks.get(config["task"])
    check(config)
    reward_file = rewards.path_of(config["reward"], task)
    ranges = resolve_ranges(config["randomization"], task)
    config = {**config, "threads": count_threads(config["threads"])}
    run = run_folder.create(Path(config["runs"]), task.name, config["name"])
    try:
        shutil.copyfile(reward_file, run / "reward.py")
        run_folder.write_atomically(run / "randomization.yaml", _as_yaml({k: list(v) for k, v in ranges.items()}))
        training = Training(config, run, reward_file, ranges)
        run_folder.write_atomically(run / "config.yaml", _as_yaml(config))
    except BaseException:
        shutil.rmtree(run)  # nothing half-written stays
        raise
    return run, training


def _refuse_changes(config: Mapping[str, Any], kept: Mapping[str, Any], run: Path) -> None:
    """A run continues as it began. Raises UserError where the command line asks for something else."""
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        asked, has = (OmegaConf.select(OmegaConf.create(dict(c)), key) for c in (config, kept))
        if key not in ("resume", "runs", "task") and asked != has:
            raise UserError(f"{key}={asked}: {run} continues with {key}={has}; leave {key} out, or start a new run")


def _as_yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _find_unfinished(config: Mapping[str, Any]) -> Path:
    """The newest run folder with this configuration that did not finish."""
    wanted = {**config, "threads": count_threads(config["threads"])}
    folder = Path(config["runs"]) / config["task"]
    for run in sorted(folder.glob("*/"), reverse=True):
        with suppress(UserError):  # a folder that is damaged or no run must not stand in the way of the others
            run_folder.require(run, "run.json", *_NEEDED)
            same = run_folder.read_config(run) == json.loads(json.dumps(wanted))
            if same and run_folder.read_json(run / "run.json").get("state") != "finished":
                return run
    raise UserError(f"no unfinished run with this configuration below {folder}; leave resume out to start one")


def train(config: dict[str, Any]) -> Path:
    """A whole run: training, evaluation, video. Returns the run folder. Raises UserError for bad input."""
    if config["video"] and not config["resume"]:
        from envs import gl

        gl.back_end()  # a machine that cannot draw should say so before the training, not after
    run, training = prepare(config)
    settings = training.config
    record = run_folder.RunRecord.begin(run, "train", training.task.name, settings["name"], training.threads)
    print(f"run folder: {run}", flush=True)
    try:
        with Progress(settings["env_steps"], training.seconds) as progress:
            training.learn(progress)
        _finish(record, training, "finished")
        _show(run, training)
    except KeyboardInterrupt:
        _finish(record, training, "stopped")
        print(f"stopped; continue with: gantry train resume={run}", flush=True)
        raise
    except Exception as error:
        _finish(record, training, "failed", str(error))
        raise
    return run


def _show(run: Path, training: Training) -> None:
    """What people look at once a training is over: evaluation, video, report."""
    if training.config["evaluate"]:
        print("evaluating on nominal, randomized and select physics", flush=True)
        sets = ("nominal", "randomized", "select")
        evaluate_run(checkpoint.load_policy(run), sets, episodes=128, threads=training.threads)
    if training.config["video"]:
        print("filming", flush=True)
        film(run, fps=25)
    if find_spec("watch.report") is not None:
        # By name: watch stands above agents, and a robot's installation may lack it.
        import_module("watch.report").write_report(run)


def _finish(record: run_folder.RunRecord, training: Training, state: str, error: str | None = None) -> None:
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    steps = training.ppo.num_timesteps
    record.update({
        "state": state, "error": error, "seconds": round(training.seconds, 2), "env_steps": steps,
        "env_steps_per_s": round(steps / max(training.seconds, 1e-9), 1), "peak_memory_gb": round(peak_gb, 3),
        "diverged": training.environment.diverged_count, "film_seconds": round(training.stages.seconds, 2),
    })  # fmt: skip


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="train")
def main(config: DictConfig) -> float | None:
    """Trains as configured; returns the fitness on randomized physics, for sweepers."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    try:
        run = train(resolved)  # type: ignore[arg-type]
    except UserError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # there Hydra's line says which job it was
            raise
        leave(error)
    print(f"done: {run}", flush=True)
    path = run / "evaluation.json"
    if not path.is_file():
        return None
    return float(run_folder.read_json(path)["sets"]["randomized"]["fitness"]["mean"])


if __name__ == "__main__":
    main()
