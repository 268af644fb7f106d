"""Searches as a benchmark runs them: each in a folder of its own, where it is found again, whole or in part."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from agents import search_ledger
from agents.run_folder import read_json
from agents.search_folder import SEARCH, TABLE
from configs.errors import UserError


class Waiting(Exception):
    """A search that cannot go on before somebody has answered. The message says where."""


def find(place: Path) -> Path | None:
    """The search below a folder of runs, if it has begun."""
    found = sorted(place.glob(f"sweeps/*/{SEARCH}"))
    return found[-1].parent if found else None


def run(place: Path, overrides: Sequence[str], launcher: Sequence[str]) -> Path:
    """Runs a search to its end, from where it stands; one that is finished is left as it is. Returns its folder.

    Args:
        place: its folder of runs, which holds no other search.
        overrides: its settings, which count when it starts.
        launcher: Hydra's overrides of the launcher, which count every time.

    Raises:
        Waiting: answers are missing.
        UserError: it ended without a table, for a reason that it printed.
    """
    search = find(place)
    if search is not None and (search / TABLE).is_file():
        return search
    settings = [f"resume={quoted(search)}"] if search else [f"runs={quoted(place)}", "video=false", *overrides]
    command = [sys.executable, "-m", "gantry", "search", *settings, *launcher]
    done = subprocess.run(command, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": "1"})
    search = find(place)
    if search is not None and (search / TABLE).is_file():
        return search
    if search is not None and (missing := unanswered(search)):
        raise Waiting(f"{search / 'inbox'}: {', '.join(missing)}")
    raise UserError(f"the search in {place} ended with status {done.returncode}; see above")


def unanswered(search: Path) -> list[str]:
    """Names of the prompts in the inbox without an answer."""
    names = [path.name.removesuffix(".prompt.md") for path in sorted((search / "inbox").glob("*.prompt.md"))]
    return [name for name in names if not (search / "inbox" / f"{name}.answer.md").is_file()]


def table(search: Path) -> dict[str, Any]:
    return read_json(search / TABLE)


def quoted(path: Path) -> str:
    """A path as Hydra's grammar of overrides wants it."""
    return '"' + str(path.absolute()).replace('"', '\\"').replace("${", "\\${") + '"'


def training_s(search: Path) -> float:
    """[s] from the last check of a generation's code to its ranking; for searches of one generation."""
    checked = search_ledger.read(search / search_ledger.LEDGER)
    last = max(_time(event) for event in checked if event["event"] == "checked")
    return next(_time(event) for event in checked if event["event"] == "ranked") - last


def _time(event: Mapping[str, Any]) -> float:
    return datetime.strptime(event["time"], "%Y-%m-%dT%H:%M:%S%z").timestamp()


def reports(search: Path, arm: str) -> list[dict[str, Any]]:
    """What was measured of an arm's winner on the report physics, one entry a seed."""
    events = search_ledger.read(search / search_ledger.LEDGER)
    folders = [event["folder"] for event in events if event["event"] == "reported" and event["arm"] == arm]
    return [read_json(search.parent.parent / folder / "report.json") for folder in folders]
