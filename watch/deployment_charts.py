"""The numbers behind a deployment's charts, thinned to what a screen can show."""

from __future__ import annotations

from typing import Any

import numpy as np

from watch import words
from watch.deployment import Array, Deployment, finite

POINTS = 1600
"""Of each curve."""
BINS = 48


def charts(d: Deployment) -> dict[str, Any]:
    """JSON-ready."""
    reading, target, command, done = (_every(len(t)) for t in (d.reading_s, d.target_s, d.command_s, d.done_s))
    held = np.where(d.stiff > 0, d.target, np.nan) if d.stiff.shape == d.target.shape else d.target
    return {
        "seconds": round(d.seconds, 3),
        "reading_s": finite(d.reading_s[reading]),
        "target_s": finite(d.target_s[target]),
        "command_s": finite(d.command_s[command]),
        "done_s": finite(d.done_s[done]),
        "joints": [
            {
                "name": name, "position": finite(d.position[reading, k]), "target": finite(held[target, k]),
                "limits": d.soft_limits[k],
            }
            for k, name in enumerate(d.joint_names)
        ],
        "commands": [
            {
                "name": c.name, "unit": words.readable_unit(c.unit), "asked": finite(c.asked[command]),
                "done": None if c.done is None else finite(c.done[done]),
            }
            for c in d.commands
        ],
        "measured_by": d.measured_by,
        "path": [finite(d.path_w[:: _stride(len(d.path_w)), k]) for k in range(2)],
        "timing": [_timed(name, d.timing_s, values) for name, values in d.timing.items()],
        "period_ms": None if d.control_dt_s is None else d.control_dt_s * 1e3,
        "states": [vars(s) for s in d.states],
        "doubts": [vars(s) for s in d.doubts[:400]],
        "events": [{"time_s": round(t, 3), "state": state, "text": said} for t, state, said in d.events],
    }  # fmt: skip


def _stride(count: int) -> int:
    return max(1, -(-count // POINTS))


def _every(count: int) -> slice:
    return slice(None, None, _stride(count))


def _timed(name: str, time_s: Array, values: Array) -> dict[str, Any]:
    """A course in which no peak is lost, a histogram, and percentiles."""
    known = values[np.isfinite(values)]
    counts, edges = np.histogram(known, bins=BINS)
    stride = _stride(len(values))
    padded = np.full(-(-len(values) // stride) * stride, np.nan)
    padded[: len(values)] = values
    blocks = padded.reshape(-1, stride)
    highest = np.where(np.isfinite(blocks), blocks, -np.inf).max(axis=1)
    peaks = np.where(np.isfinite(highest), highest, np.nan)
    p50, p99 = np.percentile(known, [50, 99]) if len(known) else (np.nan, np.nan)
    return {
        "name": name, "time_s": finite(time_s[::stride]), "course": finite(peaks),
        "middle": finite((edges[:-1] + edges[1:]) / 2), "width": float(f"{edges[1] - edges[0]:.4g}"),
        "counts": counts.tolist(), "p50": finite(np.array([p50]))[0], "p99": finite(np.array([p99]))[0],
        "max": finite(np.array([known.max() if len(known) else np.nan]))[0],
    }  # fmt: skip
