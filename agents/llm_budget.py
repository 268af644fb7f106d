"""What a search has spent on its model, from a journal on disk: a crash neither loses nor hides a cost.

SEARCH/llm/requests.jsonl, append-only, one JSON object a line:

    {"event": "sent", "id": ..., "place": "g0s0", "attempt": 1, "time": ..., "tokens": ..., "cost_usd": ...}
    {"event": "answered" | "failed", "id": ..., "tokens": ..., "cost_usd": ..., ...}

A `sent` line stands before the request leaves and names its worst case. Until the outcome is known, and for good
where it never will be (killed, timed out), the worst case counts: the provider may have charged for it.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.llm_types import LLMError
from configs.llm_schema import Limits


@dataclass(frozen=True)
class Cost:
    """Of one attempt, or of all. USD is None where no price is known."""

    tokens: int = 0
    cost_usd: float | None = 0.0


@dataclass(frozen=True)
class Spent:
    """Of a whole search, worst cases of unknown outcomes included."""

    requests: int
    tokens: int
    cost_usd: float
    """[USD] of what has a price."""
    unpriced: int
    """Requests without a known price."""


class Budget:
    """Keeps the journal and decides whether another request fits. For one process and one event loop at a time."""

    def __init__(self, file: Path, limits: Limits) -> None:
        """Reads what was spent before. Raises LLMError for limits that make no sense."""
        self.file, self.limits = file, limits
        self._costs: dict[str, Cost] = {}
        self._open: set[str] = set()
        self._torn = file.exists() and not file.read_bytes().endswith(b"\n")
        _check(limits)
        for entry in _read(file):
            # A `sent` line gives the worst case, the outcome's line replaces it.
            cost = Cost(int(entry.get("tokens") or 0), entry.get("cost_usd"))
            if entry["event"] == "sent" or entry.get("known", True):
                self._costs[entry["id"]] = cost

    @property
    def under_way(self) -> int:
        """Requests of this process whose outcome is open."""
        return len(self._open)

    def spent(self) -> Spent:
        costs = self._costs.values()
        return Spent(
            len(self._costs),
            sum(c.tokens for c in costs),
            sum(c.cost_usd for c in costs if c.cost_usd is not None),
            sum(c.cost_usd is None for c in costs),
        )

    def obstacle(self, worst: Cost) -> str | None:
        """Why a request does not fit any more, or None. Worst cases of what is under way count as spent."""
        spent, limits = self.spent(), self.limits
        if limits.requests is not None and spent.requests + 1 > limits.requests:
            return f"llm.limits.requests={limits.requests} is reached"
        if limits.tokens is not None and spent.tokens + worst.tokens > limits.tokens:
            return (
                f"llm.limits.tokens={limits.tokens:,} would be passed: {spent.tokens:,} are used and the next request "
                f"may take {worst.tokens:,}"
            )
        if limits.cost_usd is not None and spent.cost_usd + (worst.cost_usd or 0.0) > limits.cost_usd:
            return (
                f"llm.limits.cost_usd={limits.cost_usd:g} would be passed: {spent.cost_usd:.2f} USD are spent and the "
                f"next request may cost {worst.cost_usd or 0.0:.2f}"
            )
        return None

    def send(self, place: str, attempt: int, worst: Cost) -> str:
        """Note that a request leaves now. Returns its identity for `settle`."""
        identity = secrets.token_hex(6)
        self._append("sent", identity, worst, place=place, attempt=attempt)
        self._costs[identity] = worst
        self._open.add(identity)
        return identity

    def settle(self, identity: str, event: str, cost: Cost | None, **more: Any) -> None:
        """Note the outcome. cost None: unknown, so that the worst case stays."""
        self._open.discard(identity)
        self._append(event, identity, cost or self._costs[identity], known=cost is not None, **more)
        if cost is not None:
            self._costs[identity] = cost

    def _append(self, event: str, identity: str, cost: Cost, **more: Any) -> None:
        line = {
            "event": event, "id": identity, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "tokens": cost.tokens,
            "cost_usd": cost.cost_usd, **more,
        }  # fmt: skip
        self.file.parent.mkdir(parents=True, exist_ok=True)
        data = ("\n" if self._torn else "") + json.dumps(line, ensure_ascii=False) + "\n"
        self._torn = False
        # One write, on disk before the request leaves.
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, data.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check(limits: Limits) -> None:
    for name in ("requests", "tokens", "cost_usd"):
        value = getattr(limits, name)
        if value is not None and value < 0:
            raise LLMError(f"llm.limits.{name}={value}; valid: 0 or more, or null for no limit")
    for name in ("concurrent", "attempts"):
        if getattr(limits, name) < 1:
            raise LLMError(f"llm.limits.{name}={getattr(limits, name)}; at least 1 is needed")
    for name in ("backoff_s", "max_wait_s"):
        if getattr(limits, name) < 0:
            raise LLMError(f"llm.limits.{name}={getattr(limits, name)}; valid: 0 or more")


def _read(file: Path) -> list[dict[str, Any]]:
    """The journal's lines. A line that a power cut tore apart is passed over; its request then has a `sent` line
    at most, and counts in full."""
    if not file.exists():
        return []
    entries = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and "event" in entry:
            entries.append(entry)
    return entries
