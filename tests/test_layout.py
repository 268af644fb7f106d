"""The import direction of the project, read from the source of every file.

A reader can read the packages in order because imports go only to what comes earlier. The checker itself is
tested on small trees with one violation each.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Each may import itself and what stands before it. gantry.py reaches the mains by name, at run time.
PACKAGES = ("configs", "envs", "agents", "sim2real", "watch", "hydra_plugins", "gantry")

# Reading order inside a package; what shares a line is on one level. Modules that are not listed may stand
# anywhere, as long as no cycle arises.
ORDER = {
    "envs": "robots / state / observations / randomization / simulation / tasks / rewards / physics"
    " / vec_env / rendering",
    "agents": "ppo checkpoint train evaluate / llm / reward_code confinement / reward_search"
    " / physics_prior / randomization_design",
    # links.link is the interface that the supervisor and every link agree on, so it precedes them.
    "sim2real": "bundle export links.link / safety runtime guard / links / simulated_robot / transfer",
}

# Patterns of modules -> what importing them must not load, even indirectly.
LIGHT = {
    "sim2real.safety sim2real.runtime sim2real.guard sim2real.links.link sim2real.links.unitree*": (
        "torch mujoco mjbatch envs agents"
    ),
    "envs.robots envs.robots.* configs configs.*": "torch mujoco mjbatch",
    "gantry": "torch mujoco mjbatch hydra numpy gymnasium rich",
}


@dataclass(frozen=True)
class Import:
    """`target` is a dotted name as written, with ``.name`` added for ``from x import name``."""

    target: str
    line: int
    at_import: bool  # runs when the module is imported (not in a function, not for type checkers only)


def modules(root: Path) -> dict[str, Path]:
    """Dotted name -> file of every module of ours under `root`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
        if (root / f"{package}.py").is_file():
            found[package] = root / f"{package}.py"
    return found


def is_type_checking(node: ast.If) -> bool:
    return ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports(tree: ast.Module, name: str, is_package: bool) -> Iterator[Import]:
    """Every import statement of a module, relative ones made absolute."""
    pending: list[tuple[ast.AST, bool]] = [(tree, True)]
    while pending:
        node, at_import = pending.pop()
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name.split(".")[: len(name.split(".")) - node.level + is_package]
                base = ".".join([*above, base] if base else above)
            yield from (Import(f"{base}.{alias.name}", node.lineno, at_import) for alias in node.names)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            at_import = False
        if isinstance(node, ast.If) and is_type_checking(node):
            pending += [(child, False) for child in node.body] + [(child, at_import) for child in node.orelse]
        else:
            pending += [(child, at_import) for child in ast.iter_child_nodes(node)]


def level(name: str) -> int | None:
    """Position of a module in its package's reading order, None where that leaves it free."""
    package, *rest = name.split(".")
    positions = {
        module: position for position, group in enumerate(ORDER.get(package, "").split("/")) for module in group.split()
    }
    prefixes = (".".join(rest[:n]) for n in range(len(rest), 0, -1))
    return next((positions[prefix] for prefix in prefixes if prefix in positions), None)


def module_of(target: str, known: dict[str, Path]) -> str | None:
    """The module of ours that an import refers to: its longest prefix that is one."""
    parts = target.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in names if name in known), None)


def violations(root: Path) -> list[str]:
    """What breaks the layout under `root`, one readable line each."""
    known = modules(root)
    found, graph, outside = [], {}, {}
    for name, path in known.items():
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
        package = name.split(".")[0]
        graph[name], outside[name] = set(), set()
        for entry in imports(tree, name, path.name == "__init__.py"):
            where = f"{path.relative_to(root)}:{entry.line}"
            top = entry.target.split(".")[0]
            if top in ("tests", "benchmarks"):
                found.append(f"{where}: {name} imports {top}")
            if entry.at_import:
                outside[name].add(top)
            if top not in PACKAGES:
                continue
            if PACKAGES.index(top) > PACKAGES.index(package):
                found.append(f"{where}: {name} imports {entry.target}, which comes later")
            if top != package and any(p.startswith("_") and p != "__init__" for p in entry.target.split(".")):
                found.append(f"{where}: {name} imports the private name {entry.target}")
            other = module_of(entry.target, known)
            if other is None or not entry.at_import or other == name:
                continue
            graph[name].add(other)
            mine, theirs = level(name), level(other)
            if top == package and mine is not None and theirs is not None and theirs > mine:
                found.append(f"{where}: {name} imports {other}, which comes later in {package}")
        found += private_attributes(tree, name, path.relative_to(root))
    return found + cycles(graph) + heavy(graph, outside)


