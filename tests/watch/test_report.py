"""The report as a file: what it holds, and that nothing of a run gets out of its place in it."""

from __future__ import annotations

import json
import re
import sys

import pytest

from configs.errors import UserError
from tests.watch import samples
from watch import page, report
from watch.report import write_report
from watch.run_reader import read_run

ATTACK = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028\u2029&amp;'\"{{7*7}}${8*8}<!--"


@pytest.fixture
def run(tmp_path):
    return samples.write_run(tmp_path, iterations=20)


def without_plotly(html: str) -> str:
    return html.replace(str(page.plotly_source()), "")


def hostile(tmp_path):
    """A run in which everything that a person or a model can name attacks the page."""
    run = samples.write_run(tmp_path, "2026-11-21_00-00-00-<img src=x onerror=alert(3)>", iterations=5)
    record = json.loads((run / "run.json").read_text())
    record |= {"task": ATTACK, "state": "failed", "error": ATTACK, "command": ["gantry", ATTACK], "git_commit": ATTACK,
               "versions": {ATTACK: ATTACK}, "machine": {ATTACK: ATTACK}, "threads": ATTACK}  # fmt: skip
    (run / "run.json").write_text(json.dumps(record))
    (run / "config.yaml").write_text(json.dumps({"reward": ATTACK, ATTACK: {"x": ATTACK}}))
    (run / "reward.py").write_text(f'"""{ATTACK}"""\n# {ATTACK}\ndef reward(s): return {{"{ATTACK}": 1}}\n')
    (run / "randomization.yaml").write_text(json.dumps({ATTACK: [0, 1], "kp": ATTACK}))
    row = {"reward": 1.0, "env_steps": 1, "seconds": 1, "fitness": 0.1}
    markup = "<b>bold</b><a href='javascript:alert(4)'>x</a>%{y}"
    names = {ATTACK: 1.0, markup: 2.0, "__proto__": 3.0, "constructor": 4.0}
    row |= dict.fromkeys(("components", "measures", "train"), names)
    (run / "progress.jsonl").write_text("".join(json.dumps({"iteration": i, **row}) + "\n" for i in range(5)))
    result = samples.evaluation()["sets"]["nominal"]
    result |= {"measures": {ATTACK: {"mean": 1, "low": 0, "high": 2, "unit": ATTACK}}, "foot_use": {ATTACK: 0.5}}
    (run / "evaluation.json").write_text(json.dumps({"physics_hash": ATTACK, "sets": {ATTACK: result}}))
    (run / "episodes.json").write_text(json.dumps({"sets": {ATTACK: {"fitness": [1, 2], "fallen": [0, 1], "physics": {
        ATTACK: {"unit": ATTACK, "elements": ATTACK, "values": [1, 2]}}}}}))  # fmt: skip
    (run / "stages.json").write_text(json.dumps([{"env_steps": 1, "video": ATTACK}, ATTACK]))
    (run / "<svg onload=alert(5)>.txt").write_text("x")
    return run


def test_it_is_one_file_with_everything(run):
    samples.write_episodes(run)
    html = write_report(run).read_text()
    own = without_plotly(html)
    for id_ in ("curves", "physics", "survival", "reward", "randomization", "configuration", "resources"):
        assert f'<section id="{id_}">' in own
    assert 'id="missing"' not in own
    assert "data:video/mp4;base64," in own
    assert "sliding friction coefficient between the robot and what it stands on" in own
    assert "gantry train task=go2-walk seed=1 ppo.learning_rate=0.001" in own
    assert '<span class="s2">"air_time"</span>' in own
    assert not re.search(r'(src|href)="(?!#|data:)', own)  # nothing is loaded from elsewhere


def test_feet_have_the_names_of_the_robot(run):
    assert re.search(r'foot use.*?<span class="muted">FR</span> 0.52', write_report(run).read_text(), re.S)


