"""`gantry deploy BUNDLE`: run a bundle on a robot, from the keyboard, a gamepad, the robot's remote or a script.

On any network interface other than the loopback a person confirms first that the robot hangs or lies free.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from configs.errors import UserError
from sim2real.bundle import Bundle
from sim2real.clock import MonotonicClock
from sim2real.commands import CommandSource
from sim2real.deploy_link import make_link
from sim2real.deploy_view import show, status_line
from sim2real.keyboard import Keyboard
from sim2real.links.link import LinkError
from sim2real.log import texts
from sim2real.realtime import PRIORITY, real_time
from sim2real.runtime import Runtime
from sim2real.script import load_script
from sim2real.script_source import Script
from sim2real.sticks import Gamepad, RemoteSource
from sim2real.timing import Summary

ROBOTS = {"unitree": ("go2",)}
"""Robots that each link can drive; the simulation takes whatever the bundle says."""
LOOPBACK = ("lo", "lo0")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(
        prog="gantry deploy",
        description="Run a bundle on a robot, supervised and logged.",
        epilog=f"Keys: {Keyboard.HELP}",
    )
    parser.add_argument("bundle", type=Path, help="bundle folder, or a run folder that holds one")
    parser.add_argument(
        "--link",
        default="simulation",
        metavar="LINK",
        help="simulation (default), unitree, or your own: FILE.py:CLASS, MODULE:CLASS (docs/add-a-link.md)",
    )
    parser.add_argument("--address", default="", help="given to a link of your own")
    group = parser.add_argument_group("who commands (default: the keyboard)")
    group.add_argument("--script", metavar="tour|FILE", help="the built-in tour, or a YAML or JSON list of steps")
    group.add_argument("--gamepad", nargs="?", const="/dev/input/js0", metavar="DEVICE")
    group.add_argument("--remote", action="store_true", help="the robot's own hand-held remote")
    group = parser.add_argument_group("unitree")
    group.add_argument("--interface", default="lo", help="network interface to the robot (default lo)")
    group.add_argument("--domain", type=int, default=0, help="DDS domain (default 0)")
    group.add_argument("--no-guard", action="store_true", help="for tests: no guard process")
    group.add_argument("--yes", action="store_true", help="do not ask before the robot may move")
    group = parser.add_argument_group("simulation")
    group.add_argument("--physics", default="randomized", help="nominal, randomized (default), select or report")
    group.add_argument("--seed", type=int, default=0)
    group.add_argument("--lock-step", action="store_true", help="as fast as it goes instead of real time")
    parser.add_argument("--seconds", type=float, help="end after this time")
    parser.add_argument("--log", type=Path, help="log file (default: beside the bundle, in deploy/)")
    parser.add_argument("--operator", default="operator", help="name under which damping is cleared")
    parser.add_argument(
        "--fifo",
        type=int,
        default=PRIORITY,
        metavar="PRIORITY",
        help=f"Linux real-time priority of the loop, if permitted (default {PRIORITY}; 0: none)",
    )
    parser.add_argument("--spin-ms", type=float, default=0.0, help="poll for the last part of each wait")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON line, last")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Deploy; 0 if the script was done, or the session ended without a latched stop, else 1."""
    options = parse(arguments)
    if not 0 <= options.fifo <= 99:
        raise UserError(f"--fifo {options.fifo}: valid is a priority from 1 to 99, or 0 for none")
    console = Console(stderr=options.json)
    robots = ROBOTS.get(options.link)
    bundle = Bundle.load(options.bundle)
    if robots is not None and bundle.contract.robot not in robots:
        bundle.contract.check_robot(robots[0])
    log = options.log or default_log(bundle, options.link)
    script = (
        Script(load_script(options.script, bundle.contract.commands), bundle.contract.commands)
        if options.script
        else None
    )
    console.print(
        f"{bundle.contract.task} on {bundle.contract.robot}; targets agree with the golden ones within "
        f"{bundle.golden_error:.1g} rad"
    )
    confirm(options, console)
    try:
        link = make_link(options, bundle, log)
        sources = make_sources(options, bundle, script)
        runtime = Runtime(
            bundle,
            link,
            sources,
            log=log,
            operator=options.operator,
            clock=MonotonicClock(options.spin_ms / 1e3) if options.spin_ms else None,
            fifo_priority=options.fifo,
        )
        if any(isinstance(source, Keyboard) for source in sources):
            console.print(Keyboard.HELP, style="dim")
        # The thread that draws shares the interpreter's lock with the loop, so it is scheduled as the loop is.
        priority = 0 if options.lock_step else options.fifo
        with interruptible(runtime), real_time(priority), status_line(runtime, console):
            summary = runtime.run(options.seconds)
    except LinkError as error:
        raise UserError(str(error)) from error
    show(summary, console)
    if options.json:  # a program reads this; it asks for the page when it wants one
        print(json.dumps({key: _loads(value) for key, value in texts(summary).items()}), flush=True)
    else:
        write_report(summary, console)
    return 0 if (script.ok if script is not None else not summary.reasons) else 1


