"""The report of a reward search: its family tree as one page, SEARCH/report.html."""

from __future__ import annotations

import os
import time
from pathlib import Path

from agents.run_folder import write_atomically
from configs.errors import UserError
from watch import page, search_tree
from watch.search_reader import LEDGER, SWEEPS, read_search


def is_search(path: Path) -> bool:
    """Whether the folder is a search's, not a run's."""
    return (path / LEDGER).is_file() and not (path / "run.json").exists()


def write_search_report(search: Path) -> Path:
    """Writes SEARCH/report.html for runs/sweeps/SEARCH and returns its path.

    Raises:
        UserError: SEARCH holds no ledger, or the page cannot be written there.
    """
    folder = search.resolve()
    if not is_search(folder) or folder.parent.name != SWEEPS:
        raise UserError(f"{str(search)!r} is no search; give a folder like runs/{SWEEPS}/TIME-NAME with a {LEDGER}")
    runs = folder.parent.parent
    found = read_search(folder, runs)
    code: search_tree.Digests = {}
    tree = search_tree.details(found, code)
    reports = {}
    for node in tree["nodes"]:
        run = node["run"]
        if run is not None and (runs / run / "report.html").is_file():
            reports[run] = os.path.relpath(runs / run / "report.html", folder)
    data = {"search": search_tree.summary(found), "tree": tree, "code": code, "reports": reports, "runs": runs.name}
    output = folder / "report.html"
    content = page.render("search.html.j2", data=data, written=time.strftime("%Y-%m-%d %H:%M"))
    try:
        write_atomically(output, content)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}; make room or permit writing there") from error
    return output
