"""Data that comes back from where a candidate's code ran: taken as what it may be at worst, made plain.

Texts lose what could not be written or shown, numbers what is not finite, and files are opened without following links.
"""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path
from typing import Any

import torch

from agents import checkpoint, run_folder
from agents.candidate_training import POLICY
from agents.confinement import ConfinementError, Outcome, open_plain_file, read_tensors

_MAX_LOG_BYTES = 64 * 2**20
_MAX_SOURCE = 100_000
_UNFIT = re.compile(r"[^\n\t\x20-\x7e\xa0-\ud7ff\ue000-\U0010ffff]")


def take_back(folder: Path) -> None:
    """What the child left in `train/` as a run's own files: the policy's weights as a checkpoint, and the log.

    The checkpoint holds no optimizer and no simulation: it serves evaluation, video and export. The training is
    continued by the child, from its own.

    Raises:
        ConfinementError: a file is missing or no plain data.
    """
    tensors = read_tensors(folder / "train", POLICY)
    content = {
        "format": run_folder.FORMAT, "policy": tensors, "optimizer": {}, "environment": {}, "learner": {},
        "torch_random": torch.zeros(0, dtype=torch.uint8), "extra": "{}",
    }  # fmt: skip
    buffer = io.BytesIO()
    torch.save(content, buffer)
    run_folder.write_atomically(folder / checkpoint.CHECKPOINT, buffer.getvalue())
    lines = []
    with open(open_plain_file(folder / "train", "progress.jsonl", _MAX_LOG_BYTES), "rb") as file:
        for line in file:
            try:
                lines.append(json.dumps(plain(json.loads(line))))
            except (ValueError, RecursionError):
                raise ConfinementError(f"progress.jsonl in {folder / 'train'} is not JSON") from None
    run_folder.write_atomically(folder / "progress.jsonl", "".join(f"{line}\n" for line in lines))


def steps_so_far(folder: Path) -> int:
    """How far a training came that did not finish, by its own log."""
    try:
        with open(open_plain_file(folder / "train", "progress.jsonl", _MAX_LOG_BYTES), "rb") as file:
            lines = [line for line in file if line.endswith(b"\n")]
        return int(number(json.loads(lines[-1])["env_steps"]) or 0)
    except (ConfinementError, OSError, ValueError, RecursionError, LookupError, TypeError):
        return 0


def is_source(source: Any) -> bool:
    return isinstance(source, str) and len(source) <= _MAX_SOURCE and not _UNFIT.search(source)


def problem_line(problem: Any) -> str:
    """One line of feedback from a problem as agents.reward_code reports it."""
    if not isinstance(problem, dict):
        return _text(problem, 1000)
    line, text, message = problem.get("line"), problem.get("text", ""), problem.get("message", "")
    place = f"line {line % 10**6}: `{_text(text, 200)}`: " if isinstance(line, int) else ""
    return place + _text(message, 1000)


_REWARD_LINE = re.compile(r'File "<reward>", line (\d+)')


def useful_lines(outcome: Outcome) -> str:
    """Why a child did not finish, for the author of the code: the reward's own lines of a traceback, and the error."""
    if outcome.error is None:
        return _text(outcome.reason, 1000)
    lines = outcome.error["traceback"].splitlines()
    kept = []
    for index, line in enumerate(lines):
        match = _REWARD_LINE.search(line)
        if match:
            code = lines[index + 1].strip() if index + 1 < len(lines) else ""
            kept.append(f"line {match[1]}: `{code}`")
    last = f"{outcome.error['type']}: {outcome.error['message']}".split("\nException raised from")[0]
    if outcome.error["type"] in ("UserError", "RewardCodeError"):
        last = outcome.error["message"]
    return "\n".join(_text(line, 1000) for line in [*kept[-3:], last])


def number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value) if math.isfinite(value) else None


def _text(value: Any, limit: int) -> str:
    """Fit to be written, sent and shown: no control characters, no halves of characters."""
    return _UNFIT.sub("?", str(value)[:limit])


def plain(value: Any, depth: int = 0) -> Any:
    """Data from where untrusted code ran, with nothing but finite numbers, short texts, lists and dicts left."""
    if isinstance(value, dict) and depth < 8:
        return {_text(key, 80): plain(inner, depth + 1) for key, inner in list(value.items())[:200]}
    if isinstance(value, list) and depth < 8:
        return [plain(inner, depth + 1) for inner in value[:200]]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53:
        return value
    if isinstance(value, str):
        return _text(value, 200)
    return value if value is None or isinstance(value, bool) else number(value)
