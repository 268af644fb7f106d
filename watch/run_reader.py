"""A run folder as something to show, whatever state it is in: nothing here raises for what a run contains."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from watch import episodes, evaluation, files, progress, stages
from watch.episodes import EpisodeSet
from watch.evaluation import Evaluation
from watch.files import Missing, Unreadable
from watch.progress import Progress
from watch.stages import Stage
from watch.values import mapping, number, text, visible

FORMAT = 1
"""Of run.json, as this version writes it."""
SILENT_AFTER_S = 15 * 60.0
"""A run that says it is running but has written nothing for this long was killed."""
STATES = ("running", "finished", "stopped", "failed")
MAX_KEYS = 2000

T = TypeVar("T")


@dataclass(frozen=True)
class Problem:
    """A file that is missing or unusable, and what that means."""

    file: str
    reason: str
    missing: bool = False


@dataclass
class Run:
    """What could be read of one run folder. Every text is fit to be shown, every number finite."""

    path: Path
    state: str = "broken"
    """running, finished, stopped, failed; killed: said to be running but silent; broken: run.json unusable."""
    reason: str | None = None
    """Why the run is failed, stopped, killed or broken."""
    record: dict[str, Any] = field(default_factory=dict)
    """run.json as it is; read values through watch.values."""
    config: dict[str, str] = field(default_factory=dict)
    """The resolved configuration, flat: "ppo.gamma" to "0.97"."""
    config_source: str | None = None
    reward_source: str | None = None
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    progress: Progress = field(default_factory=Progress)
    evaluation: Evaluation = field(default_factory=Evaluation)
    episodes: list[EpisodeSet] = field(default_factory=list)
    """Single episodes of the evaluation; read for reports only."""
    video: Path | None = None
    stages: list[Stage] = field(default_factory=list)
    """Short films of the training while it learned."""
    problems: list[Problem] = field(default_factory=list)
    touched: float | None = None
    """When the newest of its files was written, seconds since the epoch."""

    @property
    def task(self) -> str:
        return text(self.record.get("task"), 80) or visible(self.path.parent.name)

    @property
    def name(self) -> str:
        return visible(self.path.name)

    @property
    def command(self) -> list[str]:
        argv = self.record.get("command")
        argv = argv if isinstance(argv, list) else [argv]
        return [line for part in argv[:200] if (line := text(part, 2000)) is not None]

    @property
    def overrides(self) -> list[str]:
        """The command's Hydra overrides, such as seed=1; the folder in which a search went on is no setting."""
        return [part for part in self.command[1:] if "=" in part and not part.startswith("resume=")]

    @property
    def created(self) -> datetime | None:
        try:
            return datetime.fromisoformat(self.record.get("created"))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None

    @property
    def seconds(self) -> float | None:
        """[s] of wall time that the training took, or has taken so far."""
        return number(self.record.get("seconds")) or self.progress.last("seconds")

    @property
    def env_steps(self) -> float | None:
        return number(self.record.get("env_steps")) or self.progress.last("env_steps")

    @property
    def reward_name(self) -> str | None:
        return self.config.get("reward")


def read_run(path: Path, *, points: int | None = None, now: float | None = None) -> Run:
    """Reads a run folder; what is wrong with it stands in the result, in `state`, `reason` and `problems`.

    Args:
        path: the folder.
        points: read about so many points of the learning curves and reward components only, which is faster.
        now: [s] since the epoch, to tell whether a running run has gone silent; by default the present.
    """
    run = Run(path=path)
    run.touched = max((t for name in _SIGNS_OF_LIFE if (t := _modified(path / name))), default=None)
    run.record = _try(run, "run.json", lambda name: files.read_json(path, name), {})
    nothing: tuple[dict[str, str], str | None] = ({}, None)
    run.config, run.config_source = _try(run, "config.yaml", lambda name: _config(path, name), nothing)
    run.reward_source = _try(run, "reward.py", lambda name: visible(files.read_text(path, name)), None)
    run.ranges = _try(run, "randomization.yaml", lambda name: _ranges(run, name), {})
    run.progress = _try(run, "progress.jsonl", lambda name: _progress(path, name, points), Progress())
    run.problems += [Problem("progress.jsonl", note) for note in run.progress.notes]
    run.evaluation = _try(
        run, "evaluation.json", lambda name: evaluation.parse(files.read_json(path, name)), Evaluation()
    )
    if points is None and os.path.lexists(path / "episodes.json"):
        run.episodes = _try(run, "episodes.json", lambda name: episodes.read(path, name), [])
    if os.path.lexists(path / stages.FILE):
        run.stages = _try(run, stages.FILE, lambda name: stages.read(path), [])
    run.video = _try(run, "video.mp4", lambda name: _video(path, name), None)
    run.state, run.reason = _state(run, time.time() if now is None else now)
    return run


