"""The ledger of a reward search: everything that happened, append-only, one JSON object a line.

On disk (`SEARCH` = ``runs/sweeps/TIME-NAME``, where TIME-NAME is also the search's id):

    SEARCH/search.json     resolved configuration, task, threads, physics hash, versions, command; written once
    SEARCH/ledger.jsonl    this file
    SEARCH/prompts/ARM-gK.json   the messages of generation K: [{"role", "content"}]
    SEARCH/llm/            what the provider was asked and answered (agents/llm.py)
    SEARCH/states.pt       recorded states for dry runs
    SEARCH/jobs/           what the launcher was handed: one JSON file a job
    SEARCH/table.json      the final table
    runs/TASK/ID-CANDIDATE/             run folder of a candidate, an ordinary run of kind "candidate"
    runs/TASK/ID-CANDIDATE-seedSEED/    run folder of a finalist's retraining, kind "finalist"

A candidate is named ``ARM-gGsS`` (``model-g0s3``: generation 0, sample 3), or just ``human`` and ``sparse``.
In its run folder: ``answer.md`` (as it came), ``reward.py``, ``check.json``, ``rung0.json`` ... (one a stage of
training), ``reflection.md``, and what every run has (run.json also names ``search`` and ``candidate``).

Every line has ``event``, ``key`` (unique within the event) and ``time`` (ISO 8601). A line that a kill cut short
is skipped by readers. Paths are relative to the folder of runs. ``fitness`` is {"mean", "low", "high"} over
evaluation seeds (low and high are null for one seed), measured outside the candidate's process. Events, in order:

==============  ==============  =====================================================================================
event           key             content
==============  ==============  =====================================================================================
``search``      ``search``      ``format``, ``id``, ``task``, ``proposer``, ``arms``, ``generations``, ``samples``,
                                ``env_steps`` (of a full training), ``rungs`` (env steps of each stage), ``seed``,
                                ``final_seeds``, ``physics_hash``, ``fitness_threshold``, ``trust``, ``missing``
                                (kernel features lacking under trust=unconfined), ``safety_instruction``
``resumed``     time            ``command``: the search was started again after a stop or a kill
``generation``  ARM-gK          ``arm``, ``generation``, ``prompt`` (file below SEARCH, null without a model),
                                ``parents``: candidates whose code stood in the prompt, or that were mutated
``proposal``    CANDIDATE       ``arm``, ``generation``, ``sample``, ``folder``, ``parents``, ``provider``, ``model``,
                                ``input_tokens``, ``output_tokens``, ``cost_usd``, ``seconds``, ``replayed``,
                                ``recorded``, ``prompt_changed``, ``error`` (null, or why there is no answer)
``approval``    ARM-gK          ``approved``, ``rejected``: candidates (with approve=ask only)
``checked``     CANDIDATE       ``ok``, ``stage`` (check, dry_run), ``problems`` (list of lines for the author),
                                ``components`` (of the dry run: name to {mean, std, low, high}), ``seconds``
``trained``     CANDIDATE/R     after rung R: ``candidate``, ``rung``, ``ok``, ``env_steps``, ``seconds``,
                                ``fitness`` (on select), ``fall_rate``, ``problem`` (null, or why it failed)
``stopped``     CANDIDATE       successive halving took it out after its rung: ``candidate``, ``rung``,
                                ``env_steps``, ``fitness_mean``, ``bar`` (the lowest fitness that went on)
``reflected``   CANDIDATE       ``candidate``, ``fitness_mean``, ``gaming`` ({"suspected", "correlation",
                                "reward_gain", "fitness_share"} or null)
``ranked``      ARM-gK          ``ranking``: [[candidate, fitness mean]] of all generations so far that were
                                trained in full, best first; ``best``
``exhausted``   ARM-gK          a limit of tokens or money ended the generations: ``reason``
``final``       RUN             one retraining: ``candidate``, ``arm``, ``seed``, ``folder``, ``ok``, ``env_steps``,
                                ``fitness`` (on select), ``problem``. RUN is CANDIDATE-seedSEED
``winner``      ARM             ``candidate``, ``select``: {candidate: mean fitness over seeds}
``reported``    RUN             a winner's policy on report: ``candidate``, ``arm``, ``seed``, ``folder``,
                                ``fitness``, ``fall_rate``, ``measures``
``table``       ``table``       the content of table.json (see agents/search_table.py)
==============  ==============  =====================================================================================

A search is finished when it has a ``table``; running when the file's last line is young; else stopped or killed.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.errors import UserError

FORMAT = 1
LEDGER = "ledger.jsonl"

Event = dict[str, Any]


class Ledger:
    """Append-only record of a search; each (event, key) is written once, so a resumed search adds what is new."""

    def __init__(self, folder: Path, file: str = LEDGER) -> None:
        """Reads what there is. Raises UserError where the file cannot be read."""
        self.path = folder / file
        self._events: dict[tuple[str, str], Event] = {}
        for event in read(self.path):
            self._events.setdefault((event["event"], event["key"]), event)

    def __iter__(self) -> Iterator[Event]:
        return iter(list(self._events.values()))

    def get(self, event: str, key: str) -> Event | None:
        return self._events.get((event, key))

    def all(self, event: str) -> list[Event]:
        """Every event of that kind, in order."""
        return [content for (kind, _), content in self._events.items() if kind == event]

    def add(self, event: str, key: str, **content: Any) -> Event:
        """Writes the event through to the disk, unless one with this key is there; returns the one that stands."""
        known = self.get(event, key)
        if known is not None:
            return known
        entry: Event = {"event": event, "key": key, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **content}
        line = json.dumps(entry, allow_nan=False)
        with self.path.open("ab+") as file:
            if file.tell() and not _ends_in_newline(file):
                file.write(b"\n")  # what a kill cut short stays behind as a line of its own, which readers skip
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        entry = json.loads(line)  # as a resumed search will read it: keys are texts, tuples are lists
        self._events[event, key] = entry
        return entry


def _ends_in_newline(file: Any) -> bool:
    file.seek(-1, os.SEEK_END)
    return bool(file.read(1) == b"\n")


def read(path: Path) -> list[Event]:
    """The events of a ledger, without lines that are cut short; empty where there is no file.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    found = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("key"), str):
            found.append(event)
    return found
