"""`gantry report RUN`: one run as one HTML page that opens from disk and can be sent around."""

from __future__ import annotations

import argparse
import base64
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agents.run_folder import write_atomically
from configs.errors import UserError
from watch import deployment_report, page, prior, search_report, survival, transfer_report, words
from watch.evaluation import Evaluation
from watch.files import MIB, Unreadable, listing, regular
from watch.run_reader import Run, read_run
from watch.section import Section
from watch.values import number, text, visible

INLINE_VIDEO_LIMIT = 20 * MIB
"""Bytes up to which the video is part of the page; a larger one is linked."""
INLINE_STAGES_LIMIT = 8 * MIB
CURVE_POINTS = 3000
SECTIONS: tuple[Callable[[Run], Section | None], ...] = (survival.section, prior.section)
"""Parts of the page that have a module, a template and a script of their own; they stand below the physics sets."""
_MACHINE = {"cpu": "Processor", "cores": "Cores", "system": "System"}


def write_report(run: Path) -> Path:
    """Writes RUN/report.html from whatever the folder holds and returns its path.

    Raises:
        UserError: RUN is no folder, or the page cannot be written there.
    """
    if not run.is_dir():
        raise UserError(f"run {str(run)!r} is no folder; give a folder below runs/, such as runs/go2-walk/TIME-train")
    output = run / "report.html"
    content = render(read_run(run.resolve()))
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}; make room or permit writing there") from error
    return output


def render(run: Run) -> str:
    """The report as HTML."""
    evaluation = _with_known_feet(run)
    verdict, explanation = words.headline(run)
    return page.render(
        "report.html.j2",
        run=run,
        evaluation=evaluation,
        verdict=verdict,
        explanation=explanation,
        figures=_figures(run),
        video=_video(run),
        stages=_stages(run),
        ranges=_ranges(run),
        resources=_resources(run),
        versions=_named(run.record.get("versions")),
        files=[(visible(name), size) for name, size in listing(run.path) if name != "report.html"],
        missing=_missing(run),
        deployed=deployment_report.section(run.path),
        sections=[made for make in SECTIONS if (made := make(run)) is not None],
        charts=_charts(run, evaluation),
        written=time.strftime("%Y-%m-%d %H:%M"),
    )


def _figures(run: Run) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the few numbers that stand beside the video."""
    found = []
    best = run.evaluation.main
    if best and best.fitness:
        spread = words.spread(best.fitness.as_share)
        found.append(("Fitness", words.fixed(best.fitness.mean), spread and f"95 % interval {spread}"))
    elif run.progress.last("fitness") is not None:
        found.append(("Fitness", words.fixed(run.progress.last("fitness")), "last, while training"))
    if best and best.fall_rate:
        spread = words.spread(best.fall_rate.as_share, 100)
        found.append(("Falls", words.percent(best.fall_rate.mean), spread and f"95 % interval {spread} %"))
    for name, value in list(best.measures.items())[:2] if best else ():
        found.append((words.label(name).capitalize(), words.with_unit(value.mean, value.unit), "mean over episodes"))
    if run.seconds:
        speed = number(run.record.get("env_steps_per_s")) or run.progress.last("env_steps_per_s")
        found.append(("Training time", words.duration(run.seconds), f"{words.count(speed)} steps/s" if speed else ""))
    if best and best.cost_of_transport:
        found.append(("Cost of transport", words.significant(best.cost_of_transport.mean), "power / (weight × speed)"))
    return found


def _video(run: Run) -> dict[str, Any] | None:
    if run.video is None:
        return None
    size = run.video.stat().st_size
    if size > INLINE_VIDEO_LIMIT:
        return {"source": run.video.name, "inline": False, "size": size}
    encoded = base64.b64encode(run.video.read_bytes()).decode("ascii")
    return {"source": f"data:video/mp4;base64,{encoded}", "inline": True, "size": size}


def _stages(run: Run) -> list[dict[str, Any]]:
    """The films of the training's stages, each inside the page while there is room for all."""
    found, left = [], INLINE_STAGES_LIMIT
    for stage in run.stages:
        try:
            content = regular(run.path, stage.video).read_bytes()
        except (OSError, Unreadable):
            continue
        left -= len(content)
        inline = f"data:video/mp4;base64,{base64.b64encode(content).decode('ascii')}"
        found.append({"stage": stage, "source": inline if left >= 0 else stage.video})
    return found


def _ranges(run: Run) -> list[dict[str, Any]]:
    """One row a randomization term, with what envs/randomization.py says about it."""
    try:
        from envs.randomization import TERMS
    except ImportError:  # reading a run needs no physics engine; the numbers are shown without their meaning
        TERMS = {}
    when = {"reset": "every episode", "step": "every step", "push": "between pushes"}
    how = {"absolute": "set", "scale": "factor", "add": "added"}
    rows = []
    for name, (low, high) in run.ranges.items():
        term = TERMS.get(name)
        rows.append({
            "name": name, "low": low, "high": high, "unit": words.readable_unit(term.unit) if term else "",
            "how": how.get(term.operation, term.operation) if term else words.DASH,
            "when": when.get(term.when, term.when) if term else words.DASH,
            "meaning": term.meaning if term else "not a term of this version",
        })  # fmt: skip
    return rows


