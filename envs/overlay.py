"""What is written on a frame: command against measurement, the episode's physics, time, falls, restarts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import mujoco
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from envs.environment import Environment
from envs.randomization import TERMS

Color = tuple[int, int, int]

WHITE, GRAY, TRACK = (255, 255, 255), (186, 194, 206), (84, 94, 110)
WANTED, MEASURED = (255, 184, 56), (84, 214, 232)
"""The colors of commands and of what the robot does, in panels and arrows alike."""
RED, SLATE = (206, 48, 44), (44, 62, 88)

_PANEL, _PANEL_ALPHA = (16, 21, 31), 178


@dataclass(frozen=True)
class Quantity:
    """Something that is asked for, or only measured, with the range that its bar covers."""

    label: str
    unit: str
    measured: float
    wanted: float | None
    low: float
    high: float


def quantities(environment: Environment, i: int) -> list[Quantity]:
    """What simulation i is asked to do and what it does: a walker's velocities, else joints if few."""
    s, task, robot = environment.state, environment.task, environment.robot
    if walks(environment):
        assert task.command is not None
        does = [*s.base_linear_velocity_b[i, :2].tolist(), float(s.base_angular_velocity_b[i, 2])]
        largest = np.maximum(np.abs(task.command.low), np.abs(task.command.high))
        reach = 1.15 * np.maximum(largest, 0.5)  # what is never asked for may still happen
        names = ("forward", "left", "turn left")
        return [
            Quantity(name, unit, measured, wanted, -span, span)
            for name, unit, measured, wanted, span in zip(
                names, task.command.units, does, s.command[i].tolist(), reach.tolist(), strict=True
            )
        ]
    if robot.num_joints > 4:
        return []
    return [_joint(environment, i, j, name) for j, name in enumerate(robot.joint_names)]


def _joint(environment: Environment, i: int, j: int, name: str) -> Quantity:
    """Position and, where a motor drives it, target of joint j in simulation i."""
    s, driven = environment.state, environment.robot.driven_joints
    joint = environment.sim.model.joint(name)
    at = float(s.joint_position[i, j])
    wanted = float(s.joint_target[i, driven.index(name)]) if name in driven else None
    if joint.type[0] == int(mujoco.mjtJoint.mjJNT_SLIDE):
        low, high = map(float, joint.range) if joint.limited[0] else (-2.0, 2.0)
        return Quantity(name, "m", at, wanted, low, high)
    turned = math.degrees(math.atan2(math.sin(at), math.cos(at)))
    return Quantity(name, "deg", turned, None if wanted is None else math.degrees(wanted), -180.0, 180.0)


def walks(environment: Environment) -> bool:
    """Whether the command is a velocity: forward, left and yaw rate of a robot with feet."""
    command = environment.task.command
    return command is not None and command.units == ("m/s", "m/s", "rad/s") and bool(environment.robot.feet)


def _number(form: str, factor: float = 1.0) -> Callable[[np.ndarray], str]:
    """The mean of a term's elements; `form` may hold text around the number."""
    return lambda v: form.format(factor * float(v.mean()))


_PERCENT = _number("{:.0f} %", 100.0)

# Term -> label and format, the most telling first: what does not fit on the panel is left out from the end.
_LINES: dict[str, tuple[str, Callable[[np.ndarray], str]]] = {
    "friction": ("ground friction", _number("{:.2f}")),
    "ball_mass": ("ball mass", _number("{:.2f} kg")),
    "ball_rolling_friction": ("ball rolling", _number("{:.1f} mm", 1000.0)),
    "ball_drag": ("ball drag", _number("{:.2f} N·s/m")),
    "ball_friction": ("ball friction", _number("{:.2f}")),
    "ball_softness": ("ball softness", _PERCENT),
    "ball_restitution": ("ball bounce", _number("{:.2f}")),
    "base_mass": ("added mass", _number("{:+.2f} kg")),
    "motor_strength": ("motor strength", _PERCENT),
    "action_delay": ("action delay", _number("{:.0f} ms", 1000.0)),
    "center_of_mass": (
        "mass center",
        lambda v: " ".join(f"{1000 * x:+.0f}" for x in np.broadcast_to(v, 3)) + " mm",
    ),
    "link_mass": ("link masses", _PERCENT),
    "joint_friction": ("joint friction", _PERCENT),
    "gravity": ("gravity", lambda v: f"{1 + float(v[0]) / 9.81:.2f} g"),
    "joint_damping": ("joint damping", _PERCENT),
    "motor_offset": ("joint offsets", lambda v: f"{math.degrees(float(np.abs(v).mean())):.1f}°"),
    "restitution": ("bounce", _number("{:.2f}")),
    "kp": ("P gains", _PERCENT),
    "kd": ("D gains", _PERCENT),
    "armature": ("rotor inertia", _PERCENT),
    "contact_softness": ("ground softness", _PERCENT),
    "joint_stiffness": ("joint springs", _number("{:.2f} N·m/rad")),
}


