"""Tasks, one file each. `get("go2-walk")` finds `envs/tasks/go2_walk.py`."""

from importlib import import_module
from pathlib import Path

from configs.errors import unknown
from envs.tasks.task import Task


def names() -> list[str]:
    """The tasks that exist: every module here that defines a TASK."""
    stems = (p.stem for p in Path(__file__).parent.glob("*.py"))
    return sorted(stem.replace("_", "-") for stem in stems if stem not in ("__init__", "task"))


def get(name: str) -> Task:
    """The task of that name. Raises UserError, with the valid names, where there is none."""
    if name not in names():
        raise unknown("task", name, names())
    task: Task = import_module(f"{__name__}.{name.replace('-', '_')}").TASK
    return task