def private_attributes(tree: ast.Module, name: str, path: Path) -> Iterator[str]:
    """Uses of ``x._y`` where x was imported from another package of ours."""
    package, foreign = name.split(".")[0], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if node.module.split(".")[0] in PACKAGES and node.module.split(".")[0] != package:
                foreign |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            tops = {alias.asname or alias.name.split(".")[0]: alias.name.split(".")[0] for alias in node.names}
            foreign |= {local for local, top in tops.items() if top in PACKAGES and top != package}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            root = node.value
            while isinstance(root, ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in foreign:
                yield f"{path}:{node.lineno}: {name} uses the private name {ast.unparse(node)}"


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """Circular imports between modules; a package's __init__ may collect names from its own modules."""
    done: set[str] = set()
    found: list[str] = []

    def visit(name: str, trail: list[str]) -> None:
        if name in trail:
            found.append("circular import: " + " -> ".join([*trail[trail.index(name) :], name]))
        elif name not in done:
            for other in sorted(graph[name]):
                if not name.startswith(other + "."):
                    visit(other, [*trail, name])
            done.add(name)

    for name in sorted(graph):
        visit(name, [])
    return found


def heavy(graph: dict[str, set[str]], outside: dict[str, set[str]]) -> list[str]:
    """Modules that must stay light but load something heavy through whatever they import."""
    found = []
    for patterns, forbidden in LIGHT.items():
        for name in sorted(n for n in graph if any(fnmatchcase(n, p) for p in patterns.split())):
            for module, way in reached(name, graph).items():
                for bad in sorted(outside[module] & set(forbidden.split())):
                    found.append(f"importing {name} loads {bad} ({way})")
    return found


def reached(name: str, graph: dict[str, set[str]]) -> dict[str, str]:
    """Every module of ours that importing `name` runs -> the way there.

    Importing a.b.c runs a and a.b first. Only envs is left out: its __init__ registers environments for
    training, and what runs on a robot may not import from envs at all.
    """
    ways: dict[str, str] = {}
    pending = [(name, name)]
    while pending:
        module, way = pending.pop()
        if module not in ways:
            ways[module] = way
            parts = module.split(".")
            above = {".".join(parts[:n]) for n in range(1, len(parts))} & graph.keys() - {"envs"}
            pending += [(other, f"{way} -> {other}") for other in sorted(graph[module] | above)]
    return ways


def test_the_project_keeps_its_layout():
    assert len(modules(ROOT)) > 5
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"configs/a.py": "import envs.b", "envs/b.py": ""}, "configs.a imports envs.b, which comes later"),
        (
            {"envs/a.py": "def f():\n    from agents.b import x"},
            "envs.a imports agents.b.x, which comes later",
        ),
        ({"agents/a.py": "from sim2real import b"}, "agents.a imports sim2real.b, which comes later"),
        ({"watch/a.py": "import hydra_plugins.b"}, "watch.a imports hydra_plugins.b, which comes later"),
        ({"watch/a.py": "from gantry import main"}, "watch.a imports gantry.main, which comes later"),
        ({"watch/a.py": "from tests.helpers import x"}, "watch.a imports tests"),
        (
            {
                "envs/__init__.py": "",
                "envs/state.py": "from envs import simulation",
                "envs/simulation.py": "",
            },
            "envs.state imports envs.simulation, which comes later in envs",
        ),
        (
            {"envs/robots/go.py": "from ..tasks.walk import x", "envs/tasks/walk.py": ""},
            "envs.robots.go imports envs.tasks.walk, which comes later in envs",
        ),
        (
            {"agents/ppo.py": "import agents.llm", "agents/llm.py": ""},
            "agents.ppo imports agents.llm, which comes later in agents",
        ),
        ({"agents/a.py": "from envs.b import _secret"}, "agents.a imports the private name envs.b._secret"),
        ({"agents/a.py": "from envs import b\nb._secret()"}, "agents.a uses the private name b._secret"),
        ({"agents/a.py": "import envs.b\nenvs.b._x"}, "agents.a uses the private name envs.b._x"),
        (
            {"envs/a.py": "import envs.b", "envs/b.py": "from . import a", "envs/__init__.py": ""},
            "circular import: envs.a -> envs.b -> envs.a",
        ),
        ({"sim2real/guard.py": "import torch"}, "importing sim2real.guard loads torch (sim2real.guard)"),
        (
            {"sim2real/runtime.py": "import sim2real.bundle", "sim2real/bundle.py": "import mujoco"},
            "importing sim2real.runtime loads mujoco (sim2real.runtime -> sim2real.bundle)",
        ),
        (
            {"sim2real/__init__.py": "from envs import state", "sim2real/safety.py": "import numpy"},
            "importing sim2real.safety loads envs (sim2real.safety -> sim2real)",
        ),
        ({"sim2real/links/unitree_dds.py": "import agents"}, "sim2real.links.unitree_dds loads agents"),
        (
            {"sim2real/links/link.py": "import sim2real.runtime", "sim2real/runtime.py": ""},
            "sim2real.links.link imports sim2real.runtime, which comes later in sim2real",
        ),
        (
            {"sim2real/safety.py": "from sim2real.links import usb", "sim2real/links/usb.py": ""},
            "sim2real.safety imports sim2real.links.usb, which comes later in sim2real",
        ),
        ({"envs/robots/go.py": "import mujoco"}, "importing envs.robots.go loads mujoco"),
        ({"gantry.py": "import hydra"}, "importing gantry loads hydra"),
    ],
)
def test_a_violation_is_found(tmp_path, files, complaint):
    write(tmp_path, files)
    assert any(complaint in line for line in violations(tmp_path)), violations(tmp_path)


def test_what_is_allowed_passes(tmp_path):
    write(
        tmp_path,
        {
            "configs/errors.py": "class UserError(Exception): pass",
            "envs/__init__.py": "from envs.state import State",
            "envs/state.py": (
                "from typing import TYPE_CHECKING\n"
                "import torch\n"
                "from configs.errors import UserError\n"
                "if TYPE_CHECKING:\n    from envs.simulation import Simulation\n"
            ),
            "envs/simulation.py": "from envs.state import State\n_private = State._own = 1",
            "envs/robots/go.py": "import numpy\nfrom configs.errors import UserError",
            "agents/train.py": "from envs import State\nself._x = State.__name__",
            "sim2real/runtime.py": "import onnxruntime\ndef simulate():\n    import mujoco",
            "sim2real/safety.py": "from sim2real.links.link import Command",
            "sim2real/links/link.py": "class Command: pass",
            "sim2real/links/simulation.py": "import mujoco\nimport envs\nimport sim2real.safety",
            "hydra_plugins/search/plugin.py": "from agents.train import main\nimport watch",
        },
    )
    assert violations(tmp_path) == []


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
