"""What the runtime writes to its log: every tick, events, and what went wrong on the way from the robot."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sim2real.bundle import Bundle
from sim2real.commands import State
from sim2real.links.link import FloatArray, Link, LinkHealth, Reading
from sim2real.log import LogWriter, Message, flat
from sim2real.safety import Decision

LINK_CHECK_S = 1.0
"""How often the link's counters are looked at, so that a bad network is named in the log."""


@dataclass(frozen=True)
class Tick:
    """One turn of the loop, as it is logged."""

    number: int
    deadline_s: float
    woke_s: float
    sent_s: float
    policy_s: float
    missed: bool
    state: State
    reading: Reading | None
    """None if nothing new had come."""
    decision: Decision
    present: tuple[str, ...]
    """What makes the supervisor doubt now."""
    policy_target: FloatArray | None
    command: FloatArray
    """Values of the reading `command`."""
    truth: Any

    def messages(self) -> list[Message]:
        """By topic, with times."""
        timing = {
            "tick": self.number,
            "deadline_s": self.deadline_s,
            "woke_s": self.woke_s,
            "sent_s": self.sent_s,
            "policy_s": self.policy_s,
            "late_s": self.sent_s - self.deadline_s,
            "missed": self.missed,
        }
        judged = {
            "state": str(self.state),
            "supervisor": self.decision.state,
            "reasons": self.decision.reasons,
            "present": self.present,
        }
        messages: list[Message] = [
            ("/target", self.sent_s, flat(self.decision.command) | {"policy_target": self.policy_target}),
            ("/decision", self.sent_s, judged),
            ("/command", self.sent_s, {"command": self.command}),
            ("/timing", self.sent_s, timing),
        ]
        if self.reading is not None:
            content = flat(self.reading)
            if self.reading.remote is not None:
                content["remote"] = flat(self.reading.remote)
            messages.append(("/reading", self.woke_s, content))
        if self.truth is not None:
            messages.append(("/truth", self.woke_s, flat(self.truth)))
        return messages


def open_log(path: Path, bundle: Bundle, link: Link, now_s: float, *, patient: bool) -> LogWriter:
    """Start the log of one deployment.  Raises UserError if the file cannot be created."""
    contract = bundle.contract
    metadata = {
        "robot": contract.robot,
        "task": contract.task,
        "bundle": str(bundle.path),
        "contract_sha256": contract.sha256,
        "link": type(link).__name__,
        "command_line": " ".join(sys.argv),
        "started_unix_s": str(time.time()),
        "started_clock_s": str(now_s),
    }
    return LogWriter(path, contract.content, metadata, patient=patient)


class LinkWatch:
    """Follows the link's counters and says what got worse."""

    def __init__(self, link: Link, control_dt_s: float, say: Callable[[str], None]) -> None:
        self._link, self._control_dt_s, self._say = link, control_dt_s, say
        self._before = LinkHealth()
        self._due_s = -math.inf

    def look(self, now_s: float, *, last: bool = False) -> None:
        """Once a second, and at the end (`last`): say what went wrong on the way from the robot since then."""
        if now_s < self._due_s and not last:
            return
        before, now = self._before, self._link.health
        received, lost = now.received - before.received, now.lost - before.lost
        damaged, unordered = now.damaged - before.damaged, now.out_of_order - before.out_of_order
        faults = (
            (lost > 0, f"{lost} of {received + lost} messages were lost"),
            (damaged > 0, f"{damaged} of {received} messages were damaged and dropped"),
            (unordered > 0, f"{unordered} of {received} messages came out of order and were dropped"),
            (now.late_s > self._control_dt_s, f"messages come {now.late_s * 1e3:.0f} ms late"),
        )
        if self._due_s > -math.inf and (found := [text for wrong, text in faults if wrong]):
            self._say("link: " + "; ".join(found))
        self._before, self._due_s = replace(now), now_s + LINK_CHECK_S
