"""The page of a transfer, or of a design of ranges alone: stages, arms, prior, ranges with reasons, tours."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from agents.run_folder import write_atomically
from configs.errors import UserError
from watch import page, prior, words
from watch.files import Unreadable, regular
from watch.section import Section
from watch.transfer_reader import DESIGN, STAGES, TRANSFER, Design, Transfer, read_design, read_transfer
from watch.values import number, text, visible


def is_transfer(path: Path) -> bool:
    """Whether the folder is a transfer's or a design's."""
    return (path / TRANSFER).is_file() or (path / DESIGN).is_file()


def write_transfer_report(folder: Path) -> Path:
    """Writes FOLDER/report.html and returns its path.

    Raises:
        UserError: the folder holds neither, or the page cannot be written there.
    """
    folder = folder.resolve()
    if not is_transfer(folder):
        raise UserError(
            f"{str(folder)!r} is no transfer and no design of ranges; give a folder like runs/sweeps/TIME-NAME"
        )
    output = folder / "report.html"
    content = page.render("transfer.html.j2", **context(folder))
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}; make room or permit writing there") from error
    return output


def context(folder: Path) -> dict[str, Any]:
    """What the template shows."""
    transfer = read_transfer(folder) if (folder / TRANSFER).is_file() else None
    design = read_design(_design_folder(folder, transfer))
    found = prior.read(design.path)
    about = transfer.about if transfer is not None else design.about
    names = list(dict.fromkeys(name for row in design.arms for name in row["measures"]))
    return {
        "name": visible(folder.name), "task": text(about.get("task"), 80) or "", "transfer": transfer,
        "design": design, "stages": _stages(transfer, design), "verdict": _verdict(transfer, design),
        "prior": None if found is None else Section("prior", "Physics prior", "_prior.html.j2", found, "prior.js"),
        "measures": names[:8], "links": _links(folder, transfer, design),
        "reward": _reward(folder), "written": time.strftime("%Y-%m-%d %H:%M"),
        "safety": about.get("safety_instruction") is True,
    }  # fmt: skip


def _design_folder(folder: Path, transfer: Transfer | None) -> Path:
    """Of a transfer's design, below the same sweeps; also one that is not finished."""
    if transfer is None:
        return folder
    name = text(transfer.stages.get("ranges", {}).get("folder"), 200)
    if name and name == Path(name).name and (folder.parent / name).is_dir():
        return folder.parent / name
    begun = sorted(folder.parent.glob(f"*-{folder.name}-ranges/{DESIGN}"))
    return begun[0].parent if begun else folder


def _stages(transfer: Transfer | None, design: Design) -> list[dict[str, Any]]:
    """Each stage with what it brought; `done` is False for those to come."""
    if transfer is None:
        return []
    found = []
    for name, title in STAGES.items():
        content = transfer.stages.get(name)
        found.append({"name": name, "title": title, "done": content is not None, "said": _said(name, content, design)})
    return found


def _said(name: str, content: dict[str, Any] | None, design: Design) -> str:
    if content is None:
        usable = sum(p.fitness is not None for p in design.proposals)
        return f"{usable} of {len(design.proposals)} proposals trained" if name == "ranges" and design.proposals else ""
    if name == "search":
        fitness = number(content.get("fitness"))
        shown = f", fitness {words.fixed(fitness)} on report physics" if fitness is not None else ""
        replayed = ", replayed" if content.get("replayed") is True else ""
        return f"{text(content.get('candidate'), 80) or ''}{shown}{replayed}"
    if name == "ranges":
        return f"{text(content.get('proposal'), 80) or ''}, fitness {words.fixed(number(content.get('mean')))}"
    if name == "export":
        return f"contract {(text(content.get('sha256'), 64) or '')[:12]}"
    if name == "tour":
        return f"{words.count(number(content.get('ok')))} of {words.count(number(content.get('tours')))} done"
    return ""


def _verdict(transfer: Transfer | None, design: Design) -> tuple[str, str]:
    main = next((row for row in design.arms if row["fitness"]), None)
    if main is None:
        trained = sum(p.fitness is not None for p in design.proposals)
        return "Not finished yet", f"{trained} of {len(design.proposals)} proposals trained so far."
    interval = words.spread(main["fitness"])
    verdict = f"Fitness {words.fixed(main['fitness'].mean)} on report physics with ranges “{main['proposal']}”"
    seeds = f"{design.seeds} seed{'' if design.seeds == 1 else 's'}"
    said = [f"{seeds}{f', 95 % interval {interval}' if interval else ''}."] if design.seeds else []
    for row in design.arms:
        if row is not main and row["better"]:
            how = "better" if row["better"] == main["arm"] else "worse"
            said.append(f"{how.capitalize()} than “{words.label(row['arm'])}”.")
    if transfer is not None and transfer.tours:
        said.append(f"{sum(t['ok'] for t in transfer.tours)} of {len(transfer.tours)} tours done.")
    if any(row["replayed"] for row in design.arms):
        said.append("The model's answers were replayed.")
    return verdict, " ".join(said)


def _links(folder: Path, transfer: Transfer | None, design: Design) -> list[tuple[str, str]]:
    """(what, where) of the pages of the folders that this one came from, relative to it."""
    wanted = []
    runs = folder.parent.parent
    if design.best_run:
        wanted.append(("the final policy's run", runs / design.best_run))
    if transfer is not None:
        name = text(transfer.stages.get("search", {}).get("folder"), 200)
        wanted += [("the search for the reward", folder.parent / name)] if name else []
    found = []
    for what, path in wanted:
        page_file = path / "report.html"
        if page_file.is_file() and page_file.resolve().is_relative_to(runs.resolve()):
            found.append((what, os.path.relpath(page_file, folder)))
    return found


def _reward(folder: Path) -> str | None:
    try:
        return visible(regular(folder, "reward.py").read_text(encoding="utf-8", errors="replace")[:60_000])
    except (Unreadable, OSError):
        return None
