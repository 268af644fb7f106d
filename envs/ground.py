"""The ground: flat, or a heightfield of smooth random bumps, and its height under any point."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RoughGround:
    """A heightfield of smooth random bumps."""

    half_size_m: float = 20.0
    """Half the edge length."""
    spacing_m: float = 0.1
    amplitude_m: float = 0.05
    smoothing_m: float = 0.2
    """Standard deviation of the Gaussian that smooths the noise."""
    seed: int = 0

    def heights_m(self) -> np.ndarray:
        """(rows along y, columns along x), from 0 to the amplitude."""
        count = round(2 * self.half_size_m / self.spacing_m) + 1
        noise = np.random.default_rng(self.seed).standard_normal((count, count))
        reach = np.arange(-6, 7) * self.spacing_m
        kernel = np.exp(-0.5 * (reach / self.smoothing_m) ** 2)
        for axis in (0, 1):
            noise = np.apply_along_axis(np.convolve, axis, noise, kernel, mode="same")
        noise -= noise.min()
        heights: np.ndarray = noise / noise.max() * self.amplitude_m
        return heights


class Ground:
    """Heights under points. `rough` None is flat ground at height 0."""

    def __init__(self, rough: RoughGround | None) -> None:
        self.rough = rough
        self._heights = None if rough is None else rough.heights_m().astype(np.float32)

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[m] at world coordinates x, y of any shape, by bilinear interpolation; a scalar 0 on flat ground."""
        if self.rough is None or self._heights is None:
            return np.zeros((), np.float32)
        h, half, spacing = self._heights, self.rough.half_size_m, self.rough.spacing_m
        u = np.clip((x + half) / spacing, 0, h.shape[1] - 1.001)
        v = np.clip((y + half) / spacing, 0, h.shape[0] - 1.001)
        i, j = v.astype(np.int64), u.astype(np.int64)
        a, b = (v - i).astype(np.float32), (u - j).astype(np.float32)
        low = h[i, j] * (1 - b) + h[i, j + 1] * b
        high = h[i + 1, j] * (1 - b) + h[i + 1, j + 1] * b
        height: np.ndarray = low * (1 - a) + high * a
        return height

    def spawn(self, u: np.ndarray) -> np.ndarray:
        """(K, 2) [m] start positions for uniform draws (K, 2): the origin, or spread over the middle of the field."""
        if self.rough is None:
            return np.zeros_like(u)
        return (2 * u - 1) * self.rough.half_size_m * 0.6
