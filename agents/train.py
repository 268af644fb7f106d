"""`gantry train`: one training run, from configuration to evaluated, filmed run folder."""

import json
import os
import resource
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import hydra
import torch
import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from agents import checkpoint, run_folder
from agents.ppo import TensorPPO
from agents.progress import Progress
from configs import schema
from configs.errors import UserError
from envs import randomization, rewards, tasks
from envs.environment import Environment
from envs.tasks.task import Task
from envs.vec_env import SB3VecEnv

schema.register()


class _NoCallback(BaseCallback):
    def _on_step(self) -> bool:
        return True


def resolve_ranges(choice: Any, task: Task) -> dict[str, tuple[float, float]]:
    """The randomization that a configuration asks for, checked. Raises UserError for what makes no sense."""
    if choice == "task":
        return dict(task.randomization)
    if choice == "none":
        return {}
    if isinstance(choice, str):
        path = Path(choice)
        if not path.is_file():
            raise UserError(f"randomization {choice!r} is no file; valid: task, none, a YAML file, or {{term: [low, high]}}")
        try:
            choice = yaml.safe_load(path.read_text())
        except yaml.YAMLError as error:
            raise UserError(f"randomization {path} is no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(choice, Mapping):
        raise UserError(f"randomization {choice!r} is no mapping; write {{term: [low, high]}}")
    return randomization.validate(choice)


def count_threads(configured: int) -> int:
    """How many cores to use. 0 means all, or 1 when a parallel launcher runs several jobs at a time."""
    if configured > 0:
        return configured
    if configured < 0:
        raise UserError(f"threads={configured}; valid: 0 (all cores) or a positive number")
    parallel = HydraConfig.initialized() and HydraConfig.get().mode is not None and (
        HydraConfig.get().mode.name == "MULTIRUN" and "BasicLauncher" not in HydraConfig.get().launcher._target_
    )
    return 1 if parallel else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Training:
    """A learner on its environment, with a run folder that always holds where it stands."""

    def __init__(self, config: Mapping[str, Any], run: Path, reward_file: Path, ranges: randomization.Ranges) -> None:
        self.config, self.run = config, run
        self.task = tasks.get(config["task"])
        self.threads = int(config["threads"])
        ppo = dict(config["ppo"])
        self.environment = Environment(
            self.task, ppo.pop("num_envs"), reward=rewards.load(reward_file), seed=config["seed"],
            randomization=ranges, terrain=config["terrain"], collision=config["collision"],
            num_threads=self.threads, termination_penalty=config["termination_penalty"],
        )  # fmt: skip
        networks = {name: ppo.pop(name) for name in ("actor_hidden", "critic_hidden", "initial_std")}
        self.ppo = TensorPPO(
            SB3VecEnv(self.environment), seed=config["seed"], learning_threads=self.threads,
            policy_kwargs=networks, **ppo,
        )  # fmt: skip
        self.iteration, self.seconds = 0, 0.0
        self._callback = _NoCallback()
        self._callback.init_callback(self.ppo)
        self._fitness, self._measured, self._falls, self._steps = 0.0, dict.fromkeys(self.task.measures, 0.0), 0, 0

    @property
    def checkpoint(self) -> Path:
        return self.run / checkpoint.CHECKPOINT

    def save(self) -> None:
        checkpoint.save(self.checkpoint, self.ppo, {"iteration": self.iteration, "seconds": self.seconds})

    def resume(self) -> None:
        """Continues from the run's checkpoint; what was logged after it is cut off, for it happens again."""
        if not self.checkpoint.is_file():
            return
        extra = checkpoint.restore(self.checkpoint, self.ppo)
        self.iteration, self.seconds = extra["iteration"], extra["seconds"]
        log = self.run / "progress.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        kept = [line for line in lines if _iteration(line) <= self.iteration]
        run_folder.write_atomically(log, "".join(f"{line}\n" for line in kept))

    def learn(self, progress: Progress) -> None:
        """Trains until the configured number of steps. KeyboardInterrupt leaves a checkpoint of the last iteration."""
        writer = TensorBoardOutputFormat(str(self.run))
        logger = Logger(str(self.run), [writer])
        self.ppo.set_logger(logger)
        self.environment.on_measured = self._measure
        saved_at = time.monotonic()
        log = (self.run / "progress.jsonl").open("a", encoding="utf-8")
        try:
            while self.ppo.num_timesteps < self.config["env_steps"]:
                began = time.perf_counter()
                self.ppo.collect_rollouts(self.ppo.get_env(), self._callback, self.ppo.rollout_buffer, self.ppo.n_steps)  # type: ignore[arg-type]
                self.ppo.train()
                self.iteration += 1
                took = time.perf_counter() - began
                self.seconds += took
                entry = self._entry(took)
                log.write(json.dumps(entry) + "\n")
                log.flush()
                for name in ("reward", "fitness", "falls_per_minute", "env_steps_per_s"):
                    logger.record(f"rollout/{name}", entry[name])
                for group in ("components", "measures"):
                    for name, value in entry[group].items():
                        logger.record(f"{group}/{name}", value)
                logger.dump(self.ppo.num_timesteps)
                progress.update(entry)
                if time.monotonic() - saved_at > self.config["checkpoint_every_s"]:
                    self.save()
                    saved_at = time.monotonic()
        finally:
            log.close()
            writer.close()
            self.environment.on_measured = None
        self.save()

    def _measure(self) -> None:
        s = self.environment.state
        self._fitness += float(self.task.fitness_rate(s).mean())
        for name, function in self.task.measures.items():
            self._measured[name] += float(function(s).mean())
        self._falls += int(s.terminated.sum())
        self._steps += 1

    def _entry(self, took_s: float) -> dict[str, Any]:
        """One line of progress.jsonl, from what was counted since the last."""
        simulated = self._steps * self.environment.num_envs
        values = self.ppo.logger.name_to_value
        entry = {
            "iteration": self.iteration,
            "env_steps": self.ppo.num_timesteps,
            "seconds": round(self.seconds, 3),
            "env_steps_per_s": round(simulated / took_s, 1),
            "reward": float(self.ppo.rollout.reward.mean()),
            "components": {n: float(v) / self._steps for n, v in self.ppo.component_sums.items()},
            "fitness": self._fitness / self._steps,
            "falls_per_minute": self._falls / (simulated * self.environment.dt / 60.0),
            "measures": {n: v / self._steps for n, v in self._measured.items()},
            "train": {n.removeprefix("train/"): float(v) for n, v in values.items() if n.startswith("train/")},
        }
        self._fitness, self._measured, self._falls, self._steps = 0.0, dict.fromkeys(self._measured, 0.0), 0, 0
        return entry


def _iteration(line: str) -> int:
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # half a line, from a kill


def prepare(config: dict[str, Any]) -> tuple[Path, Training]:
    """Checks the configuration and makes (or finds) the run folder and its Training. Raises UserError."""
    resume = config.pop("resume")
    if resume:
        run = _find_unfinished(config) if resume is True else run_folder.require(Path(resume), "config.yaml")
        kept = OmegaConf.to_container(OmegaConf.load(run / "config.yaml"), resolve=True)
        assert isinstance(kept, dict)
        ranges = yaml.safe_load((run / "randomization.yaml").read_text()) or {}
        training = Training(kept, run, run / "reward.py", randomization.validate(ranges))
        training.resume()
        return run, training
    task = tasks.get(config["task"])
    if config["env_steps"] < 1:
        raise UserError(f"env_steps={config['env_steps']}; at least 1 step is needed")
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


def _as_yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _find_unfinished(config: Mapping[str, Any]) -> Path:
    """The newest run folder with this configuration that did not finish."""
    wanted = {**config, "threads": count_threads(config["threads"])}
    folder = Path(config["runs"]) / config["task"]
    for run in sorted(folder.glob("*/"), reverse=True):
        if not (run / "config.yaml").is_file() or not (run / "run.json").is_file():
            continue
        same = OmegaConf.to_container(OmegaConf.load(run / "config.yaml")) == json.loads(json.dumps(wanted))
        if same and run_folder.read_json(run / "run.json").get("state") != "finished":
            return run
    raise UserError(f"no unfinished run with this configuration below {folder}; leave resume out to start one")


def train(config: dict[str, Any]) -> Path:
    """A whole run: training, evaluation, video. Returns the run folder. Raises UserError for bad input."""
    if config["video"] and not config["resume"]:
        from envs import gl

        gl.require()  # a machine that cannot draw should say so before the training, not after
    run, training = prepare(config)
    settings = training.config
    record = run_folder.RunRecord.begin(run, "train", training.task.name, settings["name"], training.threads)
    print(f"run folder: {run}", flush=True)
    try:
        with Progress(settings["env_steps"], training.seconds) as progress:
            training.learn(progress)
        _finish(record, training, "finished")
        if settings["evaluate"]:
            from agents.evaluate import evaluate_run

            evaluate_run(checkpoint.load_policy(run), ("nominal", "randomized", "select"), threads=training.threads)
        if settings["video"]:
            from agents.video import film

            film(run)
    except KeyboardInterrupt:
        training.save()
        _finish(record, training, "stopped")
        print(f"stopped; continue with: gantry train resume={run}", flush=True)
        raise
    except Exception as error:
        _finish(record, training, "failed", str(error))
        raise
    return run


def _finish(record: run_folder.RunRecord, training: Training, state: str, error: str | None = None) -> None:
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    steps = training.ppo.num_timesteps
    record.update({
        "state": state, "error": error, "seconds": round(training.seconds, 2), "env_steps": steps,
        "env_steps_per_s": round(steps / max(training.seconds, 1e-9), 1), "peak_memory_gb": round(peak_gb, 3),
        "diverged": training.environment.diverged_count,
    })  # fmt: skip


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="train")
def main(config: DictConfig) -> float | None:
    """Trains as configured; returns the fitness on randomized physics, for sweepers."""
    resolved = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(resolved, dict)
    run = train(resolved)  # type: ignore[arg-type]
    print(f"done: {run}", flush=True)
    path = run / "evaluation.json"
    if not path.is_file():
        return None
    return float(run_folder.read_json(path)["sets"]["randomized"]["fitness"]["mean"])


if __name__ == "__main__":
    main()
