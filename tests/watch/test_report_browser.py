"""The report in a real Chromium, opened from disk."""

from __future__ import annotations

from typing import Any

import pytest

from tests.watch import samples
from tests.watch.browser import Visit
from tests.watch.test_report import hostile
from watch.report import write_report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    run = samples.write_run(tmp_path_factory.mktemp("runs"), iterations=60)
    samples.write_episodes(run)
    visit = Visit(browser, write_report(run).as_uri())
    yield visit
    visit.close()


def traces(page: Any, chart: str) -> list[dict[str, Any]]:
    """What plotly really drew: the traces that are visible, from its computed data."""
    return page.evaluate(
        "c => document.querySelector(c)._fullData.filter(t => t.visible === true)"
        ".map(t => ({name: t.name, x: [...t.x], y: [...t.y]}))",
        chart,
    )


FIRST = "#curves-main .chart"


def test_it_plays_its_video(page):
    page.wait("document.querySelector('video').currentTime > 0.2")
    assert page.page.evaluate("document.querySelector('video').videoWidth") == 320
    assert page.page.evaluate("document.querySelector('video').error") is None


def test_the_horizontal_axis_switches(page):
    p = page.page
    assert traces(p, FIRST)[0]["x"][-1] == 4_000_000
    p.click("[data-axis=time]")
    assert traces(p, FIRST)[0]["x"][-1] == pytest.approx((4e6 / 15800 + 1.2) / 60)
    assert p.evaluate("c => document.querySelector(c).layout.xaxis.title.text", FIRST) == "training time (min)"
    assert traces(p, "#components-chart")[0]["x"][-1] == pytest.approx((4e6 / 15800 + 1.2) / 60)
    p.click("[data-axis=steps]")
    assert traces(p, FIRST)[0]["x"][-1] == 4_000_000


def test_reward_components_switch(page):
    p = page.page
    names = lambda: [t["name"] for t in traces(p, "#components-chart")]  # noqa: E731
    assert len(names()) == len(samples.COMPONENTS)
    p.click(".chip[data-name=velocity]")
    assert len(names()) == len(samples.COMPONENTS) - 1
    assert "velocity" not in names()
    p.click("#components-none")
    assert names() == []
    p.click("#components-large")
    assert names()[:2] == ["velocity", "yaw rate"]
    assert len(names()) == 5
    p.click("#components-all")
    assert p.locator(".chip[aria-pressed=true]").count() == len(samples.COMPONENTS)


def test_every_section_has_its_charts(page):
    p = page.page
    assert p.locator("#curves-measures .js-plotly-plot").count() == len(samples.MEASURES)
    assert p.locator("#episodes-charts .js-plotly-plot").count() == 2
    fitness = p.evaluate("document.querySelector('#sets-fitness')._fullData[0]")
    assert fitness["y"] == ["shifted, select", "randomized", "nominal"]
    assert fitness["x"] == pytest.approx([0.72, 0.80, 0.83])
    assert fitness["error_x"]["array"] == pytest.approx([0.017, 0.009, 0.006])
    p.click("#learner summary")
    page.wait("document.querySelectorAll('#curves-learner .js-plotly-plot').length === 7")


def test_dark_and_light(browser, page):
    background = "getComputedStyle(document.body).backgroundColor"
    line = "document.querySelector('#curves-main .chart')._fullData[0].line.color"
    light = page.page.evaluate(f"[{background}, {line}]")
    page.page.click(".theme")
    dark = page.page.evaluate(f"[{background}, {line}]")
    page.page.click(".theme")
    assert page.page.evaluate(f"[{background}, {line}]") == light
    visit = Visit(browser, page.page.url, scheme="dark")
    assert visit.page.evaluate(f"[{background}, {line}]") == dark
    assert light[0] != dark[0] and light[1] != dark[1]
    visit.close()


def test_labels_do_not_overlap_and_nothing_overflows(browser, page):
    overlapping = """() => {
      const found = [];
      for (const chart of document.querySelectorAll('.js-plotly-plot')) {
        const boxes = [...chart.querySelectorAll('.xtick text, .ytick text, .xtitle, .ytitle, .annotation-text')]
          .map(e => [e.textContent, e.getBoundingClientRect()]).filter(([, b]) => b.width);
        boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
          const beside = p.right <= q.left + 1 || q.right <= p.left + 1;
          const above = p.bottom <= q.top + 1 || q.bottom <= p.top + 1;
          if (!beside && !above) found.push([a, b]);
        }));
      }
      return found;
    }"""
    for width in (1280, 800, 420):
        visit = Visit(browser, page.page.url, width=width)
        assert visit.page.evaluate(overlapping) == [], width
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
        visit.close()


def test_it_prints_in_light_colors(page):
    page.page.emulate_media(media="print")
    assert page.page.locator(".bar").is_hidden()
    assert page.page.evaluate("getComputedStyle(document.querySelector('video')).display") == "none"
    page.page.emulate_media(media="screen")


def test_it_asks_nobody_for_anything(page):
    assert page.foreign == []
    assert page.errors == []


def test_hostile_text_is_only_text(browser, tmp_path):
    visit = Visit(browser, write_report(hostile(tmp_path)).as_uri())
    p = visit.page
    p.wait_for_selector("#components-chart .main-svg")
    p.click("#learner summary")
    p.hover("#components-chart", position={"x": 300, "y": 150})
    assert visit.errors == []
    assert visit.foreign == []
    assert p.locator("img, svg[onload], main b b, .js-plotly-plot a[href]").count() == 0
    assert "<script>alert(1)</script>" in p.inner_text(".eyebrow")
    assert p.locator(".chip").count() == 4
    assert "alert(1)" in p.locator(".chip").first.inner_text()
    visit.close()


def test_it_reads_without_javascript(browser, page):
    context = browser.new_context(java_script_enabled=False)
    p = context.new_page()
    p.goto(page.page.url)
    assert p.inner_text("h1") == "Fitness 0.80 on randomized physics, above the task’s threshold of 0.75"
    assert p.locator("#sets-table tbody tr").count() == len(samples.MEASURES) + 5
    assert p.locator("#reward .line").count() > 20
    context.close()
