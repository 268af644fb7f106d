"""A film of the simulated robot: poses are kept while it runs and rendered when it has left the wire.

Rendering takes far longer than a tick, so doing it at once would cost the robot its real time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
from numpy.typing import NDArray

from configs.errors import UserError
from envs import gl

FRAMES_PER_S = 25
WIDTH, HEIGHT = 640, 480
LONGEST_S = 600.0
"""Poses beyond are left out, so that a robot that runs for days does not fill the memory."""
_COLLISION_GROUP = 3


class Film:
    """Keeps a pose 25 times a second."""

    def __init__(self, model: mujoco.MjModel, path: Path) -> None:
        """Raises UserError, before anything has run, if the film could not be made."""
        if path.suffix != ".mp4":
            raise UserError(f"--video {path}: valid is a file that ends in .mp4")
        if not path.absolute().parent.is_dir():
            raise UserError(f"--video {path}: there is no folder {path.absolute().parent}; make it first")
        gl.back_end()
        self._model, self._path = model, path
        self.poses: list[NDArray[np.float64]] = []

    def see(self, time_s: float, qpos: NDArray[np.float64]) -> None:
        """Keep this pose if a frame is due."""
        if len(self.poses) < time_s * FRAMES_PER_S and time_s < LONGEST_S:
            self.poses.append(qpos.copy())

    def render(self) -> None:
        """Write the film, under a temporary name first.  Raises UserError if OpenGL fails."""
        import imageio.v2 as imageio

        part = self._path.with_name(f".{self._path.stem}.{os.getpid()}.partial.mp4")
        context = gl.context(WIDTH, HEIGHT)
        try:
            with imageio.get_writer(part, fps=FRAMES_PER_S, macro_block_size=2) as video:
                for pixels in self._frames():
                    video.append_data(pixels)  # type: ignore[attr-defined]
            part.replace(self._path)
        finally:
            part.unlink(missing_ok=True)
            context.free()

    def _frames(self) -> Iterator[NDArray[np.uint8]]:
        model, data = self._model, mujoco.MjData(self._model)
        model.vis.global_.offwidth, model.vis.global_.offheight = WIDTH, HEIGHT
        model.vis.quality.shadowsize, model.vis.quality.offsamples = 1024, 2  # software OpenGL is slow
        option, camera = mujoco.MjvOption(), mujoco.MjvCamera()
        option.geomgroup[_COLLISION_GROUP] = 0
        camera.distance, camera.elevation, camera.azimuth = 1.8, -14.0, 130.0
        scene = mujoco.MjvScene(model, maxgeom=2000)
        drawing = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
        area = mujoco.MjrRect(0, 0, WIDTH, HEIGHT)
        smooth = 1.0 - math.exp(-1.0 / (0.3 * FRAMES_PER_S))  # the camera follows within 0.3 s
        camera.lookat[:2] = self.poses[0][:2] if self.poses else 0.0
        for qpos in self.poses:
            data.qpos[:] = qpos
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)
            mujoco.mj_camlight(model, data)
            camera.lookat[:2] += smooth * (qpos[:2] - camera.lookat[:2])
            camera.lookat[2] = 0.25
            every = mujoco.mjtCatBit.mjCAT_ALL
            mujoco.mjv_updateScene(model, data, option, None, camera, every, scene)
            pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
            mujoco.mjr_render(area, scene, drawing)
            mujoco.mjr_readPixels(pixels, None, area, drawing)
            yield np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest
        drawing.free()
