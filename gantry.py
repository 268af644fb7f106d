"""The command line: `gantry <command> ...`, a thin map onto the mains of the packages.

Nothing heavy is imported until a command is chosen, so `gantry --help` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec

from configs.errors import UserError, unknown

# command: (module, function), one line of help. A command is offered once its module exists.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("sim2real.demo:main", "train a Go2 to walk, film and report it, walk a simulated Go2 with it"),
    "train": ("agents.train:main", "train a policy (Hydra: task=go2-walk seed=1, -m for sweeps)"),
    "evaluate": ("agents.evaluate:main", "measure a run's policy on the physics sets"),
    "video": ("agents.video:main", "render a video of a run's policy"),
    "search": ("agents.reward_search:main", "let a language model search for a reward (Hydra)"),
    "prior": ("agents.physics_prior:main", "find the physics that a run's policy survives"),
    "randomize": ("agents.randomization_design:main", "let a language model choose randomization ranges (Hydra)"),
    "transfer": ("sim2real.transfer:main", "go the whole way from a task to a bundle (Hydra)"),
    "export": ("sim2real.export:main", "write a run's policy as an ONNX bundle"),
    "robot": ("sim2real.simulated_robot:main", "start a simulated robot behind the real one's protocol"),
    "deploy": ("sim2real.deploy:main", "run a bundle on a robot"),
    "play": ("watch.play:main", "steer a policy in the browser"),
    "record": ("agents.llm_transcript:main", "keep a search's answers as a transcript to replay"),
    "report": ("watch.report:main", "write a run's report as one HTML page"),
    "board": ("watch.board:main", "compare runs in the browser"),
    "doctor": ("agents.doctor:main", "say what works on this machine and how to fix what does not"),
}


def exists(target: str) -> bool:
    """Whether the module of ``"package.module:function"`` can be found, importing neither of them."""
    package, _, module = target.partition(":")[0].partition(".")
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return False
    return PathFinder.find_spec(f"{package}.{module}", list(spec.submodule_search_locations)) is not None


def available() -> dict[str, tuple[str, str]]:
    """The commands whose modules are present in this installation, in the order to list them."""
    return {name: entry for name, entry in COMMANDS.items() if exists(entry[0])}


def usage() -> str:
    lines = ["usage: gantry <command> [arguments]", "", "commands:"]
    lines += [f"  {name:<10} {text}" for name, (_, text) in available().items()]
    lines += ["", "gantry <command> --help says more; gantry --version prints the version."]
    return "\n".join(lines)


def version() -> str:
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("gantry-lab")
    except PackageNotFoundError:
        return "unknown (not installed; run `make setup`)"


def main(argv: list[str] | None = None) -> None:
    """Run one command and exit: 0 done, 2 bad input, 130 interrupted, else what the command returns."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        sys.exit(0 if arguments else 2)
    if arguments[0] in ("-V", "--version"):
        print(f"gantry {version()}")
        sys.exit(0)
    try:
        sys.exit(dispatch(arguments[0], arguments[1:]))
    except KeyboardInterrupt:
        print("gantry: interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        message = deliberate(error)
        if message is None:
            raise
        print(f"gantry: error: {message}", file=sys.stderr)
        sys.exit(2)


def dispatch(command: str, arguments: list[str]) -> int | None:
    """Import the command's main and call it with ``sys.argv`` as if it were a program of its own.

    Raises:
        UserError: no such command in this installation.
    """
    commands = available()
    if command not in commands:
        raise unknown("command", command, commands)
    module, _, function = commands[command][0].partition(":")
    sys.argv = [f"gantry {command}", *arguments]
    # Hydra would otherwise print its own trace and exit before main() can show one clear line.
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    return getattr(importlib.import_module(module), function)()


def deliberate(error: Exception) -> str | None:
    """The message of an error that was raised for the user to read, or None for a fault of ours."""
    if isinstance(error, UserError):
        return str(error)
    # Hydra is known by name only: importing it here would slow every command down.
    if any(kind.__module__.startswith(("hydra.errors", "omegaconf.errors")) for kind in type(error).__mro__):
        missing, options = getattr(error, "missing_cfg_file", None), getattr(error, "options", None)
        if missing and options:
            kind, _, value = str(missing).rpartition("/")
            return str(unknown(kind or "config", value, options))
        cause = error.__cause__  # OmegaConf's: Hydra's own message advises to add what does not exist
        parent, key = getattr(cause, "parent_node", None), getattr(cause, "full_key", None)
        if str(error).startswith("Could not override") and parent is not None and key:
            prefix = str(key).rpartition(".")[0]
            return str(unknown("setting", key, [f"{prefix}.{name}" if prefix else name for name in parent]))
        reason = getattr(cause, "msg", None)  # why a value does not fit, which Hydra leaves out
        message = f"{error}: {reason.splitlines()[0]}" if reason else str(error)
        return " ".join(message.split())
    return None


if __name__ == "__main__":
    main()
