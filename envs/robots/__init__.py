"""Robots as data: one MJCF and one RobotSpec each. `get("go2")` finds `envs/robots/go2.py`."""

from importlib import import_module
from pathlib import Path

from configs.errors import unknown
from envs.robots.spec import RobotSpec

_NOT_ROBOTS = {"spec", "quadruped"}


def names() -> list[str]:
    """The robots that exist: every module here that defines a SPEC."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in _NOT_ROBOTS | {"__init__"})


def get(name: str) -> RobotSpec:
    """The robot of that name. Raises UserError, with the valid names, where there is none."""
    if name not in names():
        raise unknown("robot", name, names())
    spec: RobotSpec = import_module(f"{__name__}.{name}").SPEC
    return spec
