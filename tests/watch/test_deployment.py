"""Deployment logs: numbers that are known by hand, cut and hostile logs, and the two places that show them."""

from __future__ import annotations

import json
import math
import re
import sys

import numpy as np
import pytest

from configs.errors import UserError
from sim2real.log import LogWriter
from tests.watch import samples
from tests.watch.deployment_samples import CONTRACT, JOINTS, STEPS, write_log
from tests.watch.test_report import ATTACK, without_plotly
from watch import deployment, deployment_report, files, report
from watch.deployment_charts import POINTS, charts
from watch.files import Unreadable
from watch.report import write_report


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("logs") / "tour.mcap")


@pytest.fixture(scope="module")
def read(log):
    return deployment.read(log)


def test_what_was_done_is_the_motion_that_was_made(read):
    forward, left, turn = read.commands
    settled = (read.done_s > 2.5) & (read.done_s < 9.5)
    np.testing.assert_allclose(forward.done[settled], 0.5, atol=0.002)
    np.testing.assert_allclose(left.done[settled], 0.0, atol=0.006)
    np.testing.assert_allclose(turn.done[settled], 0.4, atol=1e-6)
    assert np.abs(forward.done[read.done_s < 1.8]).max() < 1e-9
    assert read.measured_by == "the simulation"
    assert forward.asked[-1] == 0.5 and turn.asked[0] == 0.0


def test_without_truth_only_the_gyro_measures(tmp_path):
    found = deployment.read(write_log(tmp_path / "a.mcap", truth=False))
    forward, _, turn = found.commands
    assert forward.done is None and found.measured_by == "the gyro"
    assert turn.done[-1] == 0.4 and len(found.path_w) == 0


def test_joint_error_counts_only_joints_that_are_held(read):
    assert read.tracking_error_rad == pytest.approx(0.1)
    assert read.joint_names == JOINTS and read.soft_limits[2] == (-2.7, -0.9)
    shown = charts(read)["joints"][0]["target"]
    assert shown[50] is None and shown[-1] is not None  # limp, running


def test_states_doubts_and_events_on_the_time_line(read):
    assert [(s.what, round(s.begin_s, 1), round(s.end_s, 1)) for s in read.states] == [
        ("limp", 0.0, 2.0), ("running", 2.0, 10.0),
    ]  # fmt: skip
    (doubt,) = read.doubts
    assert (doubt.what, doubt.why) == ("limited", "position: limited for FR_calf_joint")
    assert doubt.end_s - doubt.begin_s == pytest.approx(0.2, abs=0.01)
    assert read.limited == 10 and read.missed == 1
    assert [(round(t, 1), state) for t, state, _ in read.events] == [(0.0, "limp"), (2.0, "running")]


def test_timing(read):
    timed = {entry["name"]: entry for entry in charts(read)["timing"]}
    assert set(timed) == {"wake-up after the deadline", "wake-up to command sent", "policy"}
    policy = timed["policy"]
    assert policy["p50"] == pytest.approx(1.0) and policy["max"] == pytest.approx(5.0)
    assert sum(policy["counts"]) == 400  # running ticks only
    assert timed["wake-up after the deadline"]["p50"] == pytest.approx(0.3, rel=0.01)
    assert timed["wake-up to command sent"]["max"] == pytest.approx(7.0, rel=0.01)


def test_in_lock_step_only_the_policy_is_timed(tmp_path):
    found = deployment.read(write_log(tmp_path / "a.mcap", lock_step=True))
    assert found.simulated_clock and list(found.timing) == ["policy"]
    assert "no deadline could be missed" in deployment_report.headline(found)[1]


