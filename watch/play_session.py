"""A session of play: the robots, what drives them and what shows them, kept in step with real time."""

from __future__ import annotations

import json
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from configs.errors import UserError
from envs.overlay import quantities
from watch.play_door import Door
from watch.play_drive import Drive
from watch.play_film import Film, save_aside
from watch.play_panel import Panel
from watch.play_plots import History
from watch.play_robot import PlayedRobot
from watch.play_scene import Scene
from watch.values import text

SET_UP_AFTER_S = 2.5
"""How long a fallen robot lies before it is set up again."""
LATE_S = 0.25
"""A machine that falls behind by this much plays slower than real time instead of catching up in a rush."""
_STATUS_EVERY_S, _CHARTS_EVERY_S, _CHECKPOINT_EVERY_S, _FACTOR_OVER_S = 0.1, 0.25, 2.0, 2.0
_WAYS = {"forward": (1.0, 0.0), "back": (-1.0, 0.0), "left": (0.0, 1.0), "right": (0.0, -1.0)}


class Session:
    """All of `gantry play` but its command line. Everything that moves robots happens in the thread of `run`."""

    def __init__(
        self,
        runs: Sequence[Path],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        physics: str = "nominal",
        seed: int = 0,
        trust_reward: bool = False,
        dark: bool | None = None,
        frames_per_s: float = 50.0,
    ) -> None:
        """dark: None follows the first page that opens; frames_per_s: how often pages get new poses, at most.

        Raises UserError for runs that cannot be played.
        """
        torch.set_num_threads(1)
        self.robots = [PlayedRobot(run, physics, seed, trust_reward) for run in runs]
        first = self.robots[0]
        for robot in self.robots[1:]:
            if robot.spec_name != first.spec_name:
                raise UserError(
                    f"runs of different robots cannot be played side by side: {str(first.run)!r} is of "
                    f"{first.spec_name}, {str(robot.run)!r} of {robot.spec_name}"
                )
        self.drive = Drive(first.policy.task.command)
        self.histories = [History(robot.dt) for robot in self.robots]
        self.paused, self.set_up_after_fall, self.follow_checkpoints = False, True, False
        self.push_m_s, self._next_way = 1.5, 0
        self.film: Film | None = None
        self._saving: list[threading.Thread] = []
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ticks: deque[tuple[float, float]] = deque()
        self._show_every = max(1, round(1 / (frames_per_s * first.dt)))
        self._steps = 0
        self._due = dict.fromkeys(("status", "charts", "checkpoint"), 0.0)
        self._theme_open = dark is None
        self.door = Door(host, port, self._from_page)
        self.scene = Scene(self.door.viser, self.robots)
        self.panel = Panel(self)
        self.show_dark(bool(dark))
        self.scene.update(0.0)

    # ---- what pages and the panel ask for; everything but `post` runs in the thread of `run`

    def post(self, action: Callable[[], None]) -> None:
        """Has the action done between two steps; from any thread."""
        self._inbox.put(action)

    def reset(self) -> None:
        for i, robot in enumerate(self.robots):
            robot.reset()
            self.scene.place(i)
            self.histories[i].clear()
        self.panel.show_physics()

    def push(self, way: str | None = None, speed_m_s: float | None = None) -> None:
        """Pushes all robots the same way, relative to where each looks; None takes turns: left, right."""
        if way is None:
            way = ("left", "right")[self._next_way] if self.robots[0].environment.sim.floating else "forward"
            self._next_way = 1 - self._next_way
        velocity = np.array(_WAYS[way]) * (self.push_m_s if speed_m_s is None else speed_m_s)
        for robot in self.robots:
            robot.push(velocity)

    def pause(self) -> None:
        self.paused = not self.paused
        self._ticks.clear()

    def hold_physics(self, term: str, value: float) -> None:
        for robot in self.robots:
            robot.physics.hold(term, value)

    def release_physics(self) -> None:
        for robot in self.robots:
            robot.physics.release()
        self.panel.show_physics()

    def switch(self, i: int, run: Path) -> None:
        """Robot i takes up another run's policy. Raises UserError and keeps the old one if it is of no use."""
        self.robots[i].switch(run)
        self.histories[i].clear()
        self.panel.show_policies()

    def record(self) -> None:
        """Starts a take, or ends and saves it."""
        if self.film is None:
            self.film = Film(self.robots)
        else:
            film, self.film = self.film, None
            self.say("Saving the video", "It is drawn from what was recorded.")
            self._saving.append(save_aside(film, self._saved))
        self.panel.show_recording(self.film is not None)

    def show_dark(self, dark: bool) -> None:
        self.scene.dress(dark)
        self.panel.show_theme(dark)

    def say(self, title: str, body: str, color: Any = None) -> None:
        """A note on every page."""
        for client in self.door.viser.get_clients().values():
            client.add_notification(title, body, auto_close_seconds=8.0, color=color)

    def _saved(self, path: Path | None, reason: str) -> None:
        if path is None:
            self.say("No video", text(reason, 300) or "", "red")
        else:
            self.say("Video saved", text(str(path), 300) or "", "teal")
            print(f"video: {path}", flush=True)

    def _from_page(self, page: int, message: dict[str, Any] | None) -> None:
        """Called in the server's thread."""
        if message is None:
            self.drive.release(page)
            return
        held = message.get("held")
        if isinstance(held, list) and all(type(v) in (int, float) for v in held):
            self.drive.hold(page, held)
        if isinstance(message.get("dark"), bool) and self._theme_open:
            self._theme_open = False
            self.post(lambda: self.show_dark(message["dark"]))
        event = message.get("event")
        once: dict[Any, Callable[[], None]] = {
            "push": self.push, "reset": self.reset, "pause": self.pause,
            "left": lambda: self.push("back", 0.5), "right": lambda: self.push("forward", 0.5),
        }  # fmt: skip
        if isinstance(event, str) and event in once:
            self.post(once[event])

    # ---- the loop

    def run(self, stop: threading.Event) -> None:
        """Plays in real time until `stop` is set."""
        dt, due = self.robots[0].dt, time.monotonic()
        while not stop.is_set():
            self._handle_inbox()
            if self.paused:
                self._show(0.0)
                stop.wait(0.03)
                due = time.monotonic()
                continue
            self.tick()
            due += dt
            now = time.monotonic()
            if due > now:
                stop.wait(due - now)
            elif now - due > LATE_S:
                due = now

    def tick(self) -> None:
        """One control step of every robot."""
        command = self.drive.command
        for i, robot in enumerate(self.robots):
            if robot.fallen_s is not None and self.set_up_after_fall and robot.fallen_s >= SET_UP_AFTER_S:
                robot.reset()
                self.scene.place(i, here=True)
                self.panel.show_physics()
            robot.set_command(command)
            self.histories[i].add(robot.step())
        if self.film is not None:
            self.film.note()
            if self.film.full:
                self.record()
        self._count(self.robots[0].dt)
        self._steps += 1
        if self._steps % self._show_every == 0:
            self._show(self._show_every * self.robots[0].dt)

    @property
    def real_time_factor(self) -> float:
        """Simulated over real time, over the last two seconds."""
        if len(self._ticks) < 2:
            return 1.0
        elapsed = self._ticks[-1][0] - self._ticks[0][0]
        return sum(s for _, s in list(self._ticks)[1:]) / max(elapsed, 1e-9)

    def close(self) -> None:
        """Ends a take in progress, waits for videos that are being written, and closes the pages' connection."""
        if self.film is not None:
            self.record()
        for thread in self._saving:
            thread.join()
        self.door.close()

    def _handle_inbox(self) -> None:
        while True:
            try:
                action = self._inbox.get_nowait()
            except queue.Empty:
                return
            try:
                action()
            except UserError as error:
                self.say("That does not work", text(str(error), 300) or "", "red")
                self.panel.show_policies()

    def _count(self, simulated_s: float) -> None:
        now = time.monotonic()
        self._ticks.append((now, simulated_s))
        while now - self._ticks[0][0] > _FACTOR_OVER_S:
            self._ticks.popleft()

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_s
        return True

    def _show(self, elapsed_s: float) -> None:
        self.scene.update(elapsed_s)
        if self._is_due("status", _STATUS_EVERY_S):
            self.door.status = json.dumps(self.status(), allow_nan=False)
        if self._is_due("charts", _CHARTS_EVERY_S) and self.door.viser.get_clients():
            self.panel.show_charts()
        if self.follow_checkpoints and self._is_due("checkpoint", _CHECKPOINT_EVERY_S):
            for robot in self.robots:
                try:
                    if robot.refresh():
                        self.say("New checkpoint", robot.name)
                except UserError as error:
                    self.say("The new checkpoint cannot be used", text(str(error), 300) or "", "red")

    def status(self) -> dict[str, Any]:
        """What the pages' display shows, JSON-ready. Positions [m] are those of the scene."""
        floating = self.robots[0].environment.sim.floating
        return {
            "robots": [self._robot_status(i) for i in range(len(self.robots))],
            "axes": len(self.drive.axes),
            "rail": not floating,
            "time_s": round(self._steps * self.robots[0].dt, 3),
            "factor": round(self.real_time_factor, 3),
            "paused": self.paused,
            "recording": self.film is not None,
        }

    def _robot_status(self, i: int) -> dict[str, Any]:
        robot = self.robots[i]
        rows = [
            {"label": q.label, "unit": "°" if q.unit == "deg" else q.unit, "does": _finite(q.measured),
             "wanted": None if q.wanted is None else _finite(q.wanted), "span": max(abs(q.low), abs(q.high)),
             "digits": 0 if q.unit == "deg" else 2}
            for q in quantities(robot.environment, 0)
        ]  # fmt: skip
        upright = -float(robot.environment.state.gravity_b[0, 2])
        return {
            "letter": "AB"[i] if len(self.robots) > 1 else "",
            "name": robot.name,
            "rows": rows,
            "fell": robot.fallen,
            "position": [round(float(v), 3) for v in self.scene.base(i)],
            "tilt_deg": round(math.degrees(math.acos(max(-1.0, min(1.0, upright)))), 1),
        }


def _finite(value: float) -> float:
    return round(value, 3) if math.isfinite(value) else 0.0
