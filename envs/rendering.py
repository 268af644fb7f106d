"""Pictures of a batch's simulations, without a screen, and videos of them."""

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import imageio.v2 as imageio
import mujoco
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from configs.errors import UserError, unknown
from envs import gl
from envs.environment import Environment, Step
from envs.overlay import MEASURED, RED, SLATE, WANTED, Color, Overlay, walks
from envs.scene import Terrain, build_model

Act = Callable[[Tensor], Tensor]
"""Observations (N, size) to actions (N, A)."""

SIZES = (64, 4096)
"""[pixel] the least and the greatest width and height."""

_COLLISION_GROUP = 3
_ARROW_M_PER_M_S = 0.6


class Follow:
    """A camera target that moves with a point without its jerks, and without lagging behind steady motion.

    A discounted least-squares (g-h) filter of position and velocity: Brookner, Tracking and Kalman Filtering
    Made Easy, 1998, section 1.2.6.
    """

    def __init__(self, start: np.ndarray, memory_s: np.ndarray) -> None:
        """start (3,) [m]; memory_s (3,) time constants, one an axis."""
        self.position, self.velocity, self._memory_s = start.copy(), np.zeros(3), memory_s

    def move(self, point: np.ndarray, elapsed_s: float) -> np.ndarray:
        """(3,) [m] where to look when the point (3,) is there, elapsed_s after the last call."""
        if elapsed_s > 0:
            keep = np.exp(-elapsed_s / self._memory_s)
            self.position = self.position + self.velocity * elapsed_s
            error = point - self.position
            self.position = self.position + (1 - keep**2) * error
            self.velocity = self.velocity + (1 - keep) ** 2 / elapsed_s * error
        return self.position


def visual_model(environment: Environment) -> mujoco.MjModel:
    """The environment's robot, ground and ball with all that is to be seen; the simulations' qpos fit it."""
    rough = environment.ground.rough
    terrain: Terrain = "rough" if rough else "flat"
    return build_model(environment.robot, terrain=terrain, rough=rough, ball=environment.task.ball)


