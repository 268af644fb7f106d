"""Charts that scroll: the reward's components, and joint targets against positions."""

from __future__ import annotations

from collections import deque

import numpy as np
import viser
import viser.uplot

from watch.play_robot import PlayedRobot, Sample
from watch.values import text

SHOWN_S = 8.0
MAX_COMPONENTS = 24
"""A reward may have more; a chart of more would not be read."""
COLORS = (
    "#0b8f86", "#e07b2e", "#5b7fe0", "#c2458f", "#8aa11f", "#9166d0", "#2a9bd8", "#a37552", "#d64545", "#3fae6a",
    "#b8860b", "#7a8794", "#d06fb0", "#4c6b8a",
)  # fmt: skip
_MUTED = "#8b97a3"


class History:
    """The last seconds of one robot's steps."""

    def __init__(self, dt: float) -> None:
        self._samples: deque[Sample] = deque(maxlen=round(SHOWN_S / dt))

    def add(self, sample: Sample) -> None:
        if self._samples and sample.time_s < self._samples[-1].time_s:  # it was reset
            self._samples.clear()
        self._samples.append(sample)

    def clear(self) -> None:
        self._samples.clear()

    @property
    def time_s(self) -> np.ndarray:
        return np.array([s.time_s for s in self._samples])

    def components(self, names: list[str]) -> list[np.ndarray]:
        return [np.array([s.components.get(name, np.nan) for s in self._samples]) for name in names]

    def joints(self, columns: list[int]) -> list[np.ndarray]:
        """Target and position of each of the joints, one after the other."""
        target = np.array([s.target for s in self._samples])
        position = np.array([s.position for s in self._samples])
        return [values[:, c] for c in columns for values in (target, position)]

    @property
    def names(self) -> list[str]:
        """The reward's components, in its own order."""
        return list(self._samples[-1].components)[:MAX_COMPONENTS] if self._samples else []


class Chart:
    """One uPlot chart, made anew when its series change."""

    def __init__(self, gui: viser.GuiApi, container: viser.GuiFolderHandle, title: str, height: int) -> None:
        self._gui, self._container, self._title, self._height = gui, container, title, height
        self._handle: viser.GuiUplotHandle | None = None
        self._labels: list[str] = []
        self._made = False

    def show(self, time_s: np.ndarray, labels: list[str], values: list[np.ndarray], dashed: bool = False) -> None:
        if len(time_s) < 2 or not labels:
            return
        data = (time_s, *values)
        if self._handle is not None and labels == self._labels:
            if not self._made:  # a page may not have it yet: data for what it does not know is an error there
                self._made = True
                return
            self._handle.data = tuple(np.asarray(d, dtype=np.float64) for d in data)
            return
        self._drop()
        self._labels = list(labels)
        with self._container:
            self._handle = self._gui.add_uplot(
                data, (viser.uplot.Series(label="s"), *self._series(labels, dashed)),
                title=self._title, height=self._height, legend=viser.uplot.Legend(show=True, live=False),
                scales={"x": viser.uplot.Scale(time=False)},
                axes=(self._axis(True), self._axis(False)), padding=(10, 12, 0, 0),
            )  # fmt: skip

    def _series(self, labels: list[str], dashed: bool) -> list[viser.uplot.Series]:
        made = []
        for k, label in enumerate(labels):
            color = COLORS[(k // 2 if dashed else k) % len(COLORS)]
            series = viser.uplot.Series(label=label, stroke=color, width=1.5)
            if dashed and k % 2 == 0:
                series["dash"] = (4.0, 3.0)
                series["width"] = 1.0
            made.append(series)
        return made

    @staticmethod
    def _axis(time: bool) -> viser.uplot.Axis:
        faint = "rgba(128,140,150,0.22)"
        return viser.uplot.Axis(
            stroke=_MUTED, grid={"stroke": faint, "width": 1}, ticks={"stroke": faint, "width": 1},
            size=26 if time else 44, font="11px sans-serif",
        )  # fmt: skip

    def clear(self) -> None:
        self._drop()

    def _drop(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self._labels, self._made = [], False


def joint_groups(robot: PlayedRobot) -> dict[str, list[int]]:
    """The driven joints by leg (the text before the first underscore), or all together where they are few."""
    names = robot.environment.robot.driven_joints
    if len(names) <= 3:
        return {"all joints": list(range(len(names)))}
    groups: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        groups.setdefault(name.split("_", 1)[0], []).append(i)
    return groups


def joint_labels(robot: PlayedRobot, columns: list[int]) -> list[str]:
    names = [robot.environment.robot.driven_joints[c] for c in columns]
    short = [n.split("_", 1)[-1].removesuffix("_joint").replace("_", " ") for n in names]
    return [f"{name}{what}" for name in short for what in (" target", "")]


def component_labels(names: list[str]) -> list[str]:
    return [(text(n, 40) or "?").replace("_", " ") for n in names]
