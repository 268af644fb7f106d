"""The robots in 3D: bodies by mjviser, floor, arrows and names of our own, in a light and a dark dress."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
import viser
from mjviser import ViserMujocoScene
from mjviser.conversions import merge_geoms

from envs.overlay import MEASURED, RED, WANTED, walks
from envs.rendering import Follow, visual_model
from envs.scene import GROUND
from watch.play_lane import Lane, yaw_of
from watch.play_robot import PlayedRobot

_ARROW_M_PER_M_S = 0.5
_HIDDEN = np.zeros((1, 2, 3), np.float32)
_FLOOR = "/fixed_bodies/floor"

_VIEWS = {
    (True, False): ((1.55, -1.5, 0.78), (0.0, 0.0, 0.15)),
    (True, True): ((2.65, -1.7, 1.06), (0.0, -0.03, -0.06)),
    (False, False): ((0.7, -5.3, 2.1), (0.0, 0.0, 0.75)),
    (False, True): ((1.02, -7.69, 2.71), (0.0, 0.0, 0.75)),
}
"""Camera and what it looks at [m], by whether the base floats and whether there are two: two that walk are seen from
the front, so that neither hides the other nor stands behind the display in the corner."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Dress:
    """Colors of floor and sky."""

    sky_high: Color
    sky_low: Color
    floor: Color
    cell: Color
    section: Color
    shadow: float
    light: float


LIGHT = Dress((196, 211, 224), (240, 243, 245), (226, 230, 232), (206, 212, 216), (178, 187, 193), 0.35, 0.6)
DARK = Dress((14, 18, 23), (38, 46, 54), (52, 60, 68), (64, 73, 82), (88, 100, 111), 0.55, 0.45)


