"""Run folders: everything about one run, as files that anyone may read and nothing needs to unpickle."""

import contextlib
import json
import os
import platform
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError

FORMAT = 1
_PACKAGES = (
    "gantry-lab",
    "mujoco",
    "mjbatch",
    "torch",
    "stable-baselines3",
    "gymnasium",
    "numpy",
    "hydra-core",
)


def write_atomically(path: Path, content: str | bytes) -> None:
    """The file holds either its old content or all of the new, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)


def create(runs: Path, task: str, name: str) -> Path:
    """A new, empty folder runs/TASK/TIME-NAME, unique also when many start in the same second."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    for attempt in range(100):
        suffix = "" if attempt == 0 else f"-{secrets.token_hex(2)}"
        folder = runs / task / f"{stamp}-{name}{suffix}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise UserError(f"no unused folder name below {runs / task}")


def require(run: Path, *names: str) -> Path:
    """The run folder, or a UserError that says what it lacks."""
    if not run.is_dir():
        raise UserError(f"run {str(run)!r} is no folder; give a folder below runs/, such as runs/go2-walk/TIME-train")
    for name in names:
        if not (run / name).is_file():
            raise UserError(f"run {str(run)!r} holds no {name}; it is no finished run of this version of Gantry")
    return run


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises UserError where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object")
    return content


def read_config(run: Path) -> dict[str, Any]:
    """A run's resolved configuration. Raises UserError where the file is missing or damaged."""
    try:
        content = yaml.safe_load((run / "config.yaml").read_text())
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{run / 'config.yaml'} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or "task" not in content:
        raise UserError(f"{run / 'config.yaml'} holds no configuration of a run")
    return content


def versions() -> dict[str, str]:
    """Installed versions of what decides a run's result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def machine() -> dict[str, Any]:
    """What the run's times were measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.release()}"}


def git_commit() -> str | None:
    """The commit of the source tree, with `+` when files differ from it; None outside a repository."""
    root = Path(__file__).resolve().parent.parent
    try:
        run = lambda *a: subprocess.run(  # noqa: E731
            ["git", "-C", str(root), *a], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
        return run("rev-parse", "HEAD") + ("+" if run("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


class RunRecord:
    """run.json: what was run, how it is going, how it ended."""

    def __init__(self, folder: Path, content: dict[str, Any]) -> None:
        self.folder, self.content = folder, content

    @classmethod
    def begin(cls, folder: Path, kind: str, task: str, name: str, threads: int) -> "RunRecord":
        """The record of a run that starts now. A resumed one keeps how it began; `resumed` lists what followed."""
        content: dict[str, Any] = {
            "format": FORMAT, "kind": kind, "task": task, "name": name, "command": sys.argv,
            "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "state": "running", "error": None,
            "versions": versions(), "git_commit": git_commit(), "machine": machine(), "threads": threads,
        }  # fmt: skip
        if (folder / "run.json").is_file():
            before = read_json(folder / "run.json")
            now = {key: content[key] for key in ("command", "created", "versions", "git_commit", "machine")}
            content |= {key: before[key] for key in now if key in before}
            content["resumed"] = [*before.get("resumed", []), now]
        record = cls(folder, content)
        record.save()
        return record

    @classmethod
    def load(cls, folder: Path) -> "RunRecord":
        return cls(folder, read_json(require(folder, "run.json") / "run.json"))

    def update(self, values: Mapping[str, Any]) -> None:
        self.content.update(values)
        self.save()

    def save(self) -> None:
        write_atomically(self.folder / "run.json", json.dumps(self.content, indent=1) + "\n")
