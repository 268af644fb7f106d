"""The board as data, as a file, and as a server."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from configs.errors import UserError
from tests.watch import samples
from tests.watch.test_report import hostile, without_plotly
from watch import board as board_module
from watch.board import Board
from watch.catalog import Catalog
from watch.server import BoardServer, serving

ROOT = Path(__file__).resolve().parents[2]


def embedded(html: str, name: str) -> dict:
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', html, re.S)[1])


def edit(run, **values):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | values))
    os.utime(run / "run.json", ns=(1, hash(str(values)) % 10**15))  # a change within one tick of the clock


@pytest.fixture
def runs(tmp_path):
    samples.write_run(tmp_path, "2026-11-20_10-00-00-a", iterations=20, seed=1)
    samples.write_run(
        tmp_path, "2026-11-21_10-00-00-b", iterations=20, seed=2, reward="r.py", reward_source="def reward(s): ..."
    )
    samples.write_run(tmp_path, "2026-11-19_10-00-00-c", iterations=20, task="go1-walk")
    return tmp_path


def test_rows_hold_what_the_table_shows(runs):
    edit(runs / "go2-walk/2026-11-20_10-00-00-a", model_cost_usd=0.42)
    catalog = Catalog(runs)
    catalog.refresh()
    assert [row["name"][-1] for row in catalog.data()["rows"]] == ["b", "a", "c"]  # newest first
    row = catalog.rows["go2-walk/2026-11-20_10-00-00-a"]
    assert row == {
        "id": "go2-walk/2026-11-20_10-00-00-a", "task": "go2-walk", "name": "2026-11-20_10-00-00-a",
        "state": "finished",
        "reason": None, "reward": "human", "ranges": "task (9)", "overrides": "seed=1 ppo.learning_rate=0.001",
        "fitness": 0.8, "low": 0.791, "high": 0.809, "judged": "randomized", "falls": 1.4, "minutes": 4.237,
        "steps": 4_000_000.0, "cost": 0.42,
        "stages": [], "video": "go2-walk/2026-11-20_10-00-00-a/video.mp4", "report": None,
    }  # fmt: skip


def test_details_restore_each_configuration(runs):
    catalog = Catalog(runs)
    catalog.refresh()
    details = catalog.data()["details"]
    for key, entry in details["runs"].items():
        whole = {**details["base"][catalog.rows[key]["task"]], **entry["config"]}
        assert {k: v for k, v in whole.items() if v is not None} == catalog.details[key]["config"]
    assert set(details["rewards"].values()) >= {"def reward(s): ..."}
    b = details["runs"]["go2-walk/2026-11-21_10-00-00-b"]
    assert details["rewards"][b["reward"]] == "def reward(s): ..."
    assert len(b["curves"]["fitness"]) == len(b["curves"]["env_steps"]) == 20


def test_only_what_has_changed_is_read_again(runs, monkeypatch):
    catalog = Catalog(runs)
    assert len(catalog.refresh()) == 3
    read = []
    original = sys.modules["watch.catalog"].read_run
    monkeypatch.setattr("watch.catalog.read_run", lambda path, **kw: read.append(path.name) or original(path, **kw))
    assert catalog.refresh() == set()
    assert read == []
    edit(runs / "go2-walk/2026-11-20_10-00-00-a", state="stopped")
    assert catalog.refresh() == {"go2-walk/2026-11-20_10-00-00-a"}
    assert read == ["2026-11-20_10-00-00-a"]
    os.rename(runs / "go1-walk", runs / ".gone")
    assert catalog.refresh() == {"go1-walk/2026-11-19_10-00-00-c"}
    assert len(catalog.rows) == 2


def test_a_page_with_broken_runs(runs):
    (runs / "go2-walk/2026-11-22_00-00-00-empty").mkdir()
    (runs / "go2-walk/2026-11-20_10-00-00-a/run.json").write_text("{")
    rows = {row["name"]: row for row in embedded(Board(runs).write().read_text(), "rows")["rows"]}
    assert rows["2026-11-22_00-00-00-empty"]["reason"].startswith("run.json is missing")
    assert rows["2026-11-20_10-00-00-a"]["reason"].startswith("run.json is no valid JSON")
    assert rows["2026-11-20_10-00-00-a"]["fitness"] == 0.8


def test_folder_names_of_any_bytes(tmp_path):
    run = samples.write_run(tmp_path, "#?%20 \udcff\u202e", iterations=3)
    row = next(iter(embedded(Board(tmp_path).write().read_text(), "rows")["rows"]))
    assert row["video"] == "go2-walk/%23%3F%2520%20%FF%E2%80%AE/video.mp4"
    assert row["name"] == "#?%20 <U+DCFF><U+202E>"
    assert run.is_dir()


def test_nothing_of_a_run_leaves_its_place(tmp_path):
    hostile(tmp_path)
    own = without_plotly(Board(tmp_path).write().read_text())
    nonce = re.search(r"'nonce-([\w-]+)'", own)[1]
    for script in re.findall(r"<script[^>]*>", own):
        assert f'nonce="{nonce}"' in script or 'type="application/json"' in script or 'type="text/plain"' in script
    assert own.count("<script") == own.count("</script>")
    assert not re.search(r"<(img|svg onload|b>bold)", own)
    assert "</script>" in embedded(own, "rows")["rows"][0]["reason"]


def test_an_empty_folder_and_none(tmp_path):
    assert embedded(Board(tmp_path).write().read_text(), "rows")["rows"] == []
    with pytest.raises(UserError, match="is no folder; give the folder of the runs"):
        Board(tmp_path / "nowhere")


def test_watching_writes_what_changes_and_cleans_up(runs):
    board = Board(runs)
    live, seen = runs / board.live_name, []

    def meanwhile(seconds: float) -> None:
        seen.append(live.read_text())
        edit(runs / "go2-walk/2026-11-20_10-00-00-a", state="stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(board_module.time, "sleep", meanwhile)
        board.watch(rounds=2)
    assert embedded((runs / "board.html").read_text(), "rows")["settings"]["live"] is None
    assert not live.exists()
    first, second = (json.loads(re.fullmatch(r"gantryBoard\.update\((.*)\);\n", text)[1]) for text in seen)
    assert first["details"]["runs"] == {}
    assert list(second["details"]["runs"]) == ["go2-walk/2026-11-20_10-00-00-a"]
    assert {row["state"] for row in second["rows"]} == {"finished", "stopped"}


def test_the_command(runs, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gantry board", str(runs)])
    board_module.main()
    assert capsys.readouterr().out.strip() == str(runs / "board.html")
    monkeypatch.setattr(sys, "argv", ["gantry board", str(runs), "--port", "70000"])
    with pytest.raises(UserError, match="--port 70000 is no port; valid: 0 to 65535"):
        board_module.main()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_watching_cleans_up_when_it_is_stopped(runs, stop):
    command = [sys.executable, "-m", "watch.board", str(runs), "--watch"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while not list(runs.glob(".board-*.js")) and time.monotonic() < end:
            time.sleep(0.05)
        assert embedded((runs / "board.html").read_text(), "rows")["settings"]["live"]
        process.send_signal(stop)
        out, error = process.communicate(timeout=60)
    assert "kept up to date" in out and error == "" and process.returncode == 0
    assert not list(runs.glob(".board-*.js"))
    assert embedded((runs / "board.html").read_text(), "rows")["settings"]["live"] is None


# --- the server ----------------------------------------------------------------------------------------------


@pytest.fixture
def server(runs):
    with serving(Board(runs)) as running:
        yield running


def get(server, path, **headers):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=60)
    connection.putrequest("GET", path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


A = "/go2-walk/2026-11-20_10-00-00-a"


def test_it_serves_this_machine_only(server):
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/")[0].status == 200
    assert get(server, "/", Host="localhost:1")[0].status == 200
    assert get(server, "/", Host="attacker.example")[0].status == 403


def test_it_serves_the_page_its_changes_and_reports_made_on_demand(server, runs):
    page = get(server, "/")[1].decode()
    settings = embedded(page, "rows")["settings"]
    assert settings["served"] is True
    response, body = get(server, "/" + settings["live"])
    assert response.headers["Content-Type"].startswith("text/javascript")
    assert body.startswith(b"gantryBoard.update(")
    response, body = get(server, f"{A}/report.html")
    assert response.status == 200
    assert b"Fitness 0.80 on randomized physics" in body
    assert not (runs / A[1:] / "report.html").exists()


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [(None, 200, slice(None)), ("bytes=100-199", 206, slice(100, 200)), ("bytes=1000-", 206, slice(1000, None)),
     ("bytes=-50", 206, slice(-50, None)), ("bytes=0-999999999", 206, slice(None)),
     ("bytes=999999999-", 416, slice(0, 0)),
     ("lines=1-2", 200, slice(None))],
)  # fmt: skip
def test_parts_of_a_video(server, asked, status, part):
    response, body = get(server, f"{A}/video.mp4", **({"Range": asked} if asked else {}))
    assert (response.status, body) == (status, samples.video()[part])


@pytest.mark.parametrize(
    "path",
    [f"{A}/run.json", f"{A}/", "/go2-walk/", "/../../etc/passwd", f"{A}/../../secret/report.html",
     "/secret/report.html",
     "/%2e%2e/secret/report.html", f"{A}%00/report.html", "/board.js", "//etc/report.html", f"{A}/reward.py"],
)  # fmt: skip
def test_nothing_else_is_served(server, runs, path):
    (runs / "secret").mkdir()
    assert get(server, path)[0].status == 404


def test_a_port_in_use_is_an_error(server, runs):
    with pytest.raises(UserError, match=r"127.0.0.1:\d+ is in use; give another --port, or --port 0"):
        BoardServer(Board(runs), "127.0.0.1", server.server_address[1])


def test_the_server_ends_with_its_threads(runs):
    before = threading.active_count()
    with serving(Board(runs)) as running:
        get(running, "/")
    assert threading.active_count() <= before + 1  # a connection's own thread may still be on its way out
