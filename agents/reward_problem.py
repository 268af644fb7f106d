"""What is wrong with reward code, in the form in which its author is told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import UserError


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with reward code, as a model is told."""

    line: int | None
    """Line in the extracted source, from 1, or None when it concerns the whole."""
    text: str
    """That line's text."""
    message: str
    """What was refused and what is allowed."""

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: `{self.text}`: "
        return place + self.message


class RewardCodeError(UserError):
    """Reward code that cannot be used. Its text is feedback for whoever wrote the code."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(None, "", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def as_data(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [{"line": problem.line, "text": problem.text, "message": problem.message} for problem in problems]


def bad_component_name(name: str) -> str:
    return (
        f"component name {name[:40]!r} is not allowed; use letters, digits, `_`, `-` and spaces, "
        "starting with a letter, at most 64"
    )
