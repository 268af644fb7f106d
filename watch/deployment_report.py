"""The report of a deployment: `gantry report LOG.mcap`, and the section of a run's report."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

from agents.run_folder import write_atomically
from configs.errors import UserError
from watch import deployment, page, words
from watch.deployment import Deployment
from watch.deployment_charts import charts
from watch.files import MIB, Unreadable, read_json, regular
from watch.values import visible

MAX_LISTED = 50
MAX_FILM = 16 * MIB


def write_log_report(log: Path) -> Path:
    """Writes the page beside the log, LOG.html for LOG.mcap, and returns its path.

    Raises:
        UserError: the log cannot be read, or the page cannot be written.
    """
    try:
        found = deployment.read(log)
    except Unreadable as error:
        raise UserError(f"{log} {error}") from error
    output = log.with_suffix(".html")
    content = page.render("deployment.html.j2", **context(found), written=time.strftime("%Y-%m-%d %H:%M"))
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}; make room or permit writing there") from error
    return output


def context(d: Deployment) -> dict[str, Any]:
    """What the templates show of a deployment."""
    verdict, explanation = headline(d)
    return {
        "deployment": d,
        "verdict": verdict,
        "explanation": explanation,
        "figures": _figures(d),
        "deployment_charts": charts(d),
        "about": [(words.label(k).capitalize(), v) for k, v in d.about.items() if not k.startswith("started")],
        "log_name": visible(d.path.name),
        "film": _film(d.path),
        "tours": _tours(d.path.parent),
    }  # fmt: skip


def _film(log: Path) -> str | None:
    """The film of the robot beside the log, LOG.mp4 for LOG.mcap, as part of the page."""
    try:
        film = regular(log.parent, log.with_suffix(".mp4").name)
        if film.stat().st_size > MAX_FILM:
            return None
        return f"data:video/mp4;base64,{base64.b64encode(film.read_bytes()).decode('ascii')}"
    except (Unreadable, OSError):
        return None


def _tours(folder: Path) -> list[dict[str, Any]]:
    """Rows of tours/tours.json, as `python -m benchmarks.deploy RUN --keep RUN/deploy/tours` leaves it."""
    try:
        rows = read_json(folder, "tours/tours.json").get("tours")
    except Unreadable:
        return []
    names = ("physics", "seed", "ok", "falls", "distance_m", "largest_tilt_deg", "missed_deadlines")
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [{name: visible(str(row.get(name, ""))) for name in names} for row in found[:MAX_LISTED]]


def headline(d: Deployment) -> tuple[str, str]:
    """(verdict, explanation): how the deployment went, in one line and in a few sentences."""
    done = sum(step.outcome == "done" for step in d.steps)
    undone = next((step for step in d.steps if step.outcome != "done"), None)
    if d.reasons:
        verdict = f"Damped: {d.reasons[0]}"
    elif not d.complete:
        verdict = f"The log ends after {words.duration(d.seconds)} without having been closed"
    elif undone is not None:
        verdict = f"{done} of {len(d.steps)} steps done; “{undone.name}” ended with {undone.outcome}"
    elif d.steps:
        verdict = f"{f'All {done} steps' if done > 1 else 'The one step'} done in {words.duration(d.seconds)}"
    else:
        verdict = f"{words.duration(d.seconds)} on the robot"
    said = []
    if not d.complete:
        said.append("The program was killed or is still running; about half a second before the end is missing.")
    for state, what in (("running", "The policy ran"), ("damping", "The robot was damped")):
        spent = sum(span.end_s - span.begin_s for span in d.states if span.what == state)
        if spent:
            said.append(f"{what} for {words.duration(spent)}.")
    if d.limited:
        part = f"{words.count(d.limited)} of {words.count(d.ticks)}"
        said.append(f"The supervisor brought {part} commands inside the limits.")
    if d.simulated_clock:
        said.append("Time stood still between ticks (lock step), so no deadline could be missed.")
    return verdict, " ".join(said)


def _figures(d: Deployment) -> list[tuple[str, str, str]]:
    """(name, value, remark)"""
    found = [("Duration", words.duration(d.seconds), f"{words.count(d.ticks)} ticks")]
    if not d.simulated_clock:
        found.append(("Deadlines missed", words.count(d.missed), words.percent(d.missed / d.ticks) if d.ticks else ""))
    for timed in charts(d)["timing"]:
        if timed["name"] in ("policy", "wake-up to command sent"):
            remark = f"99 % within {words.with_unit(timed['p99'], 'ms')}, longest {words.with_unit(timed['max'], 'ms')}"
            found.append((timed["name"].capitalize() + ", median", words.with_unit(timed["p50"], "ms"), remark))
    if d.tracking_error_rad is not None:
        remark = "target minus measurement, root mean square"
        found.append(("Joint error", words.with_unit(d.tracking_error_rad, "rad"), remark))
    found.append(("Commands limited", words.count(d.limited), "by the supervisor"))
    return found


def find_logs(run: Path) -> list[Path]:
    """The run's logs, newest first."""
    folder = run / "deploy"
    if folder.is_symlink():  # a run that somebody sent must not show logs of this machine
        return []
    logs = [path for path in folder.glob("*.mcap") if path.is_file() and not path.is_symlink()]
    return sorted(logs, key=lambda path: path.name, reverse=True)[:MAX_LISTED]


def section(run: Path) -> dict[str, Any] | None:
    """The newest deployment of a run in full, the others by name; None where there was none."""
    logs = find_logs(run)
    if not logs:
        return None
    others = [(visible(path.name), path.stat().st_size) for path in logs[1:]]
    try:
        return {**context(deployment.read(logs[0])), "others": others, "problem": None}
    except Unreadable as error:
        return {"problem": f"{visible(logs[0].name)} {error}", "others": others, "deployment_charts": None}
