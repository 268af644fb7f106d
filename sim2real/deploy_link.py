"""Which link `gantry deploy` uses: the two built-in ones, or a class of the user's own."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from pathlib import Path

from configs.errors import UserError, unknown
from sim2real.bundle import Bundle
from sim2real.links.link import Link

LINKS = ("simulation", "unitree")
_MEMBERS = ("health", "joint_names", "open", "read", "send", "foreign_publishers", "doubts", "clear", "close")


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
