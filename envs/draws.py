"""Random numbers by counter: the same key gives the same number, whatever the batch size, order or thread count.

A key is (seed, name of the draw, simulation, episode, count). The mixing functions are splitmix64's finalizer
(Steele, Lea and Flood 2014, variant 13) for rows and the 32-bit `lowbias32` finalizer (Wellons 2018) for the
many numbers of per-step noise.
"""

import zlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix64(x: np.ndarray) -> np.ndarray:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def stream(seed: int, name: str) -> np.uint64:
    """The 64-bit key of everything that is drawn under one name in one run."""
    with np.errstate(over="ignore"):
        start = np.array([seed & 0xFFFFFFFFFFFFFFFF], dtype=np.uint64) * _GOLDEN
        return _mix64(_mix64(start) + np.uint64(zlib.crc32(name.encode())) * _GOLDEN)[0]


def row_keys(key: np.uint64, *counters: np.ndarray) -> np.ndarray:
    """(K,) 64-bit keys, one for each row of the integer counters (K,), e.g. simulation, episode."""
    rows = np.broadcast_to(key, np.shape(counters[0]))
    with np.errstate(over="ignore"):
        for counter in counters:
            rows = _mix64(rows + (counter.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return rows


def element_keys(name: str, size: int) -> np.ndarray:
    """(size,) 64-bit keys of the elements of a named draw, for `uniform_elements`."""
    with np.errstate(over="ignore"):
        return _mix64(
            (np.arange(size, dtype=np.uint64) + np.uint64(1)) * _GOLDEN ^ np.uint64(zlib.crc32(name.encode()))
        )


def uniform_elements(key: np.uint64, elements: np.ndarray, *counters: np.ndarray) -> np.ndarray:
    """(K, len(elements)) float64 in [0, 1): several named draws at once, each independent of which others are made."""
    with np.errstate(over="ignore"):
        bits = _mix64(row_keys(key, *counters)[:, None] + elements)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def uniform(key: np.uint64, *counters: np.ndarray, size: int = 1) -> np.ndarray:
    """(K, size) float64 in [0, 1) for K rows of counters."""
    return uniform_elements(key, (np.arange(size, dtype=np.uint64) + np.uint64(1)) * _GOLDEN, *counters)


class StepNoise:
    """Uniform noise (N, size) in [0, 1) for every step, keyed by (seed, simulation, episode, step); reuses buffers."""

    def __init__(self, seed: int, num_sims: int, size: int) -> None:
        self._key = stream(seed, "step-noise")
        self._sims = np.arange(num_sims)
        pairs = -(-size // 2)  # each 32-bit hash gives two numbers of 16 bits
        self._elements = _mix64((np.arange(pairs, dtype=np.uint64) + np.uint64(1)) * _GOLDEN).astype(np.uint32)
        self._bits = np.empty((num_sims, pairs), dtype=np.uint32)
        self._shifted = np.empty_like(self._bits)
        self._size = size
        self._out = np.empty((num_sims, size), dtype=np.float32)

    def __call__(self, episode: np.ndarray, step: np.ndarray, ids: np.ndarray | None = None) -> np.ndarray:
        """(N, size) float32 of that step of those episodes, or (K, size) of simulations ids (K,).

        A view of a buffer that the next call reuses. episode and step are those of the simulations asked for.
        """
        sims = self._sims if ids is None else ids
        rows = row_keys(self._key, sims, episode, step).astype(np.uint32)
        x, t, out = self._bits[: len(sims)], self._shifted[: len(sims)], self._out[: len(sims)]
        np.bitwise_xor(rows[:, None], self._elements, out=x)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            np.right_shift(x, np.uint32(shift), out=t)
            np.bitwise_xor(x, t, out=x)
            np.multiply(x, np.uint32(factor), out=x)
        np.right_shift(x, np.uint32(16), out=t)
        np.bitwise_xor(x, t, out=x)
        np.multiply(x.view(np.uint16)[:, : self._size], np.float32(2.0**-16), out=out)
        return out
