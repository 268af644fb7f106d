"""approve=ask at the terminal: everything is shown, and only what was said counts."""

from __future__ import annotations

import io
import re
import sys

import pytest

from agents.candidate_record import Candidate
from agents.search_approval import ask_on_terminal
from configs.errors import UserError

LONG = "def reward(s):\n    return {'up': s.joint_position[:, 1].cos()" + " + s.time_s" * 20 + " + s.base_height}\n"
NEW = [
    Candidate("model-g1s0", "model", 1, 0, "", LONG),
    Candidate("model-g1s1", "model", 1, 1, "", "def reward(s):\n    return {'still': s.time_s}\n"),
]
BEST = Candidate("model-g0s0", "model", 0, 0, "", "def reward(s):\n    return {'up': s.time_s}\n")


def ask(monkeypatch, *lines: str, best: Candidate | None = BEST) -> set[str]:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    return ask_on_terminal("model-g1", NEW, best)


def test_long_lines_are_shown_to_their_end(monkeypatch, capsys):
    ask(monkeypatch, "y")
    shown = re.sub(r"\s", "", capsys.readouterr().out)
    assert shown.count("s.base_height}") == 2, "in the code and in the difference"
    assert "differencefrommodel-g0s0" in shown and "-return{'up':s.time_s}" in shown


def test_the_first_generation_has_nothing_to_differ_from(monkeypatch, capsys):
    ask(monkeypatch, "y", best=None)
    assert "difference" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lines", "approved"),
    [
        (["y"], {"model-g1s0", "model-g1s1"}),
        (["yes"], {"model-g1s0", "model-g1s1"}),
        (["n"], set()),
        (["model-g1s0"], {"model-g1s1"}),
        (["model-g1s1, model-g1s0"], set()),
        (["", "what", "model-g9s0", "y"], {"model-g1s0", "model-g1s1"}),
    ],
)
def test_what_is_said(monkeypatch, capsys, lines, approved):
    assert ask(monkeypatch, *lines) == approved
    assert capsys.readouterr().out.count("valid: y, n, q") == len(lines) - 1


@pytest.mark.parametrize(("lines", "message"), [(["q"], "nothing was approved"), ([], "standard input has ended")])
def test_nobody_says_yes(monkeypatch, lines, message):
    with pytest.raises(UserError, match=message):
        ask(monkeypatch, *lines)
