"""One training: a learner on its environment, with a run folder that always holds where it stands."""

import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat

from agents import checkpoint, run_folder
from agents.curriculum import Curriculum
from agents.ppo import TensorPPO
from agents.progress import Progress
from agents.stages import Stages
from envs import randomization, rewards, tasks
from envs.environment import Environment
from envs.vec_env import SB3VecEnv


class Training:
    """A learner on its environment, with a run folder that always holds where it stands."""

    def __init__(self, config: Mapping[str, Any], run: Path, reward_file: Path, ranges: randomization.Ranges) -> None:
        self.config, self.run = config, run
        self.task = tasks.get(config["task"])
        self.threads = int(config["threads"])
        ppo = dict(config["ppo"])
        self.curriculum = Curriculum(config.get("curriculum"), ranges)
        self.environment = Environment(
            self.task, ppo.pop("num_envs"), reward=rewards.load(reward_file), seed=config["seed"],
            randomization=self.curriculum.final, terrain=config["terrain"], collision=config["collision"],
            num_threads=self.threads, termination_penalty=config["termination_penalty"],
        )  # fmt: skip
        networks = {name: ppo.pop(name) for name in ("actor_hidden", "critic_hidden", "initial_std")}
        self.ppo = TensorPPO(
            SB3VecEnv(self.environment), seed=config["seed"], learning_threads=self.threads,
            policy_kwargs=networks, **ppo,
        )  # fmt: skip
        self.iteration, self.seconds = 0, 0.0
        self._ranges = ranges
        self.stages = self._make_stages()
        self._fitness, self._falls, self._steps = 0.0, 0, 0
        self._measured: dict[str, float] = {}

    def _make_stages(self) -> Stages:
        every = float(self.config.get("film_every", 0.0)) if self.config["video"] else 0.0
        return Stages(
            self.run, self.task, self._ranges, self.config["terrain"], every, self.config["seed"], self.iteration
        )

    @property
    def checkpoint(self) -> Path:
        return self.run / checkpoint.CHECKPOINT

    def save(self) -> None:
        extra = {"iteration": self.iteration, "seconds": self.seconds, "curriculum": self.curriculum.reached}
        checkpoint.save(self.checkpoint, self.ppo, extra)

    def resume(self) -> None:
        """Continues from the run's checkpoint; what was logged after it is cut off, for it happens again.

        A run that was killed before its first checkpoint starts again.
        """
        if self.checkpoint.is_file():
            extra = checkpoint.restore(self.checkpoint, self.ppo)
            self.iteration, self.seconds = extra["iteration"], extra["seconds"]
            self.curriculum.reached = extra.get("curriculum", {})
        self.stages = self._make_stages()
        log = self.run / "progress.jsonl"
        lines = log.read_text().splitlines() if log.is_file() else []
        kept = [line for line in lines if _iteration(line) <= self.iteration]
        run_folder.write_atomically(log, "".join(f"{line}\n" for line in kept))

    def learn(self, progress: Progress) -> None:
        """Trains until the configured number of steps.

        Ctrl-C lets the iteration end, saves and raises KeyboardInterrupt: a checkpoint from its middle could not
        be continued as if nothing had happened. A second Ctrl-C stops at once; the last checkpoint stands.
        """
        writer = TensorBoardOutputFormat(str(self.run))
        logger = Logger(str(self.run), [writer])
        self.ppo.set_logger(logger)
        self.environment.on_measured = self._measure
        saved_at = time.monotonic()
        log = (self.run / "progress.jsonl").open("a", encoding="utf-8")
        try:
            with _late_interrupts() as interrupted:
                while self.ppo.num_timesteps < self.config["env_steps"] and not interrupted():
                    self._iterate(log, logger, progress)
                    self._film()
                    if time.monotonic() - saved_at > self.config["checkpoint_every_s"]:
                        self.save()
                        saved_at = time.monotonic()
                if self.ppo.num_timesteps >= self.config["env_steps"]:
                    self.ppo.finish()
                self.save()
            if interrupted():
                raise KeyboardInterrupt
        finally:
            log.close()
            writer.close()
            self.environment.on_measured = None

    def _iterate(self, log: TextIO, logger: Logger, progress: Progress) -> None:
        """One rollout and the update from it, and what the logs say about them."""
        began = time.perf_counter()
        steps_before, env_steps = self.ppo.num_timesteps, self.config["env_steps"]
        self.ppo.progress = done = min(1.0, steps_before / env_steps)
        self.curriculum.apply(self.environment, done)
        self.ppo.iterate()
        self.iteration += 1
        took = time.perf_counter() - began
        self.seconds += took
        entry = self._entry(took)
        self.curriculum.judge((self.ppo.num_timesteps - steps_before) / env_steps, entry["falls_per_minute"])
        log.write(json.dumps(entry) + "\n")
        log.flush()
        for name in ("reward", "fitness", "falls_per_minute", "env_steps_per_s"):
            logger.record(f"rollout/{name}", entry[name])
        for group in ("components", "measures", "curriculum"):
            for name, value in entry[group].items():
                logger.record(f"{group}/{name}", value)
        logger.dump(self.ppo.num_timesteps)
        progress.update(entry)

    def _film(self) -> None:
        """A short film now and then; neither the learner nor its environment notices."""
        done = self.ppo.num_timesteps / self.config["env_steps"]
        if self.stages.due(done, self.seconds):
            self.stages.film(
                self.ppo.policy.mean_action, iteration=self.iteration, env_steps=self.ppo.num_timesteps,
                progress=done, training_s=self.seconds,
            )  # fmt: skip

    def _measure(self) -> None:
        """Falls of every step; fitness and measures of a rollout's last step only, since they cost time."""
        s = self.environment.state
        self._falls += int(s.terminated.sum())
        self._steps += 1
        if self._steps == self.ppo.n_steps:
            self._fitness = float(self.task.fitness_rate(s).mean())
            self._measured = {name: float(function(s).mean()) for name, function in self.task.measures.items()}

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
            "fitness": self._fitness,
            "falls_per_minute": self._falls / (simulated * self.environment.dt / 60.0),
            "measures": dict(self._measured),
            "curriculum": {name: round(done, 4) for name, done in self.curriculum.done(self.ppo.progress).items()},
            "train": {n.removeprefix("train/"): float(v) for n, v in values.items() if n.startswith("train/")},
        }
        self._falls, self._steps = 0, 0
        return entry


@contextmanager
def _late_interrupts() -> Iterator[Callable[[], bool]]:
    """Inside, the first SIGINT only makes the function that this yields return True; the next one interrupts."""
    previous = signal.getsignal(signal.SIGINT)
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        asked = True
        signal.signal(signal.SIGINT, previous)
        print("stopping after this iteration; Ctrl-C again stops at once", flush=True)

    # Only the main thread may set handlers; and where SIGINT is ignored (as under nohup), it stays so.
    ours = threading.current_thread() is threading.main_thread() and callable(previous)
    if ours:
        signal.signal(signal.SIGINT, ask)
    try:
        yield lambda: asked
    finally:
        if ours:
            signal.signal(signal.SIGINT, previous)


def _iteration(line: str) -> int:
    try:
        return int(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError):
        return sys.maxsize  # half a line, from a kill
