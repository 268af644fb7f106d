"""`gantry board [runs/]`: one page over all runs, as a file or served on this machine."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import signal
import time
from pathlib import Path

from agents.run_folder import write_atomically
from configs.errors import UserError
from watch import page
from watch.catalog import Catalog

INTERVAL_S = 5.0
PAGE_EVERY_S = 60.0
"""How often --watch writes the whole page; in between it writes only what has changed."""


class Board:
    """The page over a folder of runs and, while it is watched, what has changed since it was made.

    A page that is open takes the changes from a small script beside it, so that neither its selection nor its
    videos start anew; that works from disk, where a page may not fetch. The script's name is random: a folder of
    runs that somebody sent cannot bring one along.
    """

    def __init__(self, runs: Path) -> None:
        if not runs.is_dir():
            raise UserError(f"{str(runs)!r} is no folder; give the folder of the runs, such as runs/")
        self.runs = runs
        self.catalog = Catalog(runs)
        self.session = secrets.token_hex(8)
        self.changed: set[str] = set()
        self.catalog.refresh()

    @property
    def live_name(self) -> str:
        return f".board-{self.session}.js"

    def refresh(self) -> bool:
        """Reads what has changed; says whether anything has."""
        changed = self.catalog.refresh()
        self.changed |= changed
        return bool(changed)

    def html(self, *, live: bool = False, served: bool = False) -> str:
        """The whole page; `live` makes it look for changes, `served` link reports that are made on demand."""
        return page.render(
            "board.html.j2",
            folder=self.runs.resolve().name,
            data=self.catalog.data(),
            settings={"live": self.live_name if live else None, "every_s": INTERVAL_S, "served": served},
        )

    def changes(self) -> str:
        """The script that an open page loads: every row, and the details of what changed since it was made."""
        return f"gantryBoard.update({page.script_json(self.catalog.data(self.changed))});\n"

    def write(self, *, live: bool = False) -> Path:
        """Writes RUNS/board.html. Raises UserError where that is not possible."""
        path = self.runs / "board.html"
        try:
            write_atomically(path, self.html(live=live))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}") from error
        return path

    def watch(self, interval_s: float = INTERVAL_S, rounds: int | None = None) -> None:
        """Keeps the page up to date until interrupted, or for `rounds` looks at the folder."""
        live = self.runs / self.live_name
        self.write(live=True)
        written_at = time.monotonic()
        try:
            write_atomically(live, self.changes())
            done = 0
            while rounds is None or done < rounds:
                time.sleep(interval_s)
                done += 1
                if self.refresh():
                    write_atomically(live, self.changes())
                    if time.monotonic() - written_at > PAGE_EVERY_S:
                        self.write(live=True)
                        written_at = time.monotonic()
        finally:
            live.unlink(missing_ok=True)
            self.write()


def _interrupt(*_: object) -> None:
    """SIGTERM ends like Ctrl+C, so that no page is left waiting for changes."""
    raise KeyboardInterrupt


def main() -> None:
    """`gantry board [RUNS] [--watch] [--serve [--host H] [--port P]]`"""
    parser = argparse.ArgumentParser(
        prog="gantry board", description="One page over all runs: table, videos side by side, comparison."
    )
    parser.add_argument(
        "runs", type=Path, nargs="?", default=Path("runs"), help="the folder of the runs (default: runs)"
    )
    parser.add_argument("--watch", action="store_true", help="keep the page up to date while trainings run")
    parser.add_argument("--serve", action="store_true", help="serve the page, kept up to date, and reports on demand")
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to serve on (default: 127.0.0.1, this machine only)"
    )
    parser.add_argument("--port", type=int, default=8421, help="port to serve on; 0 takes a free one (default: 8421)")
    arguments = parser.parse_args()
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port {arguments.port} is no port; valid: 0 to 65535")
    board = Board(arguments.runs)
    signal.signal(signal.SIGTERM, _interrupt)
    with contextlib.suppress(KeyboardInterrupt):
        if arguments.serve:
            from watch.server import serve

            serve(board, arguments.host, arguments.port)
        elif arguments.watch:
            print(f"{arguments.runs / 'board.html'}, kept up to date; Ctrl+C ends", flush=True)
            board.watch()
        else:
            print(board.write())


if __name__ == "__main__":
    main()
