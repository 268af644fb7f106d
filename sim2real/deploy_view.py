"""What `gantry deploy` shows at a terminal: one line while it runs, tables at its end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sim2real.commands import State
from sim2real.runtime import Runtime
from sim2real.timing import Summary

STATUS_HZ = 4
_COLORS = {State.RUNNING: "green", State.DAMPING: "red", State.LIMP: "yellow"}


@contextlib.contextmanager
def status_line(runtime: Runtime, console: Console) -> Iterator[None]:
    """One line that follows the runtime, drawn by a thread of its own; nothing if nobody looks."""
    if not console.is_terminal:
        yield
        return
    ended = threading.Event()

    def draw() -> None:
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while not ended.wait(1.0 / STATUS_HZ):
                live.update(status(runtime), refresh=True)

    thread = threading.Thread(target=draw, name="status", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def status(runtime: Runtime) -> Text:
    """State, command, lateness and what is wrong, in one line."""
    timing, decision, reading = runtime.timing, runtime.decision, runtime.reading
    line = Text(f"{runtime.state!s:>9}", style=_COLORS.get(runtime.state, "cyan"))
    if len(runtime.command):
        line.append("  " + " ".join(f"{value:+.2f}" for value in runtime.command), "default")
    if timing.tick_s:
        line.append(f"  tick {timing.tick_s[-1] * 1e3:.2f} ms  missed {timing.missed}", "dim")
    if reading is not None and reading.battery_soc is not None:
        line.append(f"  battery {reading.battery_soc:.0f} %", "dim")
    if decision is not None and decision.reasons:
        line.append("  " + "; ".join(decision.reasons), "red" if decision.state == "damping" else "yellow")
    line.no_wrap, line.overflow = True, "ellipsis"
    return line


def show(summary: Summary, console: Console) -> None:
    """The script's table, the timing, what was wrong and where the log is."""
    if summary.steps:
        table = Table("step", "asked", "outcome", "s", "m", "rad", "measured by", title="tour")
        for step in summary.steps:
            numbers = [
                "" if value is None else f"{value:.2f}" for value in (step.seconds, step.distance_m, step.angle_rad)
            ]
            measured = "" if step.distance_m is None else step.measured
            table.add_row(step.name, step.asked, step.outcome, *numbers, measured)
        console.print(table)
    tick = summary.tick_ms
    console.print(
        f"{summary.ticks} ticks in {summary.seconds:.1f} s, {summary.missed_deadlines} deadlines missed, "
        f"{summary.skipped_ticks} ticks fell out; tick p50 {tick.get('p50', 0):.2f} ms, "
        f"p99 {tick.get('p99', 0):.2f} ms; {summary.limited_ticks} commands limited"
    )
    if summary.scheduling:
        console.print(summary.scheduling)
    for reason in summary.reasons:
        console.print(f"damped for {reason}", style="red")
    console.print(f"log: {summary.log}", soft_wrap=True)
