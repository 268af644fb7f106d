"""Where a search keeps what it knows, and how one is started, found again and named."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agents import run_folder
from agents.search_ledger import LEDGER, Ledger
from agents.search_settings import Settings, settings_of
from configs.errors import UserError
from envs import physics

SEARCH, TABLE = "search.json", "table.json"
FORMAT = 1
SWEEPS = "sweeps"
"""The searches' folder below that of the runs, which lists of runs leave out."""


class SearchFolder:
    """One search on disk."""

    def __init__(self, path: Path, settings: Settings) -> None:
        self.path, self.settings = path, settings
        self.runs = path.parent.parent
        self.ledger = Ledger(path)

    @property
    def id(self) -> str:
        return self.path.name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Raises UserError while another process runs this search: two would pay for the same answers."""
        with (self.path / ".lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"search {self.path} is running already; wait for it, or stop it first") from None
            yield

    def candidate(self, name: str) -> Path:
        """Run folder of a candidate or a finalist's retraining."""
        return self.runs / self.settings.task / f"{self.id}-{name}"

    def relative(self, run: Path) -> str:
        """As the ledger names run folders."""
        return run.relative_to(self.runs).as_posix()


def create(settings: Settings, config: Mapping[str, Any], file: str) -> Path:
    """Makes a folder below runs/sweeps and writes into `file` there what will be done, with what and where."""
    path = run_folder.create(Path(config["runs"]).absolute(), SWEEPS, config["name"])
    content = {
        "format": FORMAT, "id": path.name, "task": settings.task, "config": settings.config,
        "physics_hash": physics.digest(settings.definition), "command": sys.argv,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "versions": run_folder.versions(),
        "git_commit": run_folder.git_commit(), "machine": run_folder.machine(),
    }  # fmt: skip
    run_folder.write_atomically(path / file, json.dumps(content, indent=1) + "\n")
    return path


def start(config: Mapping[str, Any]) -> SearchFolder:
    """Makes a new search. Raises UserError for settings that make no sense."""
    settings = settings_of(config)
    return SearchFolder(create(settings, config, SEARCH), settings)


def resume(config: Mapping[str, Any], *, new_llm: bool = False) -> SearchFolder:
    """The search that `resume` names, with the settings it was started with.

    Args:
        config: `resume` is a search's folder, or true for the newest unfinished one with this configuration.
        new_llm: take the model's settings from `config`, to raise a limit for example.

    Raises:
        UserError: no such search, or one that was judged on other physics sets.
    """
    path = _newest(config) if config["resume"] is True else Path(str(config["resume"])).absolute()
    run_folder.require(path, SEARCH)
    content = run_folder.read_json(path / SEARCH)
    if content.get("format") != FORMAT:
        raise UserError(f"{path / SEARCH} is not of format {FORMAT}; it is from another version of Gantry")
    kept = {**config, **content["config"]}  # settings that came with a newer version have their defaults
    if new_llm:
        kept["llm"] = config["llm"]
    settings = settings_of(kept)
    if physics.digest(settings.definition) != content["physics_hash"]:
        raise UserError(
            f"search {path} was judged on physics sets that have changed since ({content['physics_hash']}); "
            "its figures cannot be compared with new ones: start a new search"
        )
    folder = SearchFolder(path, settings)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    folder.ledger.add("resumed", f"{stamp}-{time.monotonic_ns()}", command=sys.argv)
    return folder


def _newest(config: Mapping[str, Any]) -> Path:
    wanted = _comparable(settings_of({**config, "resume": False}).config)
    sweeps = Path(config["runs"]).absolute() / SWEEPS
    for path in sorted(sweeps.glob("*/"), reverse=True):
        with suppress(UserError, KeyError, TypeError):  # a damaged search must not stand in the way of the others
            content = run_folder.read_json(path / SEARCH)
            same = _comparable(content["config"]) == wanted
            if same and (path / LEDGER).is_file() and not (path / TABLE).is_file():
                return path
    raise UserError(f"no unfinished search with this configuration below {sweeps}; leave resume out to start one")


def _comparable(config: Mapping[str, Any]) -> Any:
    left_out = ("resume", "job", "llm", "runs")
    return json.loads(json.dumps({key: value for key, value in config.items() if key not in left_out}))
