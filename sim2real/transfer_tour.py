"""The tour at the end of a transfer: the new bundle on robots that nothing before it has met.

A Go2 that walks tours `gantry robot go2`, a process of its own behind the real robot's protocol, in real time. What
that robot cannot be (a cartpole, a Go2 on a ball) runs in the task's own simulation instead, in lock step; the row says
so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from configs.errors import UserError
from envs import tasks
from sim2real import rehearsal
from sim2real.bundle import Bundle
from sim2real.tour import tour_row

DASH_M = 5.0
PROTOCOL_ROBOTS = ("go2",)


def behind_protocol(bundle: Bundle) -> bool:
    """Whether the simulated robot can be what the bundle was trained on."""
    task = tasks.get(bundle.contract.task)
    return bundle.contract.robot in PROTOCOL_ROBOTS and task.ball is None and bool(bundle.contract.commands)


def script_of(bundle: Bundle, folder: Path) -> str:
    """`tour`, or a file with a straight run for a policy that was trained for nothing but that."""
    forward, *others = bundle.contract.commands or (None,)
    if forward is None or any(entry.low < entry.high for entry in others):
        return "tour"
    ahead = [forward.high, *(0.0 for _ in others)]
    steps = [
        {"name": "stand up", "do": "stand"}, {"name": "start the policy", "do": "run"},
        # By time: where it is, a robot does not say. Half of the commanded speed is enough to get to the end.
        {"name": f"forward, {DASH_M:g} m and more", "command": ahead, "for_s": 2 * DASH_M / ahead[0]},
        {"name": "stop", "command": [0.0 for _ in ahead], "for_s": 1.5},
        {"name": "hold", "do": "hold"}, {"name": "damp", "do": "damp"},
    ]  # fmt: skip
    path = folder / "script.json"
    path.write_text(json.dumps(steps, indent=1))
    return str(path)


def tour(
    path: Path, physics: str, seed: int, folder: Path, *, video: bool = False, shifts: int | None = None
) -> dict[str, Any]:
    """One tour of a bundle; its row. Log and record stay in `folder`.

    shifts: how many of the set's parameters are shifted, instead of the set itself (protocol robots only).

    Raises:
        UserError: robot or deployment do not start.
    """
    bundle = Bundle.load(path)
    folder.mkdir(parents=True, exist_ok=True)
    script = script_of(bundle, folder)
    if not behind_protocol(bundle):
        return _simulated(path, physics, seed, folder, script)
    options = ["--physics", physics, "--seed", str(seed)]
    options += ["--video", str(folder / "run.mp4")] if video else []
    options += ["--shifts", str(shifts)] if shifts is not None else []
    with rehearsal.robot(folder, *options) as domain:
        process, log = rehearsal.deploy(path, domain, folder, script)
        rehearsal.summary_of(process)
    return tour_row(folder / "truth.jsonl", log) | {"robot": "simulated robot over DDS"}


def _simulated(path: Path, physics: str, seed: int, folder: Path, script: str) -> dict[str, Any]:
    """In lock step with the task's own simulation."""
    process = rehearsal.start(
        "deploy", str(path), "--link", "simulation", "--physics", physics, "--seed", str(seed), "--lock-step",
        "--script", script, "--log", str(folder / "run.mcap"), "--json",
    )  # fmt: skip
    summary = rehearsal.summary_of(process)
    steps = summary["steps"] if isinstance(summary.get("steps"), list) else []
    undone = [f"{step['name']}: {step['outcome']}" for step in steps if step["outcome"] != "done"]
    if not steps:
        raise UserError(f"the deployment of {path} did nothing: {summary.get('reasons')}")
    return {
        "physics": physics, "seed": seed, "ok": not undone and not summary["reasons"], "falls": None,
        "undone": undone, "damped_for": summary["reasons"], "robot": "simulation in lock step",
        "ticks": summary["ticks"], "missed_deadlines": summary["missed_deadlines"], "log": "run.mcap",
    }  # fmt: skip
