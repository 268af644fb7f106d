"""Pages of transfers and designs, whatever state they are in and whatever a model wrote into them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agents.search_ledger import Ledger
from configs.errors import UserError
from watch.prior import read as read_prior
from watch.transfer_reader import read_design, read_transfer
from watch.transfer_report import is_transfer, write_transfer_report

HOSTILE = "</script><script>alert(1)</script>{{ 7*7 }} \u202e %{x}"
ID = "2026-11-22_10-00-00-transfer"


def prior(**term: Any) -> dict[str, Any]:
    values = [{"value": v, "successes": s, "episodes": 10, "share": s / 10, "low": 0.0, "high": 1.0}
              for v, s in ((0.1, 0), (0.5, 7), (1.0, 10), (3.0, 9))]  # fmt: skip
    full = {"unit": "", "meaning": "sliding friction", "neutral": 1.0, "range": [0.4, 3.0], "limited": [True, False],
            "symmetric": False, "values": values}  # fmt: skip
    return {"format": 1, "fitness_threshold": 0.7, "needed_share": 0.5, "episodes": 10, "episode_s": 10.0,
            "digest": "abc", "terms": {"friction": full | term}}  # fmt: skip


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A finished transfer as its parts write it."""
    sweeps = tmp_path / "runs" / "sweeps"
    transfer, design = sweeps / ID, sweeps / f"2026-11-22_11-00-00-{ID}-ranges"
    transfer.mkdir(parents=True)
    design.mkdir()
    own = Ledger(transfer, "transfer.jsonl")
    own.add("transfer", "transfer", task="go2-dash", id=ID, safety_instruction=True)
    own.add("stage", "search", content={"folder": "s", "candidate": "model-g0s1", "fitness": 0.8, "replayed": True})
    own.add("stage", "ranges", content={"folder": design.name, "proposal": "designed-s0", "mean": 0.75})
    ledger = Ledger(design, "randomize.jsonl")
    ledger.add("randomize", "randomize", task="go2-dash", safety_instruction=True)
    ledger.add("base", "0", run="base-run", seed=0)
    for name, arm, why in (("designed-s0", "designed", "tiles to rubber"), ("designed-s1", "designed", HOSTILE)):
        ledger.add("proposal", name, arm=arm, sample=0, usable=True, ranges={"friction": [0.4, 1.2]},
                   reasons={"friction": why}, note=["Proposed.", why], problems=[], model="m")  # fmt: skip
        ledger.add("tuned", name, arm=arm, ok=True, fitness=interval(0.7), fall_rate=0.1)
    ledger.add("proposal", "none", arm="none", sample=0, usable=True, ranges={}, reasons={}, note=[], problems=[])
    ledger.add("chosen", "designed", proposal="designed-s0", select={})
    row = {"proposal": "designed-s0", **interval(0.75), "select": [0.7, 0.8], "fall_rate": 0.05,
           "measures": {"forward_velocity": {"mean": 1.8, "unit": "m/s"}}, "replayed": False}  # fmt: skip
    table = {"seeds": [1, 2, 3], "best_run": "go2-dash/none",
             "arms": {"designed": row, "none": row | {"proposal": "none"}},
             "differences": {"none": {**interval(0.1), "better": "designed"}}}  # fmt: skip
    (design / "table.json").write_text(json.dumps(table))
    (design / "physics_prior.json").write_text(json.dumps(prior(meaning=HOSTILE)))
    (transfer / "tours.json").write_text(json.dumps({"tours": [
        {"robot": "simulated robot over DDS", "physics": "report", "seed": 90000, "ok": False, "falls": 1,
         "distance_m": 3.2, "missed_deadlines": 0, "damped_for": [HOSTILE]}]}))  # fmt: skip
    (transfer / "reward.py").write_text("def reward(s):\n    return {'a': s.time_s}  # " + HOSTILE)
    return transfer


def test_the_page_of_a_transfer(folder):
    assert is_transfer(folder)
    page = write_transfer_report(folder).read_text()
    assert "Fitness 0.75 on report physics with ranges “designed-s0”" in page
    assert "Better than “none”." in page and "0 of 1 tours done." in page
    for text in (
        "model-g0s1, fitness 0.80 on report physics, replayed",
        "tiles to rubber",
        "forward velocity",
        "prior-charts",
    ):
        assert text in page
    assert "<script>alert" not in page and "49" not in page.partition("Proposed ranges")[2].partition("Tours")[0]
    assert "\u202e" not in page


def test_the_page_of_a_design_alone(folder):
    [design] = folder.parent.glob("*-ranges")
    page = write_transfer_report(design).read_text()
    assert "Ways to come by ranges" in page and 'id="stages"' not in page


def test_what_is_read(folder):
    transfer = read_transfer(folder)
    assert list(transfer.stages) == ["search", "ranges"] and transfer.tours[0]["ok"] is False
    [path] = folder.parent.glob("*-ranges")
    design = read_design(path)
    assert [p.name for p in design.proposals if p.chosen] == ["designed-s0"]
    assert design.proposals[0].ranges == [("friction", 0.4, 1.2, "tiles to rubber")]
    assert [row["arm"] for row in design.arms] == ["designed", "none"] and design.seeds == 3


def test_an_unfinished_transfer(folder):
    [design] = folder.parent.glob("*-ranges")
    (design / "table.json").unlink()
    (design / "physics_prior.json").write_text("{")
    (folder / "transfer.jsonl").write_text((folder / "transfer.jsonl").read_text().splitlines()[0] + '\n{"event": "sta')
    page = write_transfer_report(folder).read_text()
    assert "Not finished yet" in page and "2 of 3 proposals trained" in page and "to come" in page
    assert "prior-charts" not in page


@pytest.mark.parametrize(
    "content", ["[]", '{"terms": 3}', '{"terms": {"kp": null}}', '{"terms": {"kp": {"values": [1]}}}']
)
def test_a_damaged_prior_is_left_out(tmp_path, content):
    (tmp_path / "physics_prior.json").write_text(content)
    assert read_prior(tmp_path) is None


def test_the_prior_is_read(tmp_path):
    (tmp_path / "physics_prior.json").write_text(json.dumps(prior()))
    [term] = read_prior(tmp_path)["terms"]
    assert term["range"] == [0.4, 3.0] and term["limited"] == [True, False]
    assert term["points"][1] == [0.5, 0.7, 0.0, 1.0]


def test_another_folder_is_named(tmp_path):
    assert not is_transfer(tmp_path)
    with pytest.raises(UserError, match="no transfer and no design"):
        write_transfer_report(tmp_path)
