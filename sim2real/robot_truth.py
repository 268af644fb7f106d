"""What truly happened to the simulated robot, for whoever judges a tour: JSON lines, and when it fell.

Lines by `kind`: `start` (what was drawn), `pose` (50 a second), `event`, `end` (counters).  `t_s` is the
robot's own time, `monotonic_s` the host's `time.monotonic()`, by which a runtime's log can be aligned.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sim2real.robot_body import Body
from sim2real.robot_motors import Motors

FALL_TILT_RAD = math.radians(60.0)
STANDING_HEIGHT_M = 0.18
STANDING_TILT_RAD = math.radians(30.0)
STANDING_S = 0.3
"""So long the base must have been up, and upright, to count as standing."""
POSE_EVERY_TICKS = 10


class Judge:
    """Counts falls: after it first stood, a tilt over 60° or anything but feet and calves on the ground.

    A robot whose motors only damp sinks to the ground by itself: that is `lay_down`, not a fall, as long as
    it stays upright.  After either it has to stand again before it can fall again.
    """

    def __init__(self) -> None:
        self.falls = 0
        self.standing = False
        self._up_since_s: float | None = None

    def look(self, t_s: float, height_m: float, tilt_rad: float, illegal_contact: bool, stiff: bool) -> str:
        """What has just happened: "stood", "fall: tilt", "fall: contact", "lay_down", or ""."""
        if self.standing:
            if tilt_rad > FALL_TILT_RAD:
                return self._down("fall: tilt")
            if illegal_contact:
                return self._down("fall: contact" if stiff else "lay_down")
            return ""
        if height_m < STANDING_HEIGHT_M or tilt_rad > STANDING_TILT_RAD or illegal_contact:
            self._up_since_s = None
            return ""
        if self._up_since_s is None:
            self._up_since_s = t_s
        if t_s - self._up_since_s < STANDING_S:
            return ""
        self.standing = True
        return "stood"

    def _down(self, what: str) -> str:
        self.falls += what.startswith("fall")
        self.standing, self._up_since_s = False, None
        return what


class Truth:
    """Keeps the record; without a path it only judges."""

    def __init__(self, path: Path | None, body: Body, motors: Motors) -> None:
        self.judge = Judge()
        self.events: list[str] = []
        self._body, self._motors = body, motors
        self._file: TextIO | None = path.open("w") if path is not None else None
        self._ticks = 0

    def start(self, record: dict[str, Any]) -> None:
        """What the robot is."""
        self._write("start", 0.0, record)

    def tick(self, t_s: float) -> None:
        """Look at the body after a tick."""
        body, data = self._body, self._body.data
        if body.rope is None:  # what hangs neither stands nor falls
            height_m, stiff = float(data.qpos[2]), self._motors.stiff
            happened = self.judge.look(t_s, height_m, body.tilt_rad, body.illegal_contact, stiff)
            if happened:
                self.event(t_s, happened)
        if self._file is not None and self._ticks % POSE_EVERY_TICKS == 0:
            self._write("pose", t_s, self.pose())
        if self._file is not None and self._ticks % 500 == 0:
            self._file.flush()
        self._ticks += 1

    def pose(self) -> dict[str, Any]:
        """The body now: base in the world [m, m/s], joints by motor index [rad], load on the feet [N]."""
        body, data = self._body, self._body.data
        return {
            "position_w": np.round(data.qpos[:3], 5).tolist(),
            "quaternion_w": np.round(data.qpos[3:7], 6).tolist(),
            "velocity_w": np.round(data.qvel[:3], 5).tolist(),
            "angular_velocity_b": np.round(data.qvel[3:6], 5).tolist(),
            "tilt_deg": round(math.degrees(body.tilt_rad), 3),
            "joint_position": np.round(body.joint_position, 5).tolist(),
            "foot_force_n": np.round(body.foot_force_n, 2).tolist(),
            "illegal_contact": body.illegal_contact,
            "stiff": self._motors.stiff,
            "falls": self.judge.falls,
        }

    def event(self, t_s: float, what: str) -> None:
        """Something worth a line of its own."""
        self.events.append(what)
        self._write("event", t_s, {"event": what, "stiff": self._motors.stiff})

    def end(self, t_s: float, counters: dict[str, Any]) -> None:
        """The last line."""
        self._write("end", t_s, counters | {"falls": self.judge.falls, "events": self.events})
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, kind: str, t_s: float, content: dict[str, Any]) -> None:
        if self._file is not None:
            line = {"kind": kind, "t_s": round(t_s, 4), "monotonic_s": round(time.monotonic(), 6)} | content
            self._file.write(json.dumps(line) + "\n")