_SIGNS_OF_LIFE = ("run.json", "progress.jsonl", "evaluation.json", "checkpoint.pt", "video.mp4", "config.yaml")


def find_runs(runs: Path) -> Iterator[Path]:
    """Every run folder at runs/TASK/NAME, newest name first within its task; `runs/sweeps` holds none."""
    for task in _folders(runs):
        if task.name != "sweeps":
            yield from sorted(_folders(task), key=lambda run: run.name, reverse=True)


def _folders(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(Path(e.path) for e in entries if e.is_dir() and not e.name.startswith("."))
    except OSError:
        return []


def _try(run: Run, name: str, read: Callable[[str], T], otherwise: T) -> T:
    try:
        return read(name)
    except Unreadable as problem:
        run.problems.append(Problem(name, visible(str(problem)), isinstance(problem, Missing)))
        return otherwise


def _state(run: Run, now: float) -> tuple[str, str | None]:
    broken = next((p for p in run.problems if p.file == "run.json"), None)
    if broken:
        hint = "; not a run, or made by an older version" if broken.missing else ""
        return "broken", f"run.json {broken.reason}{hint}"
    made = run.record.get("format")
    if made != FORMAT:
        return "broken", f"run.json has format {text(made) or 'none'}; this version of Gantry reads format {FORMAT}"
    state, error = run.record.get("state"), text(run.record.get("error"), 2000)
    if state not in STATES:
        return "broken", f"run.json gives the state {text(state) or 'none'}; valid: {', '.join(STATES)}"
    silent_s = now - run.touched if run.touched else 0.0
    if state == "running" and silent_s > SILENT_AFTER_S:
        return "killed", f"nothing written for {_ago(silent_s)}: killed, or its machine went down"
    return str(state), error


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'' if count == 1 else 's'}"
    return f"{int(seconds)} seconds"


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except (OSError, ValueError):
        return None


def _config(path: Path, name: str) -> tuple[dict[str, str], str | None]:
    content, source = files.read_yaml(path, name)
    return flat(content), visible(source)


def flat(content: dict[str, Any]) -> dict[str, str]:
    """Nested mappings as dotted keys, values as text; at most MAX_KEYS, so that YAML aliases cannot explode."""
    found: dict[str, str] = {}
    pending: list[tuple[str, Any]] = [("", content)]
    steps = 0
    while pending and len(found) < MAX_KEYS and steps < 10 * MAX_KEYS:
        prefix, value = pending.pop()
        steps += 1
        if isinstance(value, dict) and value:
            inner = [(f"{prefix}.{text(k)}" if prefix else text(k) or "", v) for k, v in list(value.items())[:MAX_KEYS]]
            pending += reversed(inner)
        else:
            found[prefix[:200]] = _leaf(value)
    return found


def _leaf(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list) and not any(isinstance(v, list | dict) for v in value[:20]):
        return "[" + ", ".join(_leaf(v) for v in value[:20]) + (", …]" if len(value) > 20 else "]")
    return text(value) or f"({type(value).__name__})"


def _ranges(run: Run, name: str) -> dict[str, tuple[float, float]]:
    content, _ = files.read_yaml(run.path, name)
    found = {}
    for term, value in list(mapping(content).items())[:200]:
        ends = [number(v) for v in value] if isinstance(value, list) and len(value) == 2 else []
        if len(ends) == 2 and ends[0] is not None and ends[1] is not None:
            found[term] = (ends[0], ends[1])
        else:
            run.problems.append(Problem(name, f"{term} is no range [low, high]"))
    return found


def _progress(path: Path, name: str, points: int | None) -> Progress:
    try:
        return progress.read(files.regular(path, name), points, progress.GROUPS if points is None else ("components",))
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from error


def _video(path: Path, name: str) -> Path:
    video = files.regular(path, name)
    files.check_mp4(video)
    return video
