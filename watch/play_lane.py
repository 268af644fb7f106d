"""Where a robot is shown: its own world, turned and shifted so that each starts in its lane, facing away alike."""

from __future__ import annotations

import math

import numpy as np

LANE_M = 0.9
"""Between two robots that stand side by side."""


class Lane:
    """The rigid motion from a simulation's world to the scene: a turn about z, then a shift in the plane."""

    def __init__(self, index: int, count: int, floating: bool, width_m: float = LANE_M) -> None:
        self._home = np.array([0.0, ((count - 1) / 2 - index) * width_m, 0.0])
        self._floating = floating
        self.turn, self.shift = np.eye(3), self._home.copy()

    def place(self, position_w: np.ndarray, yaw: float, *, at: np.ndarray | None = None, heading: float = 0.0) -> None:
        """From now on the pose (position_w (3,), yaw) is shown at `at` (x, y, ...), by default in its lane."""
        if not self._floating:  # a rail stays where it is
            return
        angle = heading - yaw
        cosine, sine = math.cos(angle), math.sin(angle)
        self.turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        self.shift = (self._home if at is None else at) - self.turn @ position_w
        self.shift[2] = 0.0

    def points(self, position_w: np.ndarray) -> np.ndarray:
        """(..., 3) points of the simulation's world, in the scene."""
        shown: np.ndarray = position_w @ self.turn.T + self.shift
        return shown

    def rotations(self, matrix_w: np.ndarray) -> np.ndarray:
        """(..., 3, 3) orientations of the simulation's world, in the scene."""
        shown: np.ndarray = self.turn @ matrix_w
        return shown


def yaw_of(matrix: np.ndarray) -> float:
    """Heading of an orientation (3, 3): where its x axis points in the plane."""
    return math.atan2(matrix[1, 0], matrix[0, 0])