def test_no_interval_leaves_what_can_be(run):
    content = json.loads((run / "evaluation.json").read_text())
    content["sets"]["randomized"]["fall_rate"] = {"mean": 0.008, "low": -0.0116, "high": 0.0272}
    (run / "evaluation.json").write_text(json.dumps(content))
    html = write_report(run).read_text()
    assert "95 % interval 0 to 2.72 %" in html and "\u22121.16" not in html
    data = json.loads(re.search(r'id="data">(.*?)</script>', html, re.S)[1])
    assert data["sets"][1]["falls"]["low"] == 0.0


def test_a_large_video_is_linked(run, monkeypatch):
    monkeypatch.setattr(report, "INLINE_VIDEO_LIMIT", 1000)
    html = write_report(run).read_text()
    assert 'src="video.mp4"' in html
    assert "data:video" not in html
    assert "but the video" in html


def test_what_is_missing_is_said(run):
    for name in ("evaluation.json", "video.mp4", "reward.py"):
        (run / name).unlink()
    html = write_report(run).read_text()
    assert re.search(r"evaluation.json</td><td[^>]*>is missing.*?gantry evaluate RUN", html, re.S)
    assert re.search(r"video.mp4</td><td[^>]*>is missing.*?gantry video RUN", html, re.S)
    assert '<section id="reward">' not in html


def test_an_empty_folder_has_a_report(tmp_path):
    html = write_report(tmp_path).read_text()
    assert "run.json is missing; not a run, or made by an older version" in html
    assert "Plotly" not in html.split('id="data"')[0]


def test_nothing_of_a_run_leaves_its_place(tmp_path):
    own = without_plotly(write_report(hostile(tmp_path)).read_text())
    nonce = re.search(r"'nonce-([\w-]+)'", own)[1]
    scripts = re.findall(r"<script[^>]*>", own)
    assert len(scripts) == 9
    plain = [f'<script type="application/json" id="{id_}">' for id_ in ("data", "survival-data")]
    assert all(s in (f'<script nonce="{nonce}">', *plain) for s in scripts)
    assert own.count("</script>") == 9
    assert "onerror=alert" not in re.sub(r"&lt;.*?&gt;|\\u003c.*?\\u003e", "", own)
    assert not re.search(r"<(img|svg onload|b>bold|a href='javascript)", own)
    assert "\u2028" not in re.search(r'id="data">(.*?)</script>', own, re.S)[1]
    data = json.loads(re.search(r'id="data">(.*?)</script>', own, re.S)[1])
    assert any("<script>" in name for name in data["groups"]["components"])  # shown, but as a text


def test_json_in_a_script_is_the_same_value():
    value = {"a": "</script><!--\u2028&", "b": [1.5, None, "é"]}
    encoded = page.script_json(value)
    assert json.loads(encoded) == value
    assert not set("<>&\u2028\u2029") & set(encoded)
    with pytest.raises(ValueError, match="not JSON compliant"):
        page.script_json(float("nan"))


def test_each_page_has_a_nonce_of_its_own(run):
    nonces = {re.search(r"'nonce-([\w-]+)'", report.render(read_run(run)))[1] for _ in range(2)}
    assert len(nonces) == 2


def test_code_that_hides_its_direction_shows_it(run):
    (run / "reward.py").write_text("# \u202e gnihton \u2066\n")
    html = write_report(run).read_text()
    assert "&lt;U+202E&gt;" in html
    assert "\u202e" not in html


def test_very_long_code_is_shown_plain(run):
    (run / "reward.py").write_text("x = [" * 60_000)
    assert "<pre class='code plain'>" in write_report(run).read_text()


def test_a_report_is_replaced_whole(run, monkeypatch):
    path = write_report(run)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(UserError, match=r"report\.html cannot be written: No space left on device"):
        write_report(run)
    assert path.read_bytes() == before


def test_a_run_that_is_no_folder(tmp_path):
    with pytest.raises(UserError, match="is no folder; give a folder below runs/"):
        write_report(tmp_path / "nothing")


def test_the_command(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gantry report", str(run)])
    report.main()
    assert capsys.readouterr().out.strip() == str(run / "report.html")


def test_scripts_and_styles_build_no_html_from_text():
    for path in (samples.ROOT / "watch/static").iterdir():
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", path.read_text()
        ), path
