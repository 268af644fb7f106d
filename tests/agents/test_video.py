"""`gantry video`: from a run's folder to a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import imageio.v2 as imageio
import numpy as np
import pytest
import torch

from agents import checkpoint, video
from configs.errors import UserError
from envs import tasks

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def policy(monkeypatch):
    """A run's policy that pushes the cart to and fro, in place of a trained one. Records what it was shown."""
    seen: list[torch.Tensor] = []

    def act(observation):
        seen.append(observation.clone())
        return torch.full((len(observation), 1), float(np.sin(0.2 * len(seen))))

    loaded = SimpleNamespace(task=tasks.get("cartpole-swingup"), act=act, config={})
    monkeypatch.setattr(checkpoint, "load_policy", lambda run: loaded)
    return seen


def film(monkeypatch, capsys, *arguments: str) -> Path:
    monkeypatch.setattr(sys, "argv", ["gantry video", *arguments])
    video.main()
    return Path(capsys.readouterr().out.strip().splitlines()[-1])


def test_the_video_lies_in_the_run_and_is_printed(monkeypatch, capsys, tmp_path, policy):
    small = ("--width", "160", "--height", "120", "--seconds", "0.4")
    path = film(monkeypatch, capsys, str(tmp_path), *small)
    assert path == tmp_path / "video.mp4"
    with imageio.get_reader(path) as reader:
        about, frames = reader.get_meta_data(), list(reader.iter_data())
    assert (about["codec"], about["size"], about["fps"], len(frames)) == ("h264", (160, 120), 50.0, 20)
    assert len(policy) == 20 and policy[0].shape[0] == 1


def test_options_reach_the_film(monkeypatch, capsys, tmp_path, policy):
    out = tmp_path / "elsewhere" / "four.mp4"
    path = film(monkeypatch, capsys, str(tmp_path), "--width", "160", "--height", "120", "--seconds", "0.4",
                "--fps", "25", "--simulations", "4", "--physics", "report", "--output", str(out))  # fmt: skip
    assert path == out
    with imageio.get_reader(path) as reader:
        about, frames = reader.get_meta_data(), list(reader.iter_data())
    assert (about["size"], about["fps"], len(frames)) == ((320, 240), 25.0, 10)
    assert policy[0].shape[0] == 4


def test_the_seed_decides_what_happens(tmp_path, policy):
    for seed in (0, 0, 1):
        video.film(tmp_path, seconds=0.1, seed=seed, width=160, height=120)
    first, second, third = policy[:5], policy[5:10], policy[10:]
    assert all(torch.equal(a, b) for a, b in zip(first[:1], second[:1], strict=True))
    assert not torch.equal(first[0], third[0])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--simulations", "0"), "simulations 0 is out of range; valid: 1 to 16"),
        (("--output", "film.gif"), "film.gif.*end its name in .mp4"),
        (("--physics", "randomised"), "unknown physics set 'randomised'.*did you mean 'randomized'"),
        (("--camera", "side"), "unknown camera 'side'; valid: track"),
        (("--width", "161"), "width 161 is odd"),
    ],
)
def test_bad_options_are_refused(monkeypatch, capsys, tmp_path, policy, arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        film(monkeypatch, capsys, str(tmp_path), *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused(monkeypatch, capsys, tmp_path):
    with pytest.raises(UserError, match="missing"):
        film(monkeypatch, capsys, str(tmp_path / "missing"))


def test_help_needs_neither_torch_nor_opengl():
    program = (
        "import sys; sys.argv = ['gantry', 'video', '--help']\n"
        "import gantry\n"
        "try: gantry.main()\n"
        "finally: assert not {'torch', 'mujoco', 'OpenGL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--simulations" in done.stdout and "(20.0)" in done.stdout
