"""What every benchmark says: its figures, the machine and versions, as one JSON object on the last line."""

import json
import resource
import sys
from typing import Any

from agents.run_folder import git_commit, machine, versions
from envs import physics
from envs.tasks.task import Task


def finish(name: str, figures: dict[str, Any], task: Task) -> None:
    """Prints the result. Figures come first; machine, versions and the physics sets' hash follow."""
    print(
        json.dumps({
            "benchmark": name, **figures, "task": task.name, "physics_hash": physics.digest(task),
            "machine": machine(), "versions": versions(), "git_commit": git_commit(),
        }),
        flush=True,
    )  # fmt: skip


def peak_memory_gb() -> float:
    """The most memory that this process has held so far, without its children."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9
