"""approve=ask: a person sees each generation's code, as it will run, and what changed, before any of it is trained."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.syntax import Syntax

from agents.candidate_record import Candidate
from configs.errors import UserError

Approve = Callable[[str, Sequence[Candidate], Candidate | None], set[str]]
"""(generation's key, its usable candidates, the best one before them) -> names of those that may run."""


def diff(old: str, new: str, old_name: str, new_name: str) -> str:
    """Unified difference of two sources."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), old_name, new_name, lineterm="")
    return "\n".join(lines)


def ask_on_terminal(key: str, candidates: Sequence[Candidate], best: Candidate | None) -> set[str]:
    """Shows code and difference, and waits. Raises UserError where nobody can be asked or the person stops."""
    console = Console()
    for candidate in candidates:
        console.rule(candidate.name)
        # Wrapped, never cut at the terminal's edge: what is not seen cannot be approved of.
        console.print(Syntax(candidate.source or "", "python", line_numbers=True, word_wrap=True))
        if best is not None:
            console.print(f"difference from {best.name}:", markup=False)
            change = diff(best.source or "", candidate.source or "", best.name, candidate.name)
            console.print(Syntax(change, "diff", word_wrap=True))
    names = {c.name for c in candidates}
    while True:
        print(f"{key}: train these {len(names)}? [y]es, [n]one, names to leave out, or [q]uit: ", end="", flush=True)
        line = sys.stdin.readline()
        if not line:
            raise UserError(
                "approve=ask needs somebody at a terminal, and standard input has ended; run the search in one, or "
                "set approve=auto"
            )
        words = line.replace(",", " ").split()
        if words in (["q"], ["quit"]):
            raise UserError("stopped before training; nothing was approved, and the search can be resumed")
        if words in (["n"], ["none"]):
            return set()
        if words in (["y"], ["yes"]):
            return names
        if words and set(words) <= names:
            return names - set(words)
        print(f"valid: y, n, q, or some of {' '.join(sorted(names))}", flush=True)