class Renderer:
    """Draws simulations of an environment, each on its own physics, with what happens written on it."""

    def __init__(
        self,
        environment: Environment,
        width: int = 640,
        height: int = 480,
        camera: str = "track",
        *,
        physics: str = "",
        overlay: bool = True,
    ) -> None:
        """camera is one of the robot's MJCF; physics the name to show for the physics set.

        Raises UserError for a size or a camera that does not exist, and where no OpenGL back end works.
        """
        for name, size in (("width", width), ("height", height)):
            if not SIZES[0] <= size <= SIZES[1]:
                raise UserError(f"{name} {size} is out of range; valid: {SIZES[0]} to {SIZES[1]} pixels")
        self.environment, self.width, self.height = environment, width, height
        self._model = visual_model(environment)
        self._data = mujoco.MjData(self._model)
        cameras = [self._model.camera(c).name for c in range(self._model.ncam)]
        if camera not in cameras:
            raise unknown("camera", camera, cameras)
        self._overlay = Overlay(environment, width, height, physics) if overlay else None
        self._last: dict[int, tuple[int, int]] = {}
        self._marks: dict[int, tuple[str, Color, int]] = {}
        self._follow: dict[int, tuple[Follow, float]] = {}
        self._set_quality()
        self._aim(camera)
        self._option = mujoco.MjvOption()
        self._option.geomgroup[_COLLISION_GROUP] = 0
        self._option.sitegroup[:] = 0
        self._area = mujoco.MjrRect(0, 0, width, height)
        self._scene = mujoco.MjvScene(self._model, maxgeom=2000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_FOG] = 1
        self._gl: gl.Context | None = gl.context(width, height)
        self._drawing = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawing)

    def __enter__(self) -> "Renderer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the OpenGL context back. A second call does nothing."""
        if self._gl is not None:
            self._gl.make_current()
            self._drawing.free()
            self._gl.free()
            self._gl = None

    def note(self, step: Step) -> None:
        """Remembers which episodes ended in a step; without it, falls between two frames go unmarked."""
        for i in step.ended.tolist():
            self._end(i, bool(step.terminated[i]))

    def frame(self, i: int = 0) -> np.ndarray:
        """(height, width, 3) uint8: simulation i as it is now; after its episode ended, the new start."""
        if self._gl is None:
            raise RuntimeError("this renderer is closed")
        if not 0 <= i < self.environment.num_envs:
            raise UserError(f"simulation {i} does not exist; valid: 0 to {self.environment.num_envs - 1}")
        elapsed_s = self._elapsed_s(i)
        self._load(i)
        camera = self._look(i, elapsed_s)
        mujoco.mjv_updateScene(
            self._model, self._data, self._option, None, camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        if self._overlay is not None and walks(self.environment):
            self._add_arrows(i)
        pixels = np.empty((self.height, self.width, 3), np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(self._area, self._scene, self._drawing)
        mujoco.mjr_readPixels(pixels, None, self._area, self._drawing)
        pixels = np.ascontiguousarray(pixels[::-1])  # OpenGL's first row is the lowest
        if self._overlay is None:
            return pixels
        return self._overlay.draw(pixels, i, elapsed_s=elapsed_s, mark=self._mark(i))

    def _set_quality(self) -> None:
        """What software OpenGL draws in a fraction of a second; on this renderer's own copy of the model."""
        quality, size = self._model.vis.quality, self._model.vis.global_
        quality.shadowsize = 1024
        quality.offsamples = 4  # as costly as 2 in software
        size.offwidth, size.offheight = self.width, self.height

    def _aim(self, name: str) -> None:
        """The named camera where it is fixed; else its angle and distance, to be followed smoothly."""
        camera = self._model.camera(name)
        self._camera = mujoco.MjvCamera()
        self._base = self._model.body(self.environment.robot.base_body).id
        fixed = int(camera.mode[0]) == int(mujoco.mjtCamLight.mjCAMLIGHT_FIXED)
        self._moving = self.environment.sim.floating and not fixed
        if not self._moving:
            self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera.id
            return
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, camera.quat)
        forward = -rotation.reshape(3, 3)[:, 2]  # a camera looks along its -z
        distance = -float(camera.pos @ forward)
        self._offset = camera.pos + distance * forward  # the point nearest the base on the line of sight
        self._azimuth = math.degrees(math.atan2(forward[1], forward[0]))
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._below = 0.0
        ball = self.environment.task.ball
        if ball is not None:  # all of it is to be seen: from farther off, the middle of robot and ball in sight
            distance, self._below = 1.75 * distance, 0.9 * ball.radius_m
        self._camera.distance, self._camera.elevation = distance, math.degrees(math.asin(forward[2]))
        self._model.vis.global_.fovy = float(camera.fovy[0])

    def _load(self, i: int) -> None:
        """Simulation i's pose into the private data."""
        self._data.qpos[:] = self.environment.sim.qpos[i]
        # All that a picture needs of mj_forward; the rest could warn about a state that has diverged.
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _look(self, i: int, elapsed_s: float | None) -> mujoco.MjvCamera:
        """The camera for simulation i. Each episode begins seen from the same side of the robot."""
        if not self._moving:
            return self._camera
        point = self._data.xpos[self._base]
        if elapsed_s is None or i not in self._follow:
            forward = self._data.xmat[self._base].reshape(3, 3)[:2, 0]
            heading = math.degrees(math.atan2(forward[1], forward[0]))
            ball = self.environment.task.ball
            stands_on = self._ground_height(i) + (2 * ball.radius_m if ball else 0.0)
            start = np.array([point[0], point[1], self.environment.robot.home_base_height_m + stands_on])
            self._follow[i] = Follow(start, np.array([0.3, 0.3, 1.0])), self._azimuth + heading
        follow, self._camera.azimuth = self._follow[i]
        self._camera.lookat[:] = follow.move(point, elapsed_s or 0.0) + self._offset - [0.0, 0.0, self._below]
        return self._camera

    def _ground_height(self, i: int) -> float:
        state = self.environment.state
        return float(state.base_position_w[i, 2] - state.base_height[i])

    def _add_arrows(self, i: int) -> None:
        """Commanded and measured horizontal velocity as arrows over the robot's back."""
        state = self.environment.state
        forward = self._data.xmat[self._base].reshape(3, 3)[:2, 0]
        forward = forward / max(float(np.linalg.norm(forward)), 1e-6)
        left = np.array([-forward[1], forward[0]])
        for height, color, velocity in (
            (0.15, WANTED, state.command[i, :2]),
            (0.18, MEASURED, state.base_linear_velocity_b[i, :2]),
        ):
            vx, vy = velocity.tolist()
            if math.hypot(vx, vy) < 0.05 or self._scene.ngeom >= self._scene.maxgeom:
                continue
            start = self._data.xpos[self._base] + [0, 0, height]
            end = start + np.append(_ARROW_M_PER_M_S * (vx * forward + vy * left), 0.0)
            geom = self._scene.geoms[self._scene.ngeom]
            rgba = np.array([*color, 255], np.float32) / 255
            kind = mujoco.mjtGeom.mjGEOM_ARROW
            mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).ravel(), rgba)
            mujoco.mjv_connector(geom, kind, 0.009, start, end)
            geom.emission, geom.specular = 0.3, 0.0
            self._scene.ngeom += 1

    def _elapsed_s(self, i: int) -> float | None:
        """Simulated time since this simulation's last frame; None when it began anew in between."""
        episodes = self.environment.episodes
        now = int(episodes.episode[i]), int(episodes.step[i])
        before, self._last[i] = self._last.get(i), now
        if before is None or before[0] != now[0]:
            if before is not None and i not in self._marks and now[1] == 0:
                self._end(i, bool(self.environment.state.terminated[i]))
            return None
        return (now[1] - before[1]) * self.environment.dt

    def _end(self, i: int, fell: bool) -> None:
        word = "fell" if self.environment.robot.feet else "failed"
        mark = (f"{word}: new episode", RED) if fell else ("new episode", SLATE)
        self._marks[i] = *mark, int(self.environment.episodes.episode[i])

    def _mark(self, i: int) -> tuple[str, Color] | None:
        """The mark of an episode's beginning, as long as it shows."""
        if i not in self._marks:
            return None
        message, color, episode = self._marks[i]
        now = self.environment.episodes
        if now.episode[i] != episode or now.step[i] * self.environment.dt > Overlay.MARK_S:
            del self._marks[i]
            return None
        return message, color


