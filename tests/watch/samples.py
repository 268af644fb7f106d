"""Run folders as `gantry train` leaves them, made up but of the real form, for the tests of watch/."""

from __future__ import annotations

import json
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = {
    "velocity": 1.2, "yaw_rate": 0.6, "upright": -0.03, "height": -0.02, "bounce": -0.02, "roll_pitch_rate": -0.03,
    "pose": -0.05, "stand_still": -0.01, "air_time": -0.01, "slip": -0.02, "clearance": -0.01, "action_rate": -0.06,
    "torque": -0.02, "power": -0.04,
}  # fmt: skip
MEASURES = {
    "velocity_error": ("m/s", 0.95, 0.11), "yaw_rate_error": ("rad/s", 0.7, 0.16), "tilt": ("deg", 9.0, 2.1),
    "foot_slip": ("m/s", 0.4, 0.09), "power": ("W", 240.0, 96.0), "speed": ("m/s", 0.1, 0.72),
    "action_rate": ("", 1.9, 0.5), "joint_acceleration": ("rad/s^2", 160.0, 88.0), "base_height": ("m", 0.2, 0.29),
}  # fmt: skip
RANGES = {
    "friction": [0.3, 1.5], "base_mass": [-1.0, 3.0], "center_of_mass": [-0.05, 0.05], "motor_strength": [0.9, 1.1],
    "action_delay": [0.0, 0.02], "push_velocity": [-0.5, 0.5], "push_interval": [5.0, 15.0],
    "joint_position_noise": [-0.02, 0.02], "gravity": [-1.0, 1.0],
}  # fmt: skip
REWARD = '''\
"""A reward of the real form, kept apart from the project's own, which changes."""

import torch
from torch import Tensor

from envs.state import State


def reward(s: State) -> dict[str, Tensor]:
    velocity_error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).square().sum(1)
    on_ground = s.foot_contact.float()
    foot_speed = s.foot_velocity_w[..., :2].square().sum(-1)
    # Tracking is worth most; the rest makes the gait one that a real robot can walk.
    return {
        "velocity": 1.5 * torch.exp(-velocity_error / 0.2),
        "upright": -2.0 * s.gravity_b[:, :2].square().sum(1),
        "height": -10.0 * (s.base_height - 0.29).square(),
        "bounce": -0.5 * s.base_linear_velocity_b[:, 2].square(),
        "pose": -0.05 * (s.joint_position - s.joint_home).square().sum(1),
        "air_time": 0.5 * ((s.foot_air_time - 0.25).clamp(max=0.1) * s.foot_touchdown).sum(1),
        "slip": -0.1 * (foot_speed * on_ground).sum(1),
        "action_rate": -0.02 * (s.action - s.previous_action).square().sum(1),
        "torque": -1e-4 * s.joint_torque.square().sum(1),
    }
'''
CONFIG = """\
task: go2-walk
reward: {reward}
randomization: task
termination_penalty: 2.0
terrain: flat
collision: feet
seed: {seed}
env_steps: 4000000
threads: 2
name: train
resume: false
ppo:
  num_envs: 512
  n_steps: 16
  learning_rate: {learning_rate}
  gamma: 0.97
  actor_hidden: [128, 128]
  symmetry: true
"""


def write_progress(run: Path, iterations: int = 240, seed: int = 0, skill: float = 0.83) -> None:
    draw = random.Random(seed)
    noise = lambda size: draw.gauss(0, size)  # noqa: E731
    rows = []
    for i in range(iterations):
        steps = (i + 1) * 4_000_000 // iterations
        done = 1 / (1 + math.exp(-(steps / 1e6 - 1.1 - 0.3 * (seed % 5) / 5) * 4))
        row = {
            "iteration": i, "env_steps": steps, "seconds": steps / 15800 + 1.2, "env_steps_per_s": 15800 + noise(300),
            "reward": 0.2 + 1.4 * done + noise(0.02),
            "components": {n: v * (0.15 + 0.85 * done) + noise(0.004) for n, v in COMPONENTS.items()},
            "fitness": min(1.0, max(0.0, skill * done + noise(0.008))),
            "falls_per_minute": max(0.0, 42 * (1 - done) ** 2 + 0.1 + noise(0.1)),
            "measures": {n: a + (b - a) * done + noise(0.01 * abs(a)) for n, (_, a, b) in MEASURES.items()},
            "train": {"kl": 0.03 + noise(0.004), "entropy": 6 - 7 * done, "value_loss": 0.3 - 0.2 * done,
                      "learning_rate": 1e-3 * (1 - 0.6 * done), "std": 0.4 - 0.25 * done,
                      "explained_variance": 0.9 * done},
        }  # fmt: skip
        rows.append(json.dumps(row))
    (run / "progress.jsonl").write_text("\n".join(rows) + "\n")


def interval(mean: float, half: float, **more: Any) -> dict[str, Any]:
    return {"mean": mean, "low": mean - half, "high": mean + half, **more}


def evaluation(skill: float = 0.83) -> dict[str, Any]:
    sets = {}
    for name, loss in (("nominal", 0.0), ("randomized", 0.03), ("select", 0.11)):
        sets[name] = {
            "fitness": interval(skill - loss, 0.006 + loss / 10),
            "fall_rate": interval(0.004 + loss / 3, 0.003),
            "measures": {n: interval(b * (1 + loss), abs(b) * 0.02, unit=u) for n, (u, _, b) in MEASURES.items()},
            "foot_use": [0.52, 0.51, 0.55, 0.54],
            "cost_of_transport": interval(0.71 + loss, 0.02),
            "diverged": 0,
        }
    return {"task": "go2-walk", "physics_hash": "3f9a1c0b77d2", "episodes": 256, "seeds": [1000, 1001, 1002],
            "fitness_threshold": 0.75, "sets": sets}  # fmt: skip


