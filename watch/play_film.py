"""A video of what was played: the states are kept while one plays, and drawn afterwards, in real time's own pace.

Drawing in software takes longer than the motion itself; kept states make a smooth video anyway.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio.v2 as imageio
import numpy as np

from configs.errors import UserError
from envs.rendering import Renderer, side_by_side
from watch.play_physics import LivePhysics
from watch.play_robot import PlayedRobot

FPS = 25
MAX_S = 120.0
WIDTH, HEIGHT = 640, 480
"""[pixel] of each robot's picture."""

Frame = list[dict[str, np.ndarray]]
"""A snapshot of each robot's environment."""


class Film:
    """One take."""

    def __init__(self, robots: Sequence[PlayedRobot]) -> None:
        self._robots = list(robots)
        self._frames: list[Frame] = []
        self._held = any(robot.physics.held for robot in robots)
        self._every = max(1, round(1 / (FPS * robots[0].dt)))
        self._steps = 0

    @property
    def seconds(self) -> float:
        return len(self._frames) * self._every * self._robots[0].dt

    @property
    def full(self) -> bool:
        return self.seconds >= MAX_S

    def note(self) -> None:
        """Keeps the present state, at the video's frame rate; called once a control step."""
        if self._steps % self._every == 0 and not self.full:
            self._held |= any(robot.physics.held for robot in self._robots)
            self._frames.append(
                [{k: np.array(v) for k, v in robot.environment.snapshot().items()} for robot in self._robots]
            )
        self._steps += 1

    def save(self) -> Path:
        """Writes RUN/play-TIME.mp4, into the first robot's run. The file appears once it is complete.

        Raises:
            UserError: nothing was recorded, the folder cannot be written, or no OpenGL back end works.
        """
        if not self._frames:
            raise UserError("nothing was recorded; play for a while between start and stop")
        run = self._robots[0].run
        path = run / f"play-{time.strftime('%Y-%m-%d_%H-%M-%S')}.mp4"
        partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
        twins = [robot.twin() for robot in self._robots]
        for twin in twins:
            LivePhysics(twin)  # so that it has the fields that a snapshot holds
        # The overlay tells what an episode drew, not what a slider has made of it.
        renderers = [Renderer(twin, WIDTH, HEIGHT, overlay=not self._held) for twin in twins]
        fps = round(1 / (self._every * self._robots[0].dt))
        try:
            with imageio.get_writer(
                partial, format="FFMPEG", fps=fps, codec="libx264", pixelformat="yuv420p", quality=None,  # type: ignore[arg-type]
                macro_block_size=2, ffmpeg_log_level="error",
                output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart", "-threads", "1"],
            ) as writer:  # fmt: skip
                for frame in self._frames:
                    pictures = []
                    for twin, renderer, snapshot in zip(twins, renderers, frame, strict=True):
                        twin.restore(snapshot)
                        pictures.append(renderer.frame(0))
                    writer.append_data(side_by_side(pictures))  # type: ignore[attr-defined]
                    time.sleep(0.002)  # lets the robots go on in real time meanwhile
            os.replace(partial, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)
            for renderer in renderers:
                renderer.close()
        return path


def save_aside(film: Film, done: Callable[[Path | None, str], None]) -> threading.Thread:
    """Saves in a thread of its own, then calls done(path, "") or done(None, reason)."""

    def work() -> None:
        try:
            done(film.save(), "")
        except UserError as error:
            done(None, str(error))

    thread = threading.Thread(target=work, name="play-film", daemon=True)
    thread.start()
    return thread
