"""The films of a training's stages: what is shown of them, and what is not."""

from __future__ import annotations

import json
import os

import pytest

from tests.watch import samples
from watch import report, stages
from watch.board import Board
from watch.files import Unreadable
from watch.report import write_report


def write_stages(run, count: int = 3) -> None:
    (run / "stages").mkdir()
    entries = []
    for k in range(count):
        name = f"stages/{1_000_000 * k + 8192:012d}.mp4"
        (run / name).write_bytes(samples.video())
        entries.append({"iteration": k, "env_steps": 1_000_000 * k + 8192, "video": name, "fitness": 0.1 + 0.3 * k,
                        "fall_rate": 0.5 - 0.2 * k, "episodes": 16, "episode_s": 4.0, "cost_s": 1.2, "repeat_s": 1.2,
                        "next_at": 0.5})  # fmt: skip
    (run / "stages.json").write_text(json.dumps(entries))


@pytest.fixture
def run(tmp_path):
    made = samples.write_run(tmp_path, iterations=5)
    write_stages(made)
    return made


def test_they_are_read_by_steps(run):
    content = json.loads((run / "stages.json").read_text())
    (run / "stages.json").write_text(json.dumps(content[::-1]))
    found = stages.read(run)
    assert [stage.env_steps for stage in found] == [8192, 1_008_192, 2_008_192]
    assert found[2].fitness == pytest.approx(0.7) and found[0].episodes == 16


@pytest.mark.parametrize(
    "video",
    ["../secret.mp4", "stages/../../secret.mp4", "stages/x.mp4", "/etc/passwd", "stages/link.mp4", "stages/1.mp4/", 7,
     None, "stages/000000000001.mp4", "stages/2.mp4"],
)  # fmt: skip
def test_no_other_file_is_a_stage(run, tmp_path, video):
    (tmp_path / "secret.mp4").write_bytes(samples.video())
    os.symlink(tmp_path / "secret.mp4", run / "stages" / "000000000001.mp4")
    (run / "stages" / "2.mp4").write_bytes(b"half a film")
    (run / "stages.json").write_text(json.dumps([{"env_steps": 5, "video": video}]))
    assert stages.read(run) == []


def test_a_damaged_list_is_said(run):
    (run / "stages.json").write_text("[")
    with pytest.raises(Unreadable, match="is no valid JSON"):
        stages.read(run)
    assert "stages.json</td>" in write_report(run).read_text()


def test_the_report_holds_them(run, monkeypatch):
    page = write_report(run).read_text()
    assert page.count('class="stage"') == 3
    assert page.count("data:video/mp4;base64,") == 4
    assert "fitness 0.70 · falls 10" in page
    monkeypatch.setattr(report, "INLINE_STAGES_LIMIT", 10)
    assert 'src="stages/000000008192.mp4"' in write_report(run).read_text()


def test_the_board_knows_them(run, tmp_path):
    board = Board(tmp_path)
    (row,) = board.catalog.rows.values()
    assert [(steps, fitness) for steps, fitness, _ in row["stages"]] == [
        (8192, 0.1),
        (1_008_192, 0.4),
        (2_008_192, 0.7),
    ]
    assert (tmp_path / row["stages"][0][2]).is_file()
    (run / "stages.json").write_text("[]")
    assert board.refresh() and next(iter(board.catalog.rows.values()))["stages"] == []


def test_their_cost_is_shown(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"film_seconds": 5.08}))
    assert "5.1\u202fs (2\u202f%)" in write_report(run).read_text()