def physics_lines(environment: Environment, i: int) -> list[tuple[str, str]]:
    """(label, value) of the physics that simulation i drew, the model's own where its set draws nothing."""
    drawn = environment.randomizer.describe(i, int(environment.episodes.episode[i]))
    own = {name: np.array([TERMS[name].neutral]) for name in environment.task.randomization}
    values = own | drawn
    return [(label, form(values[name])) for name, (label, form) in _LINES.items() if name in values]


class Overlay:
    """Draws the panels of one environment's frames, all of one size."""

    MARK_S = 1.2
    """[s] how long a mark such as a fall stays."""
    SMOOTHING_S = 0.12
    """[s] time constant of the measured numbers; a gait's steps would make them flicker."""

    def __init__(self, environment: Environment, width: int, height: int, physics: str = "") -> None:
        self.environment, self.width, self.height, self.physics = environment, width, height, physics
        self._panels_above = environment.sim.floating
        self._unit = max(0.7, min(height, width * 3 / 4) / 480)
        self._shown: dict[int, np.ndarray] = {}
        self._lines: dict[int, tuple[int, list[tuple[str, str]]]] = {}

    def px(self, size: float) -> int:
        """Pixels for a size given for a picture 480 pixels high."""
        return round(size * self._unit)

    def draw(self, frame: np.ndarray, i: int, *, elapsed_s: float | None, mark: tuple[str, Color] | None) -> np.ndarray:
        """A copy of frame (H, W, 3) of simulation i, written on.

        elapsed_s is the time since its last frame, None when it was restarted since.
        """
        picture = Image.fromarray(frame)
        margin = self.px(10)
        left = self._command_panel(picture, i, margin, elapsed_s)
        self._physics_panel(picture, i, margin, left)
        if mark is not None:
            self._pill(picture, *mark)
        return np.array(picture)

    def _command_panel(self, picture: Image.Image, i: int, margin: int, elapsed_s: float | None) -> int:
        """On the left. Returns its right edge."""
        rows = quantities(self.environment, i)
        measured = self._smooth(i, np.array([row.measured for row in rows]), elapsed_s)
        px, width = self.px, self.px(222)
        if width + 2 * margin > self.width:
            return 0
        height = px(34) + (px(16) + len(rows) * px(28) + px(3) if rows else 0)
        top = self._top(height, margin)
        paste_card(picture, margin, top, width, height, _PANEL, _PANEL_ALPHA, px(7))
        draw = ImageDraw.Draw(picture)
        x0, x1, y = margin + px(11), margin + width - px(11), top + px(17)
        text(draw, (x0, y), self.environment.task.name, px(17), WHITE, "lm")
        episode = int(self.environment.episodes.episode[i])
        clock = f"{float(self.environment.state.time_s[i]):.1f} s"
        text(draw, (x1, y), f"#{episode + 1}  {clock}" if episode > 0 else clock, px(14), GRAY, "rm")
        if not rows:
            return margin + width
        wanted_x, measured_x = x0 + px(113), x0 + px(165)
        y = top + px(39)
        text(draw, (wanted_x, y), "command" if walks(self.environment) else "target", px(11), WANTED, "rm")
        text(draw, (measured_x, y), "actual", px(11), MEASURED, "rm")
        y += px(16)
        for row, value in zip(rows, measured.tolist(), strict=True):
            digits = 0 if row.unit == "deg" else 2
            text(draw, (x0, y), row.label, px(13), WHITE, "lm")
            if row.wanted is not None:
                text(draw, (wanted_x, y), f"{row.wanted:+.{digits}f}", px(13), WANTED, "rm")
            text(draw, (measured_x, y), f"{value:+.{digits}f}", px(13), MEASURED, "rm")
            text(draw, (x1, y), row.unit, px(12), GRAY, "rm")
            self._bar(draw, x0, x1, y + px(12), row, value)
            y += px(28)
        return margin + width

    def _top(self, height: int, margin: int) -> int:
        """A walker is filmed from above, so panels cover the sky; what swings upward has them at its feet."""
        return margin if self._panels_above else self.height - margin - height

    def _bar(self, draw: ImageDraw.ImageDraw, x0: int, x1: int, y: int, row: Quantity, value: float) -> None:
        """From zero to the measured value, with a tick where the command is."""

        def at(v: float) -> float:
            share = (v - row.low) / (row.high - row.low)
            return x0 + min(max(share, 0.0), 1.0) * (x1 - x0)

        thick, zero = max(2, self.px(4)), at(0.0)
        draw.rectangle((x0, y, x1, y + thick - 1), fill=TRACK)
        start, end = sorted((zero, at(value)))
        draw.rectangle((round(start), y, round(end), y + thick - 1), fill=MEASURED)
        half = max(1, self.px(1.5))
        draw.rectangle((round(zero), y - 1, round(zero), y + thick), fill=GRAY)
        if row.wanted is not None:
            tick = round(min(max(at(row.wanted), x0 + half), x1 - half))
            over = self.px(3)
            draw.rectangle((tick - half, y - over, tick + half - 1, y + thick + over - 1), fill=WANTED)

    def _physics_panel(self, picture: Image.Image, i: int, margin: int, left: int) -> None:
        """On the right; left out where it would cover the other panel."""
        px, width, pitch = self.px, self.px(200), self.px(17)
        if left + 2 * margin + width > self.width:
            return
        # Not below the robot's back: nine lines at 480 pixels.
        lines = self._physics_of(i)[: max(2, (2 * self.height // 5 - px(36)) // pitch)]
        x, height = self.width - margin - width, px(34) + (len(lines) * pitch + px(4) if lines else 0)
        top = self._top(height, margin)
        paste_card(picture, x, top, width, height, _PANEL, _PANEL_ALPHA, px(7))
        draw = ImageDraw.Draw(picture)
        x0, x1, y = x + px(11), x + width - px(11), top + px(17)
        text(draw, (x0, y), "physics", px(15), WHITE, "lm")
        text(draw, (x1, y), self.physics, px(14), GRAY, "rm")
        y += px(22)
        for label, value in lines:
            text(draw, (x0, y), label, px(12), GRAY, "lm")
            text(draw, (x1, y), value, px(12), WHITE, "rm")
            y += pitch

    def _physics_of(self, i: int) -> list[tuple[str, str]]:
        """The lines change with the episode only."""
        episode = int(self.environment.episodes.episode[i])
        if i not in self._lines or self._lines[i][0] != episode:
            self._lines[i] = episode, physics_lines(self.environment, i)
        return self._lines[i][1]

    def _pill(self, picture: Image.Image, message: str, color: Color) -> None:
        """In the middle, on the side that the panels leave free."""
        size, px = self.px(16), self.px
        width, height = round(font(size).getlength(message)) + px(30), px(32)
        x, y = (self.width - width) // 2, self.height - height - px(18) if self._panels_above else px(18)
        paste_card(picture, x, y, width, height, color, 232, height // 2)
        text(ImageDraw.Draw(picture), (self.width // 2, y + height // 2), message, size, WHITE, "mm")

    def _smooth(self, i: int, values: np.ndarray, elapsed_s: float | None) -> np.ndarray:
        before = self._shown.get(i)
        if before is not None and elapsed_s is not None:
            values = before + (values - before) * (1 - math.exp(-elapsed_s / self.SMOOTHING_S))
        self._shown[i] = values
        return values


@lru_cache(maxsize=32)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own scalable font; it has Latin letters, digits of equal width, and few symbols."""
    return ImageFont.load_default(max(size, 8))


def text(draw: ImageDraw.ImageDraw, at: tuple[int, int], content: str, size: int, color: Color, anchor: str) -> None:
    draw.text(at, content, font=font(size), fill=color, anchor=anchor)


@lru_cache(maxsize=32)
def _card_mask(width: int, height: int, radius: int, alpha: int) -> Image.Image:
    """A rounded rectangle with smooth corners: drawn four times as large, then shrunk."""
    mask = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=alpha)
    return mask.resize((width, height), Image.Resampling.LANCZOS)


def paste_card(
    picture: Image.Image, x: int, y: int, width: int, height: int, color: Color, alpha: int, radius: int
) -> None:
    """Blends a rounded rectangle of one color into the picture."""
    picture.paste(color, (x, y, x + width, y + height), _card_mask(width, height, radius, alpha))