def _resources(run: Run) -> list[tuple[str, str]]:
    record = run.record
    machine = record.get("machine") if isinstance(record.get("machine"), dict) else {}
    speed = number(record.get("env_steps_per_s")) or run.progress.last("env_steps_per_s")
    memory, diverged = number(record.get("peak_memory_gb")), number(record.get("diverged"))
    rows = [
        ("Wall time", words.duration(run.seconds)),
        ("Environment steps", words.count(run.env_steps)),
        ("Steps a second", words.count(speed)),
        ("Filming while training", _filming(run)),
        ("Iterations", words.count(len(run.progress)) if len(run.progress) else words.DASH),
        ("Peak memory", words.with_unit(memory, "GB")),
        ("Threads", text(record.get("threads")) or words.DASH),
        ("Diverged simulations", words.count(diverged)),
        *((_MACHINE.get(key, key.capitalize()), value) for key, value in _named(machine)),
        ("Git commit", text(record.get("git_commit"), 60) or words.DASH),
        ("Physics sets", run.evaluation.physics_hash or words.DASH),
    ]
    return [(name, value) for name, value in rows if value != words.DASH]


def _filming(run: Run) -> str:
    """What the films of the training's stages cost, also as a share of the training."""
    cost = number(run.record.get("film_seconds"))
    if not cost:
        return words.DASH
    return words.duration(cost) + (f" ({words.percent(cost / run.seconds)})" if run.seconds else "")


def _named(content: Any) -> list[tuple[str, str]]:
    items = content.items() if isinstance(content, dict) else ()
    return [(text(key, 60) or "", text(value, 120) or "") for key, value in list(items)[:40]]


def _missing(run: Run) -> list[dict[str, Any]]:
    """What the page cannot show, and the command that would make it."""
    remedy = {
        "evaluation.json": "gantry evaluate RUN measures the policy.",
        "video.mp4": "gantry video RUN renders one.",
    }
    if run.state == "running":
        remedy |= dict.fromkeys(("evaluation.json", "video.mp4"), "Made when the training ends.")
    return [{"problem": p, "remedy": remedy.get(p.file, "")} for p in run.problems]


def _charts(run: Run, evaluation: Evaluation) -> dict[str, Any]:
    """The numbers behind the charts."""
    curves = run.progress.thinned(CURVE_POINTS)
    units = {
        n: words.readable_unit(v.unit).replace("°", "deg")
        for s in evaluation.sets.values()
        for n, v in s.measures.items()
    }
    pair = lambda v: v and {k: getattr(v.as_share, k) for k in ("mean", "low", "high")}  # noqa: E731
    return {
        "scalars": curves.scalars,
        "groups": curves.groups,
        "units": units,
        "threshold": evaluation.threshold,
        "sets": [
            {"label": s.label, "fitness": pair(s.fitness), "falls": pair(s.fall_rate)} for s in evaluation.sets.values()
        ],
    }


def _with_known_feet(run: Run) -> Evaluation:
    """The evaluation, its feet under the robot's names for them where the task is known."""
    sets = run.evaluation.sets
    if not any(foot.isdigit() for result in sets.values() for foot in result.foot_use):
        return run.evaluation
    try:
        from envs import robots, tasks

        feet = [foot.removesuffix("_foot") for foot in robots.get(tasks.get(run.task).robot).feet]
    except (ImportError, UserError):
        return run.evaluation
    named = {
        name: replace(result, foot_use=dict(zip(feet, result.foot_use.values(), strict=True)))
        if len(result.foot_use) == len(feet)
        else result
        for name, result in sets.items()
    }
    return replace(run.evaluation, sets=named)


def main() -> None:
    """`gantry report RUN|FOLDER|LOG [...]`"""
    parser = argparse.ArgumentParser(
        prog="gantry report",
        description="Write the report of a run, a search, a design of ranges or a transfer as one HTML page, "
        "report.html in its folder, or that of a deployment, LOG.html for LOG.mcap.",
    )
    parser.add_argument("run", type=Path, nargs="+", metavar="RUN|FOLDER|LOG", help="folder or log")
    for path in parser.parse_args().run:
        print(_write(path))


def _write(path: Path) -> Path:
    if path.suffix == ".mcap":
        return deployment_report.write_log_report(path)
    if transfer_report.is_transfer(path):
        return transfer_report.write_transfer_report(path)
    return search_report.write_search_report(path) if search_report.is_search(path) else write_report(path)


if __name__ == "__main__":
    main()
