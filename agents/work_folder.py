"""Folders of long work of several stages, below runs/sweeps beside those of searches: started, found again, resumed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents import run_folder
from agents.search_folder import FORMAT, SWEEPS, SearchFolder, create
from agents.search_ledger import Ledger
from agents.search_settings import Settings
from configs.errors import UserError
from envs import physics

_LEFT_OUT = ("resume", "job", "llm", "runs")
"""Settings by which unfinished work is not told apart."""


@dataclass(frozen=True)
class Kind:
    """One kind of work: what its folder holds and what its command is called."""

    name: str
    """As in `gantry NAME`; NAME.json holds the settings, NAME.jsonl the ledger, both written by this module."""
    settings_of: Callable[[Mapping[str, Any]], Settings]
    result: str
    """The file that ends the work."""

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    @property
    def ledger(self) -> str:
        return f"{self.name}.jsonl"


class WorkFolder(SearchFolder):
    """One such folder. Its id begins the names of the run folders that the work makes."""

    def __init__(self, path: Path, settings: Settings, kind: Kind) -> None:
        self.path, self.settings, self.kind = path, settings, kind
        self.runs = path.parent.parent
        self.ledger = Ledger(path, kind.ledger)


def start(kind: Kind, config: Mapping[str, Any]) -> WorkFolder:
    """Makes a new folder. Raises UserError for settings that make no sense."""
    settings = kind.settings_of(config)
    return WorkFolder(create(settings, config, kind.file), settings, kind)


def resume(kind: Kind, config: Mapping[str, Any], *, new_llm: bool = False) -> WorkFolder:
    """The folder that `resume` names, with the settings it was started with.

    Args:
        kind: of work.
        config: `resume` is a folder, or true for the newest unfinished one with this configuration.
        new_llm: take the model's settings from `config`, to raise a limit for example.

    Raises:
        UserError: no such folder, or its physics sets have changed since.
    """
    path = _newest(kind, config) if config["resume"] is True else Path(str(config["resume"])).absolute()
    run_folder.require(path, kind.file)
    content = run_folder.read_json(path / kind.file)
    if content.get("format") != FORMAT:
        raise UserError(f"{path / kind.file} is not of format {FORMAT}; it is from another version of Gantry")
    kept = {**config, **content["config"]}  # settings that came with a newer version have their defaults
    if new_llm:
        kept["llm"] = config["llm"]
    settings = kind.settings_of(kept)
    if physics.digest(settings.definition) != content["physics_hash"]:
        raise UserError(
            f"{path} was judged on physics sets that have changed since ({content['physics_hash']}); its figures "
            "cannot be compared with new ones: start anew"
        )
    return WorkFolder(path, settings, kind)


def find_or_start(kind: Kind, config: Mapping[str, Any], *, new_llm: bool = False) -> WorkFolder:
    """The folder, made anew or, with `resume`, found again. Raises UserError for bad settings."""
    return resume(kind, config, new_llm=new_llm) if config["resume"] else start(kind, config)


def _newest(kind: Kind, config: Mapping[str, Any]) -> Path:
    wanted = _comparable(kind.settings_of({**config, "resume": False}).config)
    sweeps = Path(config["runs"]).absolute() / SWEEPS
    for path in sorted(sweeps.glob("*/"), reverse=True):
        with suppress(UserError, KeyError, TypeError):  # a damaged folder must not stand in the way of the others
            content = run_folder.read_json(path / kind.file)
            if _comparable(content["config"]) == wanted and not (path / kind.result).is_file():
                return path
    raise UserError(f"no unfinished {kind.name} with this configuration below {sweeps}; leave resume out to start one")


def _comparable(config: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps({key: value for key, value in config.items() if key not in _LEFT_OUT}))