class Scene:
    """Draws the robots' present state for every page. The pages' cameras are their own; the world moves under them."""

    def __init__(self, server: viser.ViserServer, robots: Sequence[PlayedRobot]) -> None:
        self._server, self._robots = server, robots
        environment = robots[0].environment
        model = visual_model(environment)
        self._model, self._data = model, mujoco.MjData(model)
        self._base = model.body(environment.robot.base_body).id
        floating, count = environment.sim.floating, len(robots)
        width = 0.9 if floating else 1.1
        self.lanes = [Lane(i, count, floating, width) for i in range(count)]
        self._bodies = ViserMujocoScene(server, model, count)
        self._bodies.camera_tracking_enabled = False  # it would follow every bounce
        server.scene.remove_by_name(f"/fixed_bodies/world/{GROUND}")
        self._copy_fixed_parts(model)
        self._xpos = np.zeros((count, model.nbody, 3))
        self._xmat = np.zeros((count, model.nbody, 3, 3))
        self._follow = Follow(np.zeros(3), np.array([0.3, 0.3, 1.0]))
        self.following = True
        self._offset = np.zeros(3)
        self.arrows = walks(environment)
        self._add_arrows()
        self._add_names()
        view, look = _VIEWS[floating, count > 1]
        server.initial_camera.position = view
        server.initial_camera.look_at = look
        server.initial_camera.fov = np.radians(42.0)
        for i in range(count):
            self.place(i)

    def dress(self, dark: bool) -> None:
        """Floor, sky and light for dark or light pages."""
        look, scene = (DARK if dark else LIGHT), self._server.scene
        rise = np.linspace(1.0, 0.0, 256)[:, None, None] ** 1.6
        sky = rise * np.array(look.sky_high) + (1 - rise) * np.array(look.sky_low)
        scene.set_background_image(np.broadcast_to(sky, (256, 8, 3)).astype(np.uint8), format="png")
        scene.configure_fog(5.0, 18.0, color=look.sky_low)
        scene.configure_environment_map("warehouse", environment_intensity=look.light)
        floor = scene.add_grid(
            _FLOOR, infinite_grid=True, plane_color=look.floor, plane_opacity=1.0, cell_color=look.cell,
            section_color=look.section, cell_size=0.25, section_size=1.0, cell_thickness=0.8, section_thickness=1.2,
            fade_distance=18.0, fade_strength=1.5, shadow_opacity=look.shadow,
        )  # fmt: skip
        floor.position = (0.0, 0.0, -0.001)

    def place(self, i: int, *, here: bool = False) -> None:
        """Shows robot i, which has just been reset, in its lane, or here: where it was shown last."""
        lane, robot = self.lanes[i], self._robots[i]
        last, heading = self._xpos[i, self._base].copy(), yaw_of(self._xmat[i, self._base])
        robot.pose(self._model, self._data)
        position, yaw = self._data.xpos[self._base], yaw_of(self._data.xmat[self._base].reshape(3, 3))
        lane.place(position, yaw, at=last if here else None, heading=heading if here else 0.0)

    def update(self, elapsed_s: float) -> None:
        """Sends the robots' poses, elapsed_s of simulated time after the last call."""
        for i, (robot, lane) in enumerate(zip(self._robots, self.lanes, strict=True)):
            robot.pose(self._model, self._data)
            self._xpos[i] = lane.points(self._data.xpos)
            self._xmat[i] = lane.rotations(self._data.xmat.reshape(-1, 3, 3))
        if self.following and self._robots[0].environment.sim.floating:
            middle = self._xpos[:, self._base].mean(0) * [1.0, 1.0, 0.0]
            far = np.linalg.norm(middle - self._follow.position) > 3.0  # it was set down elsewhere
            if far:
                self._follow = Follow(middle, np.array([0.3, 0.3, 1.0]))
            self._offset = -self._follow.move(middle, elapsed_s)
        with self._server.atomic():
            self._update_arrows()
            for i, name in enumerate(self._names):
                name.position = self._xpos[i, self._base] + self._offset + np.array([0.0, 0.0, 0.32])
            self._bodies.update_from_arrays(self._xpos + self._offset, self._xmat)
            self._bodies.fixed_bodies_frame.position = self._offset

    def base(self, i: int) -> np.ndarray:
        """(3,) [m] where robot i is shown, in the scene's own frame, which does not move with the camera."""
        return self._xpos[i, self._base].copy()

    def _copy_fixed_parts(self, model: mujoco.MjModel) -> None:
        """mjviser draws what does not move, such as a rail, once; each lane needs its own."""
        fixed = [g for g in range(model.ngeom) if model.geom_bodyid[g] == 0 and model.geom(g).name != GROUND]
        if not fixed:
            return
        for group in {int(model.geom_group[g]) for g in fixed}:
            self._server.scene.remove_by_name(f"/fixed_bodies/world/group{group}")
        for i, lane in enumerate(self.lanes):
            self._server.scene.add_mesh_trimesh(
                f"/fixed_bodies/lane{i}", merge_geoms(model, fixed), position=lane.shift, cast_shadow=True
            )

    def _add_arrows(self) -> None:
        def make(name: str, color: Color, radius: float) -> list[viser.ArrowsHandle]:
            return [
                self._server.scene.add_arrows(
                    f"/arrows/{name}{i}", _HIDDEN, color, visible=False,
                    shaft_radius=radius, head_radius=3 * radius, head_length=6 * radius,
                )
                for i in self._numbers
            ]  # fmt: skip

        self._wanted, self._measured = make("wanted", WANTED, 0.008), make("measured", MEASURED, 0.008)
        self._pushes = make("push", RED, 0.016)

    @property
    def _numbers(self) -> range:
        return range(len(self._robots))

    def _update_arrows(self) -> None:
        for i, robot in enumerate(self._robots):
            base, state = self._xpos[i, self._base] + self._offset, robot.environment.state
            forward = self._xmat[i, self._base, :2, 0] / max(np.linalg.norm(self._xmat[i, self._base, :2, 0]), 1e-6)
            left = np.array([-forward[1], forward[0]])
            if self.arrows:
                for handle, velocity, height in (
                    (self._wanted[i], state.command[0, :2], 0.15),
                    (self._measured[i], state.base_linear_velocity_b[0, :2], 0.18),
                ):
                    vx, vy = velocity.tolist()
                    start = base + np.array([0.0, 0.0, height])
                    _point(handle, start, _ARROW_M_PER_M_S * (vx * forward + vy * left), least=0.03)
            push = (self.lanes[i].turn[:2, :2] @ robot.push_w) * 0.25
            size = float(np.linalg.norm(push))
            push = push * min(1.0, 0.6 / size) if size > 0 else push
            tip = base + np.array([0.0, 0.0, 0.05])
            _point(self._pushes[i], tip - np.append(push * 1.5, 0.0), push if robot.push_left_s > 0 else push * 0)

    def _add_names(self) -> None:
        """A and B over the robots; their runs' names stand in the panel."""
        letters = "AB" if len(self._robots) > 1 else ""
        self._names = [
            self._server.scene.add_label(f"/names/{letter}", letter, anchor="bottom-center") for letter in letters
        ]


def _point(arrow: viser.ArrowsHandle, start: np.ndarray, way: np.ndarray, least: float = 1e-3) -> None:
    """Shows an arrow from start (3,) along way (2,) [m], or hides it if it is short."""
    shown = bool(np.linalg.norm(way) > least)
    if shown:
        arrow.points = np.stack([start, start + np.append(way, 0.0)])[None].astype(np.float32)
    if arrow.visible != shown:
        arrow.visible = shown
