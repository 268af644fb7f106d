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
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from configs.errors import UserError, unknown
from sim2real.bundle import Bundle
from sim2real.commands import CommandSource, Gamepad, Keyboard, RemoteSource, Script, State, load_script
from sim2real.links.link import Link, LinkError
from sim2real.log import texts
from sim2real.runtime import MonotonicClock, Runtime, Summary

ROBOTS = {"unitree": ("go2",)}
"""Robots that each link can drive; the simulation takes whatever the bundle says."""
LINKS = ("simulation", "unitree")
LOOPBACK = ("lo", "lo0")
_MEMBERS = ("health", "joint_names", "open", "read", "send", "foreign_publishers", "doubts", "clear", "close")
STATUS_HZ = 4
_COLORS = {State.RUNNING: "green", State.DAMPING: "red", State.LIMP: "yellow"}


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
    parser.add_argument("--fifo", type=int, metavar="PRIORITY", help="Linux real-time priority, if permitted")
    parser.add_argument("--spin-ms", type=float, default=0.0, help="poll for the last part of each wait")
    parser.add_argument("--json", action="store_true", help="print the summary as one JSON line, last")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Deploy; 0 if the script was done, or the session ended without a latched stop, else 1."""
    options = parse(arguments)
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
        with interruptible(runtime), status_line(runtime, console):
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


def make_link(options: argparse.Namespace, bundle: Bundle, log: Path) -> Link:
    """The link that the options name.  Raises UserError for an unknown one, or if what it needs is not installed."""
    if ":" in options.link:
        return own_link(options.link, bundle, options.address)
    if options.link not in LINKS:
        raise unknown("link", options.link, LINKS)
    if options.link == "simulation":
        try:
            from sim2real.links.simulation import SimulationLink

            return SimulationLink(
                bundle.contract, physics=options.physics, seed=options.seed, real_time=not options.lock_step
            )
        except ModuleNotFoundError as error:
            raise UserError(
                f"the simulation link needs {error.name}; install gantry-lab[train], or use --link unitree"
            ) from error
    try:
        from sim2real.links.unitree import UnitreeLink
    except ModuleNotFoundError as error:
        raise UserError(f"the unitree link needs {error.name}; install gantry-lab[robot]") from error
    log.parent.mkdir(parents=True, exist_ok=True)
    return UnitreeLink(
        bundle.contract.safety,
        interface=options.interface,
        domain=options.domain,
        use_guard=not options.no_guard,
        guard_log=log.with_suffix(".guard.log"),
    )


def own_link(choice: str, bundle: Bundle, address: str) -> Link:
    """An instance of FILE.py:CLASS or MODULE:CLASS, made from the contract and `address`.

    Raises UserError if there is no such class or it lacks members of `Link`.
    """
    place, _, name = choice.rpartition(":")
    path = Path(place)
    try:
        if path.suffix == ".py":
            spec = importlib.util.spec_from_file_location(path.stem, path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module  # dataclasses look their module up
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
    except (ImportError, OSError) as error:
        raise UserError(f"--link {choice}: {error}; write FILE.py:CLASS or MODULE:CLASS") from error
    if not hasattr(module, name):
        raise UserError(f"--link {choice}: {place} has no {name!r}")
    link = getattr(module, name)(bundle.contract, address)
    missing = [member for member in _MEMBERS if not hasattr(link, member)]
    if missing:
        raise UserError(f"--link {choice}: {name} lacks {', '.join(missing)}; see docs/add-a-link.md")
    made: Link = link
    return made


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
    for reason in summary.reasons:
        console.print(f"damped for {reason}", style="red")
    console.print(f"log: {summary.log}", soft_wrap=True)


def _loads(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
