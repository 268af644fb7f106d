"""Progress of a training: a live bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

_QUIET_LINE_EVERY_S = 20.0


class Progress:
    """Shows steps, speed, time left, fitness and falls. Use as a context manager."""

    def __init__(self, total_steps: int, seconds_before: float = 0.0) -> None:
        self._total = total_steps
        self._live = sys.stdout.isatty()
        self._next_line = time.monotonic()
        self._bar: RichProgress | None = None
        if self._live:
            self._bar = RichProgress(
                TextColumn("training"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), MofNCompleteColumn(),
                TextColumn("{task.fields[speed]:>7,.0f} steps/s"), TimeRemainingColumn(),
                TextColumn("fitness {task.fields[fitness]:.3f}  falls/min {task.fields[falls]:.2f}"),
                console=Console(), refresh_per_second=4,
            )  # fmt: skip
            self._job = self._bar.add_task("training", total=total_steps, speed=0.0, fitness=0.0, falls=0.0)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, entry: dict[str, Any]) -> None:
        """entry: a line of progress.jsonl."""
        if self._bar is not None:
            self._bar.update(
                self._job, completed=min(entry["env_steps"], self._total), speed=entry["env_steps_per_s"],
                fitness=entry["fitness"], falls=entry["falls_per_minute"],
            )  # fmt: skip
        elif time.monotonic() >= self._next_line or entry["env_steps"] >= self._total:
            self._next_line = time.monotonic() + _QUIET_LINE_EVERY_S
            print(
                f"{entry['env_steps']:>10,} / {self._total:,} steps  {entry['seconds']:6.0f} s  "
                f"{entry['env_steps_per_s']:>7,.0f} steps/s  fitness {entry['fitness']:.3f}  "
                f"falls/min {entry['falls_per_minute']:.2f}",
                flush=True,
            )
