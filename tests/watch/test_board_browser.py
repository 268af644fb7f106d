"""The board in a real Chromium, opened from disk and served."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest

from tests.watch import samples
from tests.watch.browser import Visit
from tests.watch.test_report import hostile
from watch.board import Board
from watch.report import write_report
from watch.run_reader import read_run
from watch.server import serving

pytestmark = pytest.mark.slow

NAMES = [f"2026-11-{day:02d}_10-00-00-train" for day in range(10, 16)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for i, name in enumerate(NAMES):
        own = samples.REWARD.replace('"slip": -', '"slip": -9') if i == 1 else samples.REWARD
        run = samples.write_run(
            folder, name, task="go1-walk" if i == 5 else "go2-walk", seed=i, skill=0.6 + 0.05 * i, iterations=40,
            reward="rewards/one.py" if i == 1 else "human", reward_source=own,
            learning_rate="0.002" if i == 1 else "0.001",
        )  # fmt: skip
        if i == 4:
            (run / "run.json").write_text('{"format": 1, "task')
    write_report(folder / "go2-walk" / NAMES[0])
    return folder


def names(p: Any) -> list[str]:
    return p.eval_on_selector_all("#runs tbody tr", "rows => rows.map(row => row.dataset.id.split('/')[1])")


def pick(p: Any, *wanted: str) -> None:
    for name in wanted:
        p.locator(f"#runs tr[data-id$='{name}'] input").click()


def test_it_sorts(visit):
    p = visit.page
    assert names(p) == NAMES[::-1]
    p.click("[data-sort=fitness]")
    assert names(p) == [NAMES[i] for i in (5, 4, 3, 2, 1, 0)]
    p.click("[data-sort=fitness]")
    assert names(p) == [NAMES[i] for i in (0, 1, 2, 3, 4, 5)]
    p.click("[data-sort=reward]")
    assert names(p)[-1] == NAMES[1]


def test_it_filters(visit):
    p = visit.page
    p.fill("#search", "one.py 2026")
    assert names(p) == [NAMES[1]]
    assert p.inner_text("#shown") == "1 of 6 runs"
    p.fill("#search", "no such run")
    assert "No run matches the filter." in p.inner_text("#runs")
    p.fill("#search", "")
    p.select_option("#task", "go1-walk")
    assert names(p) == [NAMES[5]]
    p.select_option("#task", "")
    p.click("[data-state=broken]")
    assert names(p) == [NAMES[4]]
    assert "run.json is no valid JSON" in p.inner_text("#runs .reason")


def test_videos_play_in_step(visit):
    p = visit.page
    pick(p, NAMES[0], NAMES[2], NAMES[3])
    p.click("#to-videos")
    assert p.locator("video").count() == 3
    visit.wait("[...document.querySelectorAll('video')].every(v => v.readyState >= 3 && v.currentTime > 0.1)")
    apart = []
    for _ in range(12):
        p.wait_for_timeout(100)
        moments = p.evaluate("[...document.querySelectorAll('video')].map(v => v.seeking ? null : v.currentTime)")
        if None not in moments:
            apart.append(max(moments) - min(moments))
    assert sorted(apart)[len(apart) // 2] < 0.15, apart
    p.click("#play")
    visit.wait("[...document.querySelectorAll('video')].every(v => v.paused && !v.seeking)")
    p.wait_for_timeout(300)
    moments = p.evaluate("[...document.querySelectorAll('video')].map(v => v.currentTime)")
    assert max(moments) - min(moments) <= 0.04
    p.locator(".scrubber").fill("500")
    visit.wait("[...document.querySelectorAll('video')].every(v => !v.seeking && Math.abs(v.currentTime - 1.0) < 0.05)")


def test_two_runs_compared(visit):
    p = visit.page
    pick(p, NAMES[0], NAMES[1])
    p.click("#to-compare")
    p.wait_for_selector("#chart-reward .main-svg")
    drawn = p.evaluate("document.querySelector('#chart-fitness')._fullData.map(t => [t.name, t.x.length, t.x.at(-1)])")
    assert drawn == [[NAMES[0], 40, 4_000_000], [NAMES[1], 40, 4_000_000]]
    p.click("[data-axis=seconds]")
    assert p.evaluate("document.querySelector('#chart-fitness')._fullData[0].x.at(-1)") == pytest.approx(4.24, abs=0.01)
    rows = p.eval_on_selector_all(
        ".differences tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.textContent))"
    )
    assert rows == [["reward", "human", "rewards/one.py"], ["seed", "0", "1"], ["ppo.learning_rate", "0.001", "0.002"]]
    assert "The randomization ranges are the same." in p.inner_text("#view")
    assert [line.strip()[:10] for line in p.locator(".diff .removed").all_inner_texts()] == ["−         "]
    assert '"slip": -9' in p.inner_text(".diff .added")
    cells = p.eval_on_selector_all(".evaluations tbody tr", "rows => rows.map(r => [...r.cells].map(c => c.innerText))")
    assert [row[0] for row in cells] == ["nominal", "randomized", "shifted, select"]
    assert cells[1][1].split("\n") == ["0.570 (0.561 to 0.579)", "falls 1.4 (1.1 to 1.7) %"]
    assert cells[1][2].startswith("0.620 (")
    p.click(".drop >> nth=1")
    assert "select another" in p.inner_text("#view")


def test_differences_of_texts(visit):
    apply = "rows => rows.filter(r => r.kind !== '+').map(r => r.text).join('\\n')"
    for a, b in [
        ("a\nb\nc", "a\nc"),
        ("", "x"),
        ("a\nb", "b\na"),
        ("x\n" * 50, "y\n" * 30),
        ("same", "same"),
        ("a\na\nb", "a\nb\nb"),
    ]:
        rows = visit.page.evaluate("([a, b]) => difference(a, b)", [a, b])
        assert visit.page.evaluate(apply, rows) == a
        assert "\n".join(r["text"] for r in rows if r["kind"] != "-") == b
    kinds = [r["kind"] for r in visit.page.evaluate("difference('a\\nb\\nc\\nd', 'a\\nx\\nc\\nd')")]
    assert kinds == [" ", "-", "+", " ", " "]
    folded = visit.page.evaluate("folded(difference('a\\n'.repeat(20) + 'x', 'a\\n'.repeat(20) + 'y'), 2)")
    assert folded[0] == {"kind": "…", "count": 18}


def test_reports_open(visit):
    link = visit.page.locator(f"#runs tr[data-id$='{NAMES[0]}'] a")
    link.click()
    visit.page.wait_for_selector("h1")
    assert visit.page.inner_text("h1").startswith("Fitness 0.57 on randomized physics, below")


def test_changes_arrive_without_losing_anything(browser, tmp_path):
    run = samples.write_run(tmp_path, NAMES[0], iterations=20, state="running")
    samples.write_run(tmp_path, NAMES[1], iterations=20)
    board = Board(tmp_path)
    board.write(live=True)
    live = tmp_path / board.live_name
    live.write_text(board.changes())
    visit = Visit(browser, (tmp_path / "board.html").as_uri())
    p = visit.page
    p.fill("#search", "train")
    pick(p, NAMES[1])
    p.evaluate("window.untouched = true")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"state": "failed", "error": "NaN in slip"}))
    samples.write_run(tmp_path, NAMES[2], iterations=20, skill=0.9)
    assert board.refresh()
    time.sleep(1.1)  # the page tells versions apart by the second
    live.write_text(board.changes())
    visit.wait("document.querySelectorAll('#runs tbody tr').length === 3")
    assert "NaN in slip" in p.inner_text("#runs")
    assert p.evaluate("window.untouched")  # not a reload
    assert p.input_value("#search") == "train"
    assert p.text_content("#selected") == "1 selected"
    pick(p, NAMES[2])
    p.click("#to-compare")
    p.wait_for_selector("#chart-fitness .main-svg")
    assert p.evaluate("document.querySelector('#chart-fitness')._fullData.map(t => t.name)") == [NAMES[1], NAMES[2]]
    p.reload()
    p.wait_for_selector("#chart-fitness .main-svg")
    assert p.text_content("#selected") == "2 selected"
    assert p.locator("button[data-view=compare]").get_attribute("aria-selected") == "true"
    assert visit.errors == []
    visit.close()


def test_it_works_when_served(browser, runs):
    with serving(Board(runs)) as server:
        visit = Visit(browser, server.address)
        p = visit.page
        visit.wait("document.querySelector('#live').textContent.startsWith('live')")
        pick(p, NAMES[2])
        p.click("#to-videos")
        visit.wait("document.querySelector('video').currentTime > 0.1")
        p.click("button[data-view=table]")
        p.click(f"#runs tr[data-id$='{NAMES[2]}'] a")
        p.wait_for_selector("h1")
        assert p.inner_text("h1").startswith("Fitness 0.67")
        assert visit.errors == []
        assert visit.foreign == []
        visit.close()


def test_hostile_text_is_only_text(browser, tmp_path):
    hostile(tmp_path)
    samples.write_run(tmp_path, iterations=5)
    visit = Visit(browser, Board(tmp_path).write().as_uri())
    p = visit.page
    for box in p.locator("#runs tbody input").all():
        box.click()
    p.click("#to-compare")
    p.wait_for_selector("#chart-fitness .main-svg")
    p.hover("#chart-fitness", position={"x": 150, "y": 100})
    assert "<script>alert(1)</script>" in p.inner_text("#view")
    p.click("button[data-view=videos]")
    p.wait_for_selector("video")
    assert p.locator("img, svg[onload], main b, main script").count() == 0
    assert visit.errors == []
    assert visit.foreign == []
    visit.close()


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    samples.write_many(folder, 1000)
    return Board(folder)


@pytest.mark.timeout(900)
def test_a_thousand_runs_open_at_once(browser, many, capsys):
    begun, used = time.perf_counter(), time.process_time()
    path = many.write()
    made_s, made_cpu_s = time.perf_counter() - begun, time.process_time() - used
    visit = Visit(browser, "about:blank")
    p = visit.page
    session = visit.context.new_cdp_session(p)
    # Processor time of the page's thread: what a machine that is busy training does not distort.
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    p.goto(path.as_uri(), wait_until="load", timeout=120_000)
    opened_s = p.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") / 1000
    metrics = {m["name"]: m["value"] for m in session.send("Performance.getMetrics")["metrics"]}
    assert p.inner_text("#shown") == "1000 runs"
    assert p.locator("#runs tbody tr").count() >= 150
    begun = time.perf_counter()
    p.fill("#search", "candidate_7.py")
    p.click("[data-sort=fitness]")
    assert len(names(p)) == 10
    filtered_s = time.perf_counter() - begun
    p.fill("#search", "")
    p.locator(".sentinel").scroll_into_view_if_needed()
    visit.wait("document.querySelectorAll('#runs tbody tr').length > 150")
    with capsys.disabled():
        size_mb, cpu_s = path.stat().st_size / 1e6, metrics["TaskDuration"]
        print(f"\n1,000 runs: page of {size_mb:.1f} MB written in {made_s:.1f} s (processor {made_cpu_s:.1f} s),")
        print(f"open in {opened_s:.2f} s (processor {cpu_s:.2f} s), filtered and sorted in {filtered_s:.2f} s")
    assert metrics["TaskDuration"] < 2.0
    assert visit.errors == []
    visit.close()


@pytest.mark.timeout(900)
def test_a_refresh_of_a_thousand_runs_reads_only_what_changed(many):
    run = next(many.runs.glob("go2-walk/*"))
    os.utime(run / "run.json")
    used = time.process_time()
    assert many.catalog.refresh() == set()
    refreshed = time.process_time() - used
    used = time.process_time()
    for path in list(many.runs.glob("*/*"))[:20]:
        read_run(path, points=120)
    assert refreshed < (time.process_time() - used) * 50 / 4  # at most a quarter of reading them all
