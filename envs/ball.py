"""A yoga ball that a robot stands on: a thin-walled sphere that rolls freely on the ground."""

from dataclasses import dataclass

import mujoco
import numpy as np

BALL = "ball"
"""Name of its body and of its geom."""


@dataclass(frozen=True)
class Ball:
    """The ball as it is where nothing is randomized. A large yoga ball; its size stays as it is."""

    radius_m: float = 0.45
    mass_kg: float = 2.0
    """All of it in the skin: the moment of inertia is 2/3 m r^2."""
    friction: float = 0.8
    """Sliding friction coefficient on the ground."""
    rolling_friction_m: float = 0.005
    """Torque against rolling for each newton of load: how far in front of the center the ground carries it."""


def add_ball(spec: mujoco.MjSpec, ball: Ball, visual: bool) -> None:
    """Puts the ball on the origin, as a free body behind all others.

    Its own values count in contact with the ground (priority 1 there); where the robot touches it, the robot's do.
    """
    body = spec.worldbody.add_body(name=BALL, pos=[0.0, 0.0, ball.radius_m])
    body.add_freejoint(name=BALL)
    geom = body.add_geom(
        name=BALL, type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[ball.radius_m, 0.0, 0.0], mass=ball.mass_kg,
        contype=1, conaffinity=1, priority=1, condim=6, rgba=[0.16, 0.55, 0.62, 1.0],
        friction=[ball.friction, 0.005, ball.rolling_friction_m],
    )  # fmt: skip
    geom.typeinertia = mujoco.mjtGeomInertia.mjINERTIA_SHELL
    if visual:
        _paint(spec, geom)


def _paint(spec: mujoco.MjSpec, geom: mujoco.MjsGeom) -> None:
    """Rings and meridians, so that one sees it turn about any axis."""
    texture = spec.add_texture(
        name=BALL, type=mujoco.mjtTexture.mjTEXTURE_CUBE, width=_FACE, height=6 * _FACE, nchannel=3
    )
    texture.data = _cube_faces().tobytes()
    material = spec.add_material(name=BALL, specular=0.5, shininess=0.6, reflectance=0.0)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = BALL
    geom.material, geom.rgba = BALL, [1.0, 1.0, 1.0, 1.0]


_FACE = 128
_SKIN, _RING, _POLE = (38, 140, 158), (226, 240, 240), (240, 150, 60)


def _cube_faces() -> np.ndarray:
    """(6 * _FACE, _FACE, 3) uint8: the faces +x, -x, +y, -y, +z, -z of the ball's picture, one below the other."""
    u = (np.arange(_FACE) + 0.5) / _FACE * 2.0 - 1.0
    right, down = np.meshgrid(u, u)
    one = np.ones_like(right)
    faces = [(one, -down, -right), (-one, -down, right), (right, one, down),
             (right, -one, -down), (right, -down, one), (-right, -down, -one)]  # fmt: skip
    picture = []
    for x, y, z in faces:
        norm = np.sqrt(x * x + y * y + z * z)
        latitude, longitude = np.degrees(np.arcsin(y / norm)), np.degrees(np.arctan2(z, x))
        color = np.broadcast_to(np.array(_SKIN, np.uint8), (_FACE, _FACE, 3)).copy()
        rings = np.abs((latitude + 15.0) % 30.0 - 15.0) < 1.2
        meridians = np.abs((longitude + 30.0) % 60.0 - 30.0) * np.cos(np.radians(latitude)) < 1.2
        color[rings | meridians] = _RING
        color[np.abs(latitude) > 72.0] = _POLE
        picture.append(color)
    return np.concatenate(picture)
