"""`gantry play RUN [RUN2]`: the trained policy live in the browser, to be driven, pushed and disturbed."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import signal
import threading
import webbrowser
from collections.abc import Iterator
from pathlib import Path

from configs.errors import UserError

PORT = 8422


def play(
    runs: list[Path],
    *,
    host: str = "127.0.0.1",
    port: int = PORT,
    open_page: bool = True,
    physics: str = "nominal",
    seed: int = 0,
    trust_reward: bool = False,
) -> None:
    """Plays until interrupted.

    Args:
        runs: one run's folder, or two of the same robot to see side by side.
        host: address to serve on.
        port: port to serve on; 0 takes a free one.
        open_page: open the page in this machine's browser.
        physics: name of the physics set that episodes draw from.
        seed: of starts and physics.
        trust_reward: run the reward code that a run brings, to show its components.

    Raises:
        UserError: a run is broken or none, runs are of different robots, or the address cannot be used.
    """
    for package in ("viser", "mjviser"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"gantry play needs {package}, which is not installed; run `make setup`")
    # Imported late, so that --help and bad options answer at once.
    from watch.play_session import Session

    session = Session(runs, host=host, port=port, physics=physics, seed=seed, trust_reward=trust_reward)
    try:
        print(f"{session.door.address}  (Ctrl+C ends)", flush=True)
        if not session.door.local:
            print(f"gantry: everybody who reaches {host} can drive, record and read these runs' names", flush=True)
        if open_page:
            threading.Thread(target=webbrowser.open, args=(session.door.address,), daemon=True).start()
        with _stopped_by_signals() as stop:
            session.run(stop)
    finally:
        session.close()


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl+C and SIGTERM set; also where a shell has started this in the background."""
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="gantry play",
        description="Drive, push and disturb a trained policy in the browser. Two runs of the same robot stand side "
        "by side and follow the same commands and pushes.",
    )
    made.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="a run's folder; at most two")
    made.add_argument("--host", default="127.0.0.1", help="address to serve on (default: %(default)s: this machine)")
    made.add_argument("--port", type=int, default=PORT, help="port to serve on; 0: a free one (default: %(default)s)")
    made.add_argument("--no-open", action="store_true", help="do not open the page in this machine's browser")
    made.add_argument("--physics", default="nominal",
                      help="nominal, randomized, or the held-out select or report (default: %(default)s)")  # fmt: skip
    made.add_argument("--seed", type=int, default=0, help="of starts and physics (default: %(default)s)")
    made.add_argument("--trust-reward", action="store_true",
                      help="run the reward code that a run brings, if it is not the project's own")  # fmt: skip
    return made


def main() -> None:
    arguments = parser().parse_args()
    if len(arguments.runs) > 2:
        raise UserError(f"{len(arguments.runs)} runs given; valid: one, or two side by side")
    if not 0 <= arguments.port <= 65535:
        raise UserError(f"--port {arguments.port} is no port; valid: 0 to 65535")
    play(
        arguments.runs, host=arguments.host, port=arguments.port, open_page=not arguments.no_open,
        physics=arguments.physics, seed=arguments.seed, trust_reward=arguments.trust_reward,
    )  # fmt: skip


if __name__ == "__main__":
    main()