def test_no_peak_is_lost_where_ticks_are_many(tmp_path):
    found = deployment.read(write_log(tmp_path / "a.mcap", ticks=4 * POINTS))
    policy = next(entry for entry in charts(found)["timing"] if entry["name"] == "policy")
    assert len(policy["course"]) <= POINTS
    seen = [v for v in policy["course"] if v is not None]
    assert sum(v > 4.9 for v in seen) == sum(k * 0.02 >= 2.0 for k in range(0, 4 * POINTS, 100))


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"steps": STEPS[:1]}, "The one step done in 10\u202fs"),
        ({"steps": [STEPS[0], STEPS[2]]}, "All 2 steps done in 10\u202fs"),
        ({}, "2 of 3 steps done; “turn left 90°” ended with timeout"),
        ({"steps": [], "reasons": ("tilt over 60°",)}, "Damped: tilt over 60°"),
        ({"steps": []}, "10\u202fs on the robot"),
        ({"closed": False}, r"The log ends after \d"),
    ],
)
def test_the_headline(tmp_path, change, verdict):
    found = deployment.read(write_log(tmp_path / "a.mcap", **change))
    assert re.match(verdict, deployment_report.headline(found)[0])


def test_a_cut_log_shows_what_is_there(tmp_path):
    found = deployment.read(write_log(tmp_path / "a.mcap", closed=False))
    assert not found.complete and not found.steps
    assert 100 < found.ticks < 500
    page = deployment_report.write_log_report(tmp_path / "a.mcap").read_text()
    assert "(not closed)" in page and "this one did not" in page


@pytest.mark.parametrize("content", [b"", b"no log at all", b"\x89MCAP0\r\n" + b"\x00" * 50])
def test_a_file_that_is_no_log(tmp_path, content):
    (tmp_path / "a.mcap").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mcap (is not a log|holds no messages)"):
        deployment_report.write_log_report(tmp_path / "a.mcap")


def test_a_huge_log_is_left_alone(log, monkeypatch):
    monkeypatch.setattr(deployment, "LOG_LIMIT", 1000)
    with pytest.raises(Unreadable, match="is larger than"):
        deployment.read(log)


def hostile_log(path):
    """Every text attacks the page, every number has another form."""
    contract = {"joint_names": [ATTACK, 7, None], "control_dt_s": "x", "joint_limits": {"position_soft": [1, [1], "a"]},
                "commands": [{"name": ATTACK, "unit": ATTACK}, 5, {"name": "forward"}]}  # fmt: skip
    writer = LogWriter(path, contract, {ATTACK: ATTACK, "task": ATTACK, "started_unix_s": "1e99"}, patient=True)
    for k in range(4):
        t = 1.0 + k
        writer.put(
            ("/reading", t, {"joint_position": [1.0, "x", None], "angular_velocity": "no"}),
            ("/target", t, {"joint_target": {"a": 1}, "kp": [True] * 3}),
            ("/decision", t, {"state": ATTACK, "supervisor": ATTACK, "reasons": [ATTACK, 5], "present": "x"}),
            ("/command", t, {"command": [[1], 2, 3]}),
            ("/timing", t, {"deadline_s": "x", "woke_s": None, "sent_s": 1e308, "policy_s": -1, "missed": "yes"}),
            ("/truth", t, {"position_w": [1e308, -1e308, 0], "heading": 1e308}),
            ("/event", t, {"state": {"a": 1}, "text": ATTACK}),
            ("/event", t, {"text": [ATTACK]}),
        )
    steps = [{"name": ATTACK, "outcome": ATTACK, "asked": ATTACK, "seconds": "x", "measured": ATTACK}, 5, None]
    writer.close({"steps": json.dumps(steps), "reasons": json.dumps([ATTACK]), "ticks": ATTACK})
    return path


def test_nothing_of_a_log_leaves_its_place(tmp_path):
    own = without_plotly(deployment_report.write_log_report(hostile_log(tmp_path / "a.mcap")).read_text())
    scripts = re.findall(r"<script[^>]*>", own)
    nonce = re.search(r"'nonce-([\w-]+)'", own)[1]
    allowed = (f'<script nonce="{nonce}">', '<script type="application/json" id="deployment-data">')
    assert all(script in allowed for script in scripts) and own.count("</script>") == len(scripts)
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;|\\u003c.*?\\u003e", "", own)
    assert "&lt;script&gt;alert(1)" in own  # shown, as a text