def write_report(summary: Summary, console: Console) -> None:
    """The log as a page, where the packages for that are installed: a robot does without."""
    if summary.log is None or importlib.util.find_spec("plotly") is None or importlib.util.find_spec("jinja2") is None:
        return
    try:
        path = importlib.import_module("watch.deployment_report").write_log_report(summary.log)
        console.print(f"report: {path}", soft_wrap=True)
    except UserError as error:
        console.print(str(error), style="yellow")


def default_log(bundle: Bundle, link: str) -> Path:
    """RUN/deploy/TIME-LINK.mcap for RUN/bundle."""
    link = link.rpartition(":")[2]
    return bundle.path.resolve().parent / "deploy" / f"{time.strftime('%Y-%m-%d_%H-%M-%S')}-{link}.mcap"


def confirm(options: argparse.Namespace, console: Console) -> None:
    """Ask before anything moves on a network that may hold a real robot.  Raises UserError for a no."""
    if options.link == "simulation" or options.yes:
        return
    if options.link == "unitree" and options.interface in LOOPBACK:
        return
    where = f"interface {options.interface!r}" if options.link == "unitree" else f"link {options.link!r}"
    console.print(
        f"A robot on {where} is about to move. When its motors are taken over it goes "
        "limp.\nIt must hang from the gantry or lie on free ground, with a person at the emergency stop "
        "(L2+B on the remote).",
        style="bold yellow",
    )
    if not sys.stdin.isatty():
        raise UserError("nobody can confirm here; add --yes if a person stands at the robot")
    if input("Type yes to go on: ").strip().lower() != "yes":
        raise UserError("not confirmed; nothing was sent")


def make_sources(options: argparse.Namespace, bundle: Bundle, script: Script | None) -> list[CommandSource]:
    """Who commands, the first to steer first; the keyboard can always stop, if there is one."""
    commands = bundle.contract.commands
    sources: list[CommandSource] = [] if script is None else [script]
    if options.gamepad:
        sources.append(Gamepad(commands, Path(options.gamepad)))
    if options.remote:
        sources.append(RemoteSource(commands))
    if sys.stdin.isatty() or not sources:
        if not sources and not sys.stdin.isatty() and options.seconds is not None:
            return sources  # nothing to be asked for: limp for so long, to look at readings and timing
        sources.append(Keyboard(commands, steer=not sources))
    return sources


@contextlib.contextmanager
def interruptible(runtime: Runtime) -> Iterator[None]:
    """Ctrl-C and SIGTERM stop the robot and then end the program; a second Ctrl-C ends it at once."""

    def handle(number: int, _: Any) -> None:
        name = signal.Signals(number).name
        runtime.stop(name)
        runtime.commands.ask("quit")
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
