"""`gantry train -m` through every launcher, each for real: both jobs run and leave whole run folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from tests.agents.launchers import LAUNCHERS, need

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def mentioning(text: str) -> list[str]:
    """Command lines of running processes that contain the text."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_sweep(launcher, tmp_path, small, short_folder):
    need(launcher)
    overrides = [o for o in small if not o.startswith(("threads=", "env_steps="))]
    options = list(LAUNCHERS[launcher])
    if launcher == "ray":
        options.append(f"+hydra.launcher.ray.init._temp_dir={short_folder}")
    done = subprocess.run(
        [sys.executable, "-m", "gantry", "train", "-m", *overrides, "env_steps=256", "seed=1,2", *options],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "the sweep leaves its files below runs/ alone"
    runs = sorted((tmp_path / "runs" / "cartpole-swingup").iterdir())
    configs = [yaml.safe_load((run / "config.yaml").read_text()) for run in runs]
    assert sorted(config["seed"] for config in configs) == [1, 2]
    for run, config in zip(runs, configs, strict=True):
        record = json.loads((run / "run.json").read_text())
        assert record["state"] == "finished" and record["env_steps"] == 256
        assert (run / "checkpoint.pt").is_file()
        # Jobs that run side by side share the cores; one after the other, each has them all.
        assert config["threads"] == (len(os.sched_getaffinity(0)) if launcher == "basic" else 1)
    if launcher == "ray":
        limit = time.monotonic() + 60
        while mentioning(str(short_folder)) and time.monotonic() < limit:
            time.sleep(0.5)
        assert mentioning(str(short_folder)) == []


def test_a_bad_value_in_a_sweep_is_named(tmp_path, small):
    done = subprocess.run(
        [sys.executable, "-m", "gantry", "train", "-m", *small, "env_steps=-1,128"],
        cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2
    lines = done.stderr.splitlines()  # Hydra says which job, Gantry what is wrong
    assert lines[-1] == "gantry: error: env_steps=-1; at least 1 step is needed"
    assert any("Error executing job" in line and "env_steps=-1" in line for line in lines)
    assert "Traceback" not in done.stderr