def record(
    environment: Environment,
    act: Act,
    path: Path,
    seconds: float,
    *,
    width: int = 640,
    height: int = 480,
    fps: int | None = None,
    simulations: Sequence[int] = (0,),
    physics: str = "",
    camera: str = "track",
) -> Path:
    """Runs a policy from a reset and writes an H.264 video of it, in real time. Returns the path.

    width and height are those of one simulation's picture; several stand side by side. fps None means one
    frame a control step. The file appears only once it is complete.

    Raises:
        UserError: a length, size, frame rate or simulation that makes no sense, or no OpenGL back end.
    """
    rate = round(1 / environment.dt)
    fps = rate if fps is None else fps
    if not (math.isfinite(seconds) and seconds * rate >= 1):
        raise UserError(f"seconds is {seconds}; a video needs at least one step of {environment.dt} s")
    if fps < 1 or rate % fps:
        valid = ", ".join(str(f) for f in range(rate, 0, -1) if rate % f == 0)
        raise UserError(f"{fps} frames a second do not divide {rate} control steps a second; valid: {valid}")
    for name, size in (("width", width), ("height", height)):
        if size % 2:
            raise UserError(f"{name} {size} is odd; H.264 needs even sizes: {size - 1} or {size + 1}")
    if not simulations:
        raise UserError("simulations is empty; name at least one, such as (0,)")
    every, steps = rate // fps, round(seconds * rate)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial.mp4")
    console = Console(stderr=True)
    counter = TextColumn("{task.completed:.0f} of {task.total:.0f} s")
    columns = TextColumn("video"), BarColumn(), counter, TimeRemainingColumn()
    try:
        with (
            Renderer(environment, width, height, camera, physics=physics) as renderer,
            Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
            imageio.get_writer(
                partial, format="FFMPEG", fps=fps, codec="libx264", pixelformat="yuv420p", quality=None,
                macro_block_size=2, ffmpeg_log_level="error",
                output_params=["-crf", "20", "-preset", "veryfast", "-movflags", "+faststart"],
            ) as writer,
            torch.no_grad(),
        ):  # fmt: skip
            bar = progress.add_task("video", total=steps / rate)
            observation, _ = environment.reset()
            for k in range(steps):
                result = environment.step(act(observation))
                observation = result.observation
                renderer.note(result)
                if (k + 1) % every == 0:
                    picture = side_by_side([renderer.frame(i) for i in simulations])
                    writer.append_data(picture)  # type: ignore[attr-defined]
                progress.update(bar, completed=(k + 1) / rate)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def side_by_side(frames: Sequence[np.ndarray]) -> np.ndarray:
    """(rows·H, columns·W, 3) frames (H, W, 3) in a grid about as wide as high; empty places are dark."""
    columns = math.ceil(math.sqrt(len(frames)))
    rows = math.ceil(len(frames) / columns)
    height, width, _ = frames[0].shape
    grid = np.full((rows * height, columns * width, 3), 24, np.uint8)
    for k, frame in enumerate(frames):
        row, column = divmod(k, columns)
        grid[row * height : (row + 1) * height, column * width : (column + 1) * width] = frame
    return grid