@pytest.mark.parametrize("summary", [{"steps": "[[", "reasons": "{}"}, {"steps": "7"}, {}])
def test_a_summary_of_another_form(tmp_path, summary):
    writer = LogWriter(tmp_path / "a.mcap", CONTRACT, {}, patient=True)
    writer.put(("/event", 1.0, {"state": "limp", "text": "x"}))
    writer.close(summary)
    found = deployment.read(tmp_path / "a.mcap")
    assert found.steps == [] and found.reasons == [] and found.seconds == 0.0
    deployment_report.write_log_report(tmp_path / "a.mcap")


class TestInARunsReport:
    @pytest.fixture
    def run(self, tmp_path):
        run = samples.write_run(tmp_path, iterations=5)
        (run / "deploy").mkdir()
        return run

    def test_the_newest_is_shown_and_the_others_are_named(self, run):
        write_log(run / "deploy" / "2026-11-20_10-00-00-simulation.mcap")
        write_log(run / "deploy" / "2026-11-21_10-00-00-unitree.mcap", steps=STEPS[:1])
        own = without_plotly(write_report(run).read_text())
        assert '<section id="deployment">' in own and "The one step done" in own
        assert "deploy/2026-11-20_10-00-00-simulation.mcap" in own
        data = json.loads(re.search(r'id="deployment-data">(.*?)</script>', own, re.S)[1])
        assert [joint["name"] for joint in data["joints"]] == JOINTS

    def test_one_that_cannot_be_read_says_why(self, run):
        (run / "deploy" / "x.mcap").write_bytes(b"nothing")
        assert re.search(r"x\.mcap (is not a log|holds no messages)", write_report(run).read_text())

    def test_a_folder_that_is_a_link_is_not_followed(self, run, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        write_log(tmp_path / "elsewhere" / "secret.mcap")
        (run / "deploy").rmdir()
        (run / "deploy").symlink_to(tmp_path / "elsewhere")
        assert '<section id="deployment">' not in write_report(run).read_text()

    def test_without_a_deployment_there_is_no_section(self, run):
        assert '<section id="deployment">' not in write_report(run).read_text()


def test_film_and_tours_beside_the_log_are_shown(tmp_path):
    log = write_log(tmp_path / "run.mcap")
    assert "<video" not in deployment_report.write_log_report(log).read_text()
    (tmp_path / "run.mp4").write_bytes(b"film")
    (tmp_path / "tours").mkdir()
    row = {"physics": "<script>alert(1)</script>", "seed": 4, "ok": True, "falls": 0, "distance_m": 6.125}
    (tmp_path / "tours" / "tours.json").write_text(json.dumps({"tours": [row, "no row"]}))
    page = deployment_report.write_log_report(log).read_text()
    assert 'src="data:video/mp4;base64,ZmlsbQ=="' in page
    assert "Tours on 1 seeds" in page and "6.125" in page
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


def test_the_command_takes_logs(log, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gantry report", str(log)])
    report.main()
    assert capsys.readouterr().out.strip() == str(log.with_suffix(".html"))
    assert files.listing(log.parent)


def test_spans_join_equal_neighbors():
    spans = deployment._spans([(0.0, "a", ""), (1.0, "a", ""), (2.0, "b", "x"), (3.0, "b", "y"), (4.0, "a", "")], 5.0)
    assert [(s.what, s.begin_s, s.end_s, s.why) for s in spans] == [
        ("a", 0.0, 2.0, ""), ("b", 2.0, 3.0, "x"), ("b", 3.0, 4.0, "y"), ("a", 4.0, 5.0, ""),
    ]  # fmt: skip
    assert math.isclose(sum(s.end_s - s.begin_s for s in spans), 5.0)