@cache
def video(width: int = 320, height: int = 240, seconds: float = 2.0) -> bytes:
    """A small H.264 MP4: a square that walks over a floor."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        with imageio.get_writer(
            path, fps=25, codec="libx264", macro_block_size=1, output_params=["-threads", "1"]
        ) as out:
            for k in range(int(25 * seconds)):
                frame = np.full((height, width, 3), (214, 222, 226), np.uint8)
                frame[int(0.75 * height) :] = (150, 160, 158)
                x = int(k / (25 * seconds) * (width - 60))
                y = int(0.75 * height - 44 - 4 * abs(math.sin(k / 3)))
                frame[y : y + 30, x : x + 60] = (24, 92, 88)
                for leg in (4, 46):
                    shift = int(6 * math.sin(k / 3 + leg))
                    frame[y + 30 : int(0.75 * height), x + leg + shift : x + leg + shift + 8] = (40, 44, 48)
                out.append_data(frame)
        return path.read_bytes()


def write_run(
    runs: Path,
    name: str = "2026-11-20_10-15-00-train",
    *,
    task: str = "go2-walk",
    state: str = "finished",
    seed: int = 1,
    skill: float = 0.83,
    iterations: int = 240,
    reward: str = "human",
    learning_rate: str = "0.001",
    reward_source: str | None = None,
    with_video: bool = True,
) -> Path:
    """A run as a whole training leaves it; returns its folder."""
    run = runs / task / name
    run.mkdir(parents=True)
    record = {
        "format": 1, "kind": "train", "task": task, "name": "train",
        "command": ["/opt/bin/gantry train", f"task={task}", f"seed={seed}", f"ppo.learning_rate={learning_rate}"],
        "created": "2026-11-20T10:15:00+0000", "state": state, "error": None,
        "versions": {"python": "3.11.7", "gantry-lab": "0.1.0", "mujoco": "3.14.0", "torch": "2.13.0"},
        "git_commit": "cb27edc5f1a0e4b7c2d9", "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "system": "Linux 6.1"},
        "threads": 2, "seconds": 254.2, "env_steps": 4_000_000, "env_steps_per_s": 15736.0, "peak_memory_gb": 1.34,
        "diverged": 0,
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    (run / "config.yaml").write_text(CONFIG.format(seed=seed, learning_rate=learning_rate, reward=reward))
    (run / "reward.py").write_text(reward_source or REWARD)
    (run / "randomization.yaml").write_text("".join(f"{k}: {v}\n" for k, v in RANGES.items()))
    write_progress(run, iterations, seed, skill)
    (run / "evaluation.json").write_text(json.dumps(evaluation(skill)))
    if with_video:
        (run / "video.mp4").write_bytes(video())
    return run


def write_episodes(run: Path, count: int = 480) -> None:
    """A robot that falls where friction is below 0.6 and does not care for gravity."""
    draw = np.random.default_rng(0)
    friction, gravity = draw.uniform(0.3, 1.5, count), draw.uniform(-1.0, 1.0, count)
    fallen = (friction < 0.6).astype(int)
    fitness = 0.8 - 0.5 * fallen + draw.normal(0.0, 0.02, count)
    diverged = np.zeros(count, int)
    diverged[0] = 1
    batch = {
        "fitness": fitness.round(4).tolist(), "fallen": fallen.tolist(), "diverged": diverged.tolist(),
        "length_s": [20.0] * count,
        "physics": {
            "gravity": {"unit": "m/s^2", "elements": 1, "values": gravity.round(4).tolist()},
            "friction": {"unit": "", "elements": 1, "values": friction.round(4).tolist()},
            "motor_strength": {"unit": "", "elements": 12, "values": [1.0] * count},
        },
    }  # fmt: skip
    content = {"format": 1, "task": "go2-walk", "physics_hash": "x", "episodes": count, "seeds": [1]}
    (run / "episodes.json").write_text(json.dumps(content | {"sets": {"randomized": batch}}))


def write_many(runs: Path, count: int) -> None:
    """`count` runs of a sweep, each with its own record and configuration; the large files are shared links."""
    import os

    first = write_run(runs, "2026-11-01_00-00-0000-train", iterations=400)
    record = json.loads((first / "run.json").read_text())
    result = evaluation()
    for i in range(1, count):
        run = runs / ("go2-walk" if i % 3 else "go1-walk") / f"2026-11-{1 + i % 20:02d}_00-00-{i:04d}-sweep"
        run.mkdir(parents=True)
        for name in ("progress.jsonl", "video.mp4", "randomization.yaml"):
            os.link(first / name, run / name)
        lr = f"{1e-4 * (1 + i % 40):.4f}"
        own = {"task": run.parent.name, "seconds": 200.0 + i % 97, "state": ("finished", "finished", "failed")[i % 3],
               "command": ["gantry train", f"seed={i}", f"ppo.learning_rate={lr}"]}  # fmt: skip
        (run / "run.json").write_text(json.dumps(record | own))
        (run / "config.yaml").write_text(
            CONFIG.format(seed=i, learning_rate=lr, reward=f"rewards/candidate_{i % 100}.py")
        )
        (run / "reward.py").write_text((first / "reward.py").read_text() + f"# candidate {i % 100}\n")
        result["sets"]["randomized"]["fitness"] = interval(0.5 + (i * 37 % 400) / 1000, 0.01)
        (run / "evaluation.json").write_text(json.dumps(result))
