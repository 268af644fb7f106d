"""The ledger: append-only, whole lines, each event once."""

from __future__ import annotations

import pytest

from agents.search_ledger import LEDGER, Ledger, read
from configs.errors import UserError


def test_events_come_back_in_order(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.add("checked", "a", ok=True)
    ledger.add("trained", "a/0", fitness={"mean": 0.5})
    again = Ledger(tmp_path)
    assert [(e["event"], e["key"]) for e in again] == [("checked", "a"), ("trained", "a/0")]
    assert again.get("trained", "a/0")["fitness"] == {"mean": 0.5}
    assert [e["key"] for e in again.all("checked")] == ["a"] and again.get("checked", "b") is None


def test_an_event_is_written_once(tmp_path):
    ledger = Ledger(tmp_path)
    first = ledger.add("checked", "a", ok=True)
    content = (tmp_path / LEDGER).read_bytes()
    assert Ledger(tmp_path).add("checked", "a", ok=False) == first
    assert (tmp_path / LEDGER).read_bytes() == content


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_line_that_a_kill_cut_short_is_skipped(tmp_path, cut):
    ledger = Ledger(tmp_path)
    ledger.add("checked", "a", ok=True)
    ledger.add("checked", "b", ok=True)
    path = tmp_path / LEDGER
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    survivors = 2 if cut == 1 else 1  # without its newline the line is still whole
    assert len(list(Ledger(tmp_path))) == survivors
    Ledger(tmp_path).add("checked", "c", ok=True)
    assert [e["key"] for e in Ledger(tmp_path)] == (["a", "b", "c"] if cut == 1 else ["a", "c"])
    assert path.read_bytes().startswith(whole[:-cut]), "nothing is ever taken away"


def test_numbers_that_are_not_json_are_refused(tmp_path):
    with pytest.raises(ValueError):
        Ledger(tmp_path).add("trained", "a/0", fitness=float("nan"))
    assert not (tmp_path / LEDGER).exists()


def test_lines_that_are_no_events_are_skipped(tmp_path):
    (tmp_path / LEDGER).write_text('{"event": "a", "key": "b"}\n[]\nnull\n{"event": 1, "key": "x"}\nrubbish\n')
    assert read(tmp_path / LEDGER) == [{"event": "a", "key": "b"}]
    assert read(tmp_path / "none") == []
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "folder")
