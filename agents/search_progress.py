"""How far a round of jobs is, on a terminal: whichever launcher runs them, their results appear as files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_POLL_S = 0.5


@contextmanager
def watching(results: Sequence[Path], title: str) -> Iterator[None]:
    """Shows how many of the result files are there while the caller waits; shows nothing without a terminal."""
    if not sys.stdout.isatty():
        yield
        return
    over = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        shown = bar.add_task(title, total=len(results))

        def poll() -> None:
            while not over.wait(_POLL_S):
                bar.update(shown, completed=sum(path.is_file() for path in results))

        thread = threading.Thread(target=poll, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
