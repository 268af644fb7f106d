"""Deployment logs through the real writer: a robot that drives a known way, and its script's table."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from sim2real.log import LogWriter

JOINTS = ["FR_hip_joint", "FR_thigh_joint", "FR_calf_joint"]
DT_S = 0.02
CONTRACT: dict[str, Any] = {
    "joint_names": JOINTS,
    "control_dt_s": DT_S,
    "commands": [
        {"name": "forward", "unit": "m/s", "low": -0.5, "high": 1.5},
        {"name": "left", "unit": "m/s", "low": -0.5, "high": 0.5},
        {"name": "turn left", "unit": "rad/s", "low": -1.0, "high": 1.0},
    ],
    "joint_limits": {"position_soft": [[-1.0, 1.0], [-1.4, 3.4], [-2.7, -0.9]]},
}
STEPS = [
    {"name": "forward 5 m", "asked": "[1.0, 0.0, 0.0] 5 m", "outcome": "done", "seconds": 4.78, "distance_m": 5.01,
     "angle_rad": -0.05, "measured": "truth"},
    {"name": "turn left 90°", "asked": "[0.0, 0.0, 0.8] 1.57 rad", "outcome": "timeout", "seconds": 8.0,
     "distance_m": 0.4, "angle_rad": 0.9, "measured": "truth"},
    {"name": "damp", "asked": "damp", "outcome": "done", "seconds": 0.02, "distance_m": None, "angle_rad": None,
     "measured": "truth"},
]  # fmt: skip


def write_log(
    path: Path,
    *,
    ticks: int = 500,
    truth: bool = True,
    lock_step: bool = False,
    closed: bool = True,
    steps: list[dict[str, Any]] | None = None,
    reasons: tuple[str, ...] = (),
    contract: dict[str, Any] | None = None,
    text: str = "script asks for it",
) -> Path:
    """Two seconds limp, then running at 0.5 m/s in its own forward direction while turning left at 0.4 rad/s.

    Joints lag 0.1 rad behind their targets. The policy takes 1 ms, one tick in a hundred 5 ms; from 4.0 to 4.2 s the
    supervisor limits. The clock begins at 100 s.
    """
    writer = LogWriter(path, CONTRACT if contract is None else contract, _metadata(path), patient=True)
    x = y = 0.0
    for k in range(ticks):
        deadline = 100.0 + k * DT_S
        woke = deadline if lock_step else deadline + 0.0003
        slow = k % 100 == 0
        sent = deadline + DT_S if lock_step else woke + (0.007 if slow else 0.002)
        running = k * DT_S >= 2.0
        heading = 0.4 * (k * DT_S - 2.0) if running else 0.0
        if running:
            x, y = x + 0.5 * DT_S * math.cos(heading), y + 0.5 * DT_S * math.sin(heading)
        target = [0.1 * math.sin(k / 10), 0.8, -1.6]
        state = "running" if running else "limp"
        limited = 4.0 <= k * DT_S < 4.2
        if k in (0, 100):
            writer.put(("/event", woke, {"state": state, "text": text}))
        messages: list[tuple[str, float, dict[str, Any]]] = [
            ("/target", sent, {"joint_target": target, "kp": [35.0 if running else 0.0] * 3, "kd": [0.8] * 3}),
            ("/decision", sent, {"state": state, "supervisor": "limited" if limited else "pass",
                                 "reasons": ["position: limited for FR_calf_joint"] if limited else [],
                                 "present": []}),
            ("/command", sent, {"command": [0.5 if running else 0.0, 0.0, 0.4 if running else 0.0]}),
            ("/timing", sent, {"tick": k, "deadline_s": deadline, "woke_s": woke, "sent_s": sent,
                               "policy_s": (0.005 if slow else 0.001) if running else 0.0,
                               "late_s": sent - deadline, "missed": k == 300}),
            ("/reading", woke, {"tick": k, "joint_position": [v - 0.1 for v in target],
                                "angular_velocity": [0.0, 0.0, 0.4 if running else 0.0]}),
        ]  # fmt: skip
        if truth:
            messages.append(("/truth", woke, {"position_w": [x, y, 0.3], "heading": heading}))
        writer.put(*messages)
    summary = {"steps": json.dumps(STEPS if steps is None else steps), "reasons": json.dumps(list(reasons))}
    writer.close(summary)
    if not closed:
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.6)])
    return path


def _metadata(path: Path) -> dict[str, str]:
    return {"robot": "go2", "task": "go2-walk", "link": "SimulationLink", "bundle": "runs/x/bundle",
            "command_line": "gantry deploy runs/x --script tour", "started_unix_s": "1795299934.1",
            "started_clock_s": "100.0"}  # fmt: skip
