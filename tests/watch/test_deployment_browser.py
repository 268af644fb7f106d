"""A deployment's page in a real Chromium, opened from disk."""

from __future__ import annotations

import pytest

from tests.watch import samples
from tests.watch.browser import Visit
from tests.watch.deployment_samples import JOINTS, write_log
from tests.watch.test_deployment import hostile_log
from tests.watch.test_report_browser import traces
from tests.watch.test_stages import write_stages
from watch.deployment_report import write_log_report
from watch.report import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    log = write_log(tmp_path_factory.mktemp("logs") / "tour.mcap")
    visit = Visit(browser, write_log_report(log).as_uri())
    yield visit
    visit.close()


def drawn(visit, chart: str) -> None:
    visit.page.locator(chart).first.scroll_into_view_if_needed()
    visit.wait(f"!!document.querySelector('{chart}')._fullData")


def test_the_time_line_shows_states_doubts_and_events(page):
    p = page.page
    drawn(page, "#timeline")
    states, doubts, events = p.evaluate(
        "document.querySelector('#timeline')._fullData.map(t => t.type === 'bar' ? [[...t.base], [...t.x]] : [...t.x])"
    )
    assert states[0] == pytest.approx([0.0, 2.0], abs=0.02) and states[1][1] == pytest.approx(8.0, abs=0.05)
    assert doubts[0][0] == pytest.approx(4.0, abs=0.02) and doubts[1][0] == pytest.approx(0.2, abs=0.02)
    assert events == pytest.approx([0.0, 2.0], abs=0.01)
    assert "limited until 4.20 s: position: limited for FR_calf_joint" in p.inner_text(".events")


def test_asked_against_done(page):
    drawn(page, "#commands .chart")
    asked, done = traces(page.page, "#commands .chart")
    assert (asked["name"], done["name"]) == ("asked", "done")
    assert asked["y"][-1] == 0.5 and done["y"][300] == pytest.approx(0.5, abs=0.002)
    assert page.page.locator("#commands figure").count() == 4  # three commands and the way on the ground


def test_joints_and_their_zoom(page):
    p = page.page
    assert p.locator("#joints figure").count() == len(JOINTS)
    drawn(page, "#joints .chart")
    target, measured = traces(p, "#joints .chart")[:2]
    at = measured["x"].index(pytest.approx(5.0, abs=0.011))
    assert target["y"][at] - measured["y"][at] == pytest.approx(0.1, abs=1e-3)
    p.evaluate("Plotly.relayout(document.querySelector('#joints .chart'), {'xaxis.range[0]': 3, 'xaxis.range[1]': 4})")
    ranges = "[...document.querySelectorAll('#joints .chart')].map(c => c.layout?.xaxis.range.map(Math.round).join())"
    page.wait(f"{ranges}.every(r => r === '3,4')")


def test_timing_and_the_script(page):
    p = page.page
    drawn(page, "#timing .chart")
    counts = p.evaluate("[...document.querySelector('#timing .chart')._fullData[0].y].reduce((a, b) => a + b)")
    assert counts == 500
    assert p.locator("#steps .outcome.bad").all_inner_texts() == ["timeout"]
    assert p.inner_text("h1").startswith("2 of 3 steps done")


def test_nothing_went_wrong_or_out(page):
    assert page.errors == []
    assert page.foreign == []


def test_a_hostile_log_is_only_text(browser, tmp_path):
    visit = Visit(browser, write_log_report(hostile_log(tmp_path / "a.mcap")).as_uri())
    for _ in range(8):
        visit.page.mouse.wheel(0, 600)
        visit.page.wait_for_timeout(80)
    assert "<script>alert(1)</script>" in visit.page.inner_text(".events")
    assert visit.page.locator("main script, main b b, main img").count() == 0
    assert visit.errors == []
    assert visit.foreign == []
    visit.close()


@pytest.fixture(scope="module")
def whole(browser, tmp_path_factory):
    """A run's report with everything that a report can have."""
    run = samples.write_run(tmp_path_factory.mktemp("runs"), iterations=30)
    (run / "deploy").mkdir()
    write_log(run / "deploy" / "a.mcap")
    samples.write_episodes(run)
    write_stages(run)
    visit = Visit(browser, write_report(run).as_uri())
    yield visit
    visit.close()


def test_falls_and_fitness_against_a_parameter(whole):
    p = whole.page
    first = "#episodes-charts .chart"
    (falls,) = traces(p, first)
    assert falls["name"] == "randomized" and len(falls["x"]) == 8
    assert falls["y"][0] == 100 and falls["y"][-1] == 0
    p.click("[data-outcome=fitness]")
    (fitness,) = traces(p, first)
    assert fitness["y"][0] == pytest.approx(0.3, abs=0.02) and fitness["y"][-1] == pytest.approx(0.8, abs=0.02)
    assert p.inner_text("#episodes-charts figcaption >> nth=0").startswith("Friction")


def test_the_stages_play(whole):
    p = whole.page
    p.locator("#stages").scroll_into_view_if_needed()
    whole.wait("[...document.querySelectorAll('video.stage')].every(v => v.currentTime > 0.1 && !v.error)")
    assert p.locator("video.stage").count() == 3
    p.locator("video.stage").first.click()
    whole.wait("document.querySelector('video.stage').paused")


def test_the_deployment_stands_in_the_runs_report(whole):
    drawn(whole, "#deployment #joints .chart")
    assert len(traces(whole.page, "#deployment #joints .chart")) >= 2
    assert traces(whole.page, "#curves-main .chart")[0]["x"][-1] == 4_000_000
    assert whole.errors == []
    assert whole.foreign == []
