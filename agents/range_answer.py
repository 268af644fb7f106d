"""Ranges in a model's answer, read as data: names and numbers by pattern, words as comments, nothing executed.

No YAML of the answer's is ever loaded: patterns find `name: [low, high]` and its relatives (JSON, parentheses, block
lists), so tags, aliases and whatever else stands there is only text. What comes out is YAML of ours that training
takes, with the model's reasons as comments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import yaml

from configs.errors import UserError
from envs.randomization import TERMS, validate

MOST_CHARACTERS = 100_000
MOST_REASON, MOST_NOTE_LINES = 300, 40
WIDTH = 118

_NUMBER = r"[-+−–]?(?:\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})(?:[eE][-+]?\d{1,3})?"
_NAME = r"""["'`*]{0,3}(?P<name>[a-z][a-z_]{1,40})["'`*]{0,3}"""
_RANGE = rf"(?P<low>{_NUMBER})[ \t]*(?:,|;|\bto\b)[ \t]*(?P<high>{_NUMBER})"
_INLINE = re.compile(
    rf"^[ \t]*[-*{{]?[ \t]*{_NAME}[ \t]*[:=][ \t]*[\[(][ \t]*{_RANGE}[ \t]*[\])][ \t]*[,}}]?[ \t]*"
    r"(?:(?:\#|//)(?P<why>.*))?$"
)
_NEXT_IN_LINE = re.compile(r"(?<=[\])]),(?=[ \t]*[\"'a-z])")
"""Where a further range begins on the same line, as in JSON."""
_OPENS = re.compile(rf"^[ \t]*{_NAME}[ \t]*:[ \t]*(?:(?:\#|//)(?P<why>.*))?$")
_ITEM = re.compile(rf"^[ \t]*-[ \t]*(?P<number>{_NUMBER})[ \t]*(?:(?:\#|//)(?P<why>.*))?$")
_COMMENT = re.compile(r"^[ \t]*(?:\#|//)(?P<why>.*)$")
_FENCE = re.compile(r"^[ \t>]*(`{3,}|~{3,})")
_UNFIT = re.compile(r"[^\x20-\x7e\xa0-\u2027\u202f-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class RangeAnswer:
    """What an answer comes to."""

    ranges: dict[str, tuple[float, float]]
    """Within the bounds that were offered; empty where nothing could be used."""
    reasons: dict[str, str] = field(default_factory=dict)
    note: tuple[str, ...] = ()
    """The words around the ranges, a line each."""
    problems: tuple[str, ...] = ()
    """What was left out or changed, and why."""


def read_answer(text: str, offered: Mapping[str, tuple[float, float] | None]) -> RangeAnswer:
    """The ranges of an answer. Never raises: what is of no use stands among the problems.

    Args:
        text: the answer as it came.
        offered: the parameters that may be randomized, and the bounds that were told, or None for none.
    """
    lines = _NEXT_IN_LINE.sub("\n", text[:MOST_CHARACTERS]).splitlines()
    block, around = _last_block_with_ranges(lines)
    ranges: dict[str, tuple[float, float]] = {}
    reasons: dict[str, str] = {}
    problems: list[str] = []
    for name, low, high, why in _entries(block):
        problem = _problem(name, low, high, offered)
        if problem:
            problems.append(problem)
            continue
        bounds = offered[name] or TERMS[name].bounds
        kept = (min(max(low, bounds[0]), bounds[1]), min(max(high, bounds[0]), bounds[1]))
        if kept != (low, high):
            problems.append(f"{name}: [{low:g}, {high:g}] was cut to the bounds {bounds[0]:.4g} to {bounds[1]:.4g}")
        ranges[name] = kept
        if why:
            reasons[name] = why
    if not ranges and not problems:
        problems.append("no line of the form NAME: [low, high] was found")
    note = tuple(_clean(line, WIDTH) for line in around if line.strip())[:MOST_NOTE_LINES]
    return RangeAnswer(ranges, reasons, note, tuple(problems))


def _problem(name: str, low: float, high: float, offered: Mapping[str, object]) -> str | None:
    if name not in offered:
        return f"{_clean(name, 60)} is no parameter on offer; left out"
    if low > high:
        return f"{name}: [{low:g}, {high:g}] is the wrong way round; left out"
    return None


def _last_block_with_ranges(lines: list[str]) -> tuple[list[str], list[str]]:
    """(the lines of the last code block that holds ranges, or all of them; the others)."""
    blocks: list[tuple[int, int]] = []
    start: int | None = None
    for index, line in enumerate(lines):
        if _FENCE.match(line):
            if start is None:
                start = index + 1
            else:
                blocks.append((start, index))
                start = None
    if start is not None:  # an answer that was cut off
        blocks.append((start, len(lines)))
    for first, last in reversed(blocks):
        if _entries(lines[first:last]):
            rest = lines[: first - 1] + lines[last + 1 :]
            return lines[first:last], rest
    entries = {index for index, line in enumerate(lines) if _INLINE.match(line)}
    return lines, [line for index, line in enumerate(lines) if index not in entries and not _FENCE.match(line)]


def _entries(lines: list[str]) -> list[tuple[str, float, float, str]]:
    """(name, low, high, reason) of every range; a name's last mention counts, in the place of its first."""
    found: dict[str, tuple[str, float, float, str]] = {}
    above = ""  # a comment on lines of its own, before the range that it is about
    index = 0
    while index < len(lines):
        line, used = lines[index], 1
        match = _INLINE.match(line)
        numbers = (match["low"], match["high"]) if match else None
        why = (match["why"] or "") if match else ""
        if match is None and (match := _OPENS.match(line)):
            items = [_ITEM.match(item) for item in lines[index + 1 : index + 3]]
            if len(items) == 2 and items[0] and items[1]:
                numbers, used = (items[0]["number"], items[1]["number"]), 3
                why = " ".join(part for m in (match, *items) if m and (part := (m["why"] or "").strip()))
        if numbers and match:
            reason = " ".join(part for part in (above, why.strip()) if part)
            low, high = (float(n.replace("−", "-").replace("–", "-")) for n in numbers)
            found[match["name"]] = (match["name"], low, high, _clean(reason, MOST_REASON))
            above = ""
        elif comment := _COMMENT.match(line):
            above = f"{above} {comment['why'].strip()}".strip()[: 2 * MOST_REASON]
        else:
            above = ""
        index += used
    return list(found.values())


def _clean(text: str, limit: int) -> str:
    """One line, fit to stand in a comment: no control characters, no line breaks of any script."""
    line = " ".join(_UNFIT.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def as_yaml(ranges: Mapping[str, tuple[float, float]], reasons: Mapping[str, str], header: tuple[str, ...]) -> str:
    """The ranges as a file for `randomization=FILE`, with comments.

    Raises:
        UserError: ranges that training would refuse.
    """
    checked = validate(ranges)
    lines = [f"# {_clean(line, WIDTH)}" for line in header]
    for name, (low, high) in checked.items():
        why = _clean(reasons.get(name, ""), MOST_REASON)
        span = yaml.safe_dump([low, high], default_flow_style=True).strip()  # 5e-08 would be a text in YAML
        lines.append(f"{name}: {span}" + (f"  # {why}" if why else ""))
    if not checked:
        lines.append("{}  # nothing is randomized")
    text = "\n".join(lines) + "\n"
    if validate(yaml.safe_load(text)) != checked:
        raise UserError("these ranges do not survive being written: " + ", ".join(checked))
    return text
