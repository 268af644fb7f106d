"""Short films of the policy while it still learns, each with the fitness measured then: the skill growing.

A stage is one moment of the training: RUN/stages/STEPS.mp4 and an entry in RUN/stages.json. Everything happens in a
small environment of its own, always with the same starts and commands, so stages compare and the training's own
environment and random numbers are never touched. What it costs is counted and bounded by a share of the training.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import run_folder
from agents.evaluate import run_episodes
from configs.errors import UserError
from envs.environment import Environment, Step
from envs.physics import no_reward
from envs.randomization import Ranges
from envs.scene import Terrain
from envs.tasks.task import Task

FILE, FOLDER = "stages.json", "stages"
MAX_COST = 0.03
"""Share of the training's time that all films together may take."""
EPISODES, EPISODE_S = 16, 4.0
"""Simulations side by side, of which one is filmed, and how long [s]."""
FPS = 10
WIDTH, HEIGHT = 320, 240
FIRST_COST_S = 1.0
"""What the first film is taken to cost before anything is known; shorter trainings get none."""
_NUMBERS = ("iteration", "env_steps", "cost_s", "repeat_s", "next_at")

Act = Callable[[Tensor], Tensor]


class Stages:
    """Decides when a training is filmed, and films it."""

    def __init__(
        self, run: Path, task: Task, ranges: Ranges, terrain: Terrain, every: float, seed: int, iteration: int = 0
    ) -> None:
        """every: least share of the training between two films, 0 for none.

        iteration: where the training stands; stages that were filmed later, before a crash, are dropped.
        """
        self.run, self.every = run, every
        self._task = replace(task, episode_length_s=min(EPISODE_S, task.episode_length_s))
        self._ranges, self._terrain, self._seed = ranges, terrain, seed
        self.entries: list[dict[str, Any]] = [e for e in read(run) if e["iteration"] <= iteration]
        last = self.entries[-1] if self.entries else None
        self._next = 0.0 if last is None else last["next_at"]
        self._broken = False

    @property
    def seconds(self) -> float:
        """[s] that all films have cost so far."""
        return float(sum(entry["cost_s"] for entry in self.entries))

    def due(self, progress: float, training_s: float) -> bool:
        """Whether to film now, at that share of the training, which has taken training_s so far."""
        if self.every <= 0 or self._broken or not self._next <= progress < 1.0:
            return False
        return self.seconds + self._expected_s() <= MAX_COST * training_s / max(progress, 1e-9)

    def film(self, act: Act, *, iteration: int, env_steps: int, progress: float, training_s: float) -> None:
        """One film of the policy act(observation (N, ...)) -> action (N, A), and its fitness.

        A film that fails (no OpenGL, a full disk) ends the filming, with one line, and never the training.
        """
        began = time.perf_counter()
        name = f"{FOLDER}/{env_steps:012d}.mp4"
        try:
            # PyOpenGL tells that it has no accelerator, which nobody asked and which costs us nothing.
            logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)
            import_module("envs.rendering")  # takes a second, once: the next films do not cost that again
            loaded_s = time.perf_counter() - began
            figures = self._record(act, self.run / name)
        except (UserError, OSError, RuntimeError) as error:
            self._broken = True
            print(f"the training goes on without films of its stages: {error}", flush=True)
            return
        cost_s = time.perf_counter() - began
        entry = {
            "iteration": iteration, "env_steps": env_steps, "training_s": round(training_s, 2), "video": name,
            **figures, "cost_s": round(cost_s, 3), "repeat_s": round(cost_s - loaded_s, 3), "next_at": 0.0,
        }  # fmt: skip
        self.entries.append(entry)
        # What is left of the allowance, spread evenly over the rest of the training.
        total_s = training_s / max(progress, 1e-9)
        more = int(max(0.0, MAX_COST * total_s - self.seconds) / self._expected_s())
        # Without any, the machine may yet become faster, or the training longer than it seemed: `due` looks again.
        gap = (1.0 - progress) / (more + 1) if more else self.every
        entry["next_at"] = self._next = progress + max(self.every, gap)
        with contextlib.suppress(OSError):
            run_folder.write_atomically(self.run / FILE, json.dumps(self.entries, indent=1) + "\n")

    def _expected_s(self) -> float:
        return max(min(float(e["repeat_s"]) for e in self.entries), 1e-3) if self.entries else FIRST_COST_S

    def _record(self, act: Act, path: Path) -> dict[str, Any]:
        """Films the simulation with the fastest command while the fitness of all is measured."""
        import imageio.v2 as imageio

        from envs.rendering import Renderer

        environment = Environment(
            self._task, EPISODES, reward=no_reward, seed=self._seed, randomization=self._ranges,
            terrain=self._terrain, collision="full", num_threads=1,
        )  # fmt: skip
        every = max(1, round(1 / (FPS * environment.dt)))
        frames = (environment.episodes.max_steps - 1) // every  # after the last step a new episode has begun
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
        steps = drawn = shown = 0
        try:
            with (
                Renderer(environment, WIDTH, HEIGHT, physics="randomized") as renderer,
                imageio.get_writer(
                    partial, format="FFMPEG", fps=1 / (every * environment.dt), codec="libx264",  # type: ignore[arg-type]
                    pixelformat="yuv420p", quality=None, macro_block_size=2, ffmpeg_log_level="error",
                    output_params=["-crf", "26", "-preset", "veryfast", "-threads", "1", "-movflags", "+faststart"],
                ) as writer,
                torch.no_grad(),
            ):  # fmt: skip
                last: Step | None = None

                def draw(step: Step) -> None:
                    nonlocal steps, drawn, shown, last
                    command = environment.state.command
                    if last is None and command.shape[1]:
                        shown = int(command[:, 0].argmax())
                    last, steps = step, steps + 1
                    renderer.note(step)
                    if steps % every == 0 and drawn < frames:
                        writer.append_data(renderer.frame(shown))  # type: ignore[attr-defined]
                        drawn += 1

                episodes = run_episodes(act, environment, draw)
                # All may have fallen early; the film goes on with what comes after, to be as long as the others.
                while drawn < frames and last is not None:
                    draw(environment.step(act(last.observation)))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        kept = ~episodes.diverged
        mean = lambda values: round(float(np.mean(values[kept])), 4) if kept.any() else None  # noqa: E731
        return {
            "fitness": mean(episodes.fitness), "fall_rate": mean(episodes.fallen.astype(float)),
            "episodes": int(kept.sum()), "episode_s": self._task.episode_length_s,
        }  # fmt: skip


def read(run: Path) -> list[dict[str, Any]]:
    """The entries of RUN/stages.json; none where there is no such file or it is damaged."""
    try:
        content = json.loads((run / FILE).read_text())
    except (OSError, ValueError):
        return []
    entries = content if isinstance(content, list) else []
    return [e for e in entries if isinstance(e, dict) and all(isinstance(e.get(n), int | float) for n in _NUMBERS)]
