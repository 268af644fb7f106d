"""stages.json: short films of a training at several of its moments, with the fitness measured then."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watch import files
from watch.files import Unreadable
from watch.values import mapping, number

FILE, FOLDER = "stages.json", "stages"
MAX_STAGES = 40
NAME = re.compile(r"\d{1,15}\.mp4")
"""Of a stage's video; any other is not shown."""


@dataclass(frozen=True)
class Stage:
    """One moment of a training."""

    env_steps: float
    fitness: float | None
    fall_rate: float | None
    episodes: int | None
    episode_s: float | None
    video: str
    """Relative to the run's folder."""


def read(run: Path) -> list[Stage]:
    """The stages whose video is there, by steps. Raises Unreadable."""
    source = files.read_text(run, FILE)
    try:
        content = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise Unreadable("is no valid JSON; was its writing interrupted?") from error
    found: dict[float, Stage] = {}
    for raw in content[:MAX_STAGES] if isinstance(content, list) else ():
        stage = _stage(run, mapping(raw))
        if stage is not None:
            found[stage.env_steps] = stage
    return [found[steps] for steps in sorted(found)]


def _stage(run: Path, entry: dict[str, Any]) -> Stage | None:
    steps, video = number(entry.get("env_steps")), entry.get("video")
    folder, _, name = video.partition("/") if isinstance(video, str) else ("", "", "")
    if steps is None or folder != FOLDER or not NAME.fullmatch(name):
        return None
    try:
        files.check_mp4(files.regular(run, f"{FOLDER}/{name}"))
    except Unreadable:
        return None
    episodes = number(entry.get("episodes"))
    return Stage(
        env_steps=steps,
        fitness=number(entry.get("fitness")),
        fall_rate=number(entry.get("fall_rate")),
        episodes=None if episodes is None else int(episodes),
        episode_s=number(entry.get("episode_s")),
        video=f"{FOLDER}/{name}",
    )
