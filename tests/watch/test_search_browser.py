"""The tree of a search, the stages of a training and the components of two runs, on the board in a real Chromium."""

from __future__ import annotations

import pytest

from tests.watch import samples
from tests.watch.browser import Visit
from tests.watch.search_samples import ID, REFLECTION, write_search
from tests.watch.test_search_tree import hostile_search
from tests.watch.test_stages import write_stages
from watch.board import Board
from watch.report import write_report
from watch.search_report import write_search_report
from watch.server import serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_search(folder)
    write_search(folder, "2026-11-19_08-00-00-earlier", generations=1, finished=False)
    write_stages(samples.write_run(folder, "2026-11-18_00-00-00-growing", iterations=20))
    write_report(folder / "go2-walk" / f"{ID}-model-g2s0")
    return folder


def open_tree(p) -> None:
    p.click("button[data-view=searches]")
    p.wait_for_selector(".node")


def test_the_tree_opens_on_the_best(visit):
    p = visit.page
    open_tree(p)
    assert p.locator(".search-list button").count() == 2
    assert p.locator(".node").count() == 13
    assert p.inner_text(".candidate h3").startswith("model-g2s0")
    assert "Winner of its arm" in p.inner_text(".candidate .said")
    assert p.locator(".tree path").count() == 8 and p.locator(".tree path.line").count() == 2
    boxes = p.eval_on_selector_all(".node", "nodes => nodes.map(n => n.getBoundingClientRect().toJSON())")
    for i, a in enumerate(boxes):
        for b in boxes[i + 1 :]:
            apart = (
                a["right"] <= b["left"] or b["right"] <= a["left"] or a["bottom"] <= b["top"] or b["bottom"] <= a["top"]
            )
            assert apart


def test_a_candidate_says_why_it_was_stopped(visit):
    p = visit.page
    open_tree(p)
    p.click(".node[data-name=model-g1s2]")
    assert "Stopped early after 750" in p.inner_text(".candidate .said")
    assert "was below 0.450" in p.inner_text(".candidate .said")
    p.click(".node[data-name=model-g1s3]")
    assert "Did not pass the dry run: component 'slip' is nan" in p.inner_text(".candidate .said")
    p.click(".node[data-name=model-g1s1]")
    assert "Suspected of gaming its reward" in p.inner_text(".candidate")
    assert p.inner_text(".candidate .reflection") == REFLECTION
    assert p.get_attribute(".node[data-name=model-g1s1]", "aria-pressed") == "true"


def test_code_differences_with_the_parent(visit):
    p = visit.page
    open_tree(p)
    p.click(".node[data-name=model-g2s0]")
    assert p.inner_text(".candidate h4 select option:checked") == "changes from model-g1s0"
    removed, added = (p.locator(f".candidate .diff .{kind}").all_inner_texts() for kind in ("removed", "added"))
    assert len(removed) == len(added) == 1
    assert "1.5 * torch.exp(-velocity_error / 0.2)" in removed[0] and "2.0 * torch.exp" in added[0]
    assert p.locator(".candidate .diff .added .s").inner_text() == '"velocity"'
    assert "2.0" in p.locator(".candidate .diff .added .m").all_inner_texts()
    changed = [p.locator(f".candidate .diff .{kind} mark").all_inner_texts() for kind in ("removed", "added")]
    assert changed == [["1.5", "0.2"], ["2.0", "0.35"]]
    p.select_option(".candidate h4 select", "")
    assert p.locator(".candidate .diff .added").count() == 0
    assert p.locator(".candidate .diff .row").count() == samples.REWARD.count("\n") + 1


def test_what_changed_within_a_line(visit):
    for before, after, spans in [
        ("s.slip * 0.1", "s.slip * 0.45", [[[9, 12]], [[9, 13]]]),  # whole words, not single characters
        ("a = b", "a = b + c", [[], [[5, 9]]]),
        ("f(1, x, 2)", "f(3, x, 4)", [[[2, 3], [8, 9]], [[2, 3], [8, 9]]]),
        ("return left", "import math", None),  # another line, not a changed one
        ("", "x", None),
    ]:
        assert visit.page.evaluate("([a, b]) => changedSpans(a, b)", [before, after]) == spans, (before, after)
    text = "([a, b]) => codeDifference(a, b).textContent"
    assert visit.page.evaluate(text, ['x = "a" + 1\n', 'x = "b" + 1\n']) == '− x = "a" + 1\n+ x = "b" + 1\n  \n'


def test_colors_change_no_character(visit):
    sources = [
        samples.REWARD,
        'a = """x\n# no comment\n"""  # one\n',
        "s = 'it\\'s' + \"#\"\n",
        '"""open\nend',
        "é = 1e-3",
    ]
    for source in sources:
        assert visit.page.evaluate(
            "s => codeBlock(s).textContent.split('\\n').map(l => l.slice(2)).join('\\n')", source
        ) == (source + "\n")
    kinds = "s => [...codeBlock(s).querySelectorAll('.row span')].map(e => [e.className, e.textContent])"
    assert visit.page.evaluate(kinds, 'def f(x): return 2  # "no"') == [
        ["k", "def"], ["nf", "f"], ["k", "return"], ["m", "2"], ["c", '# "no"'],
    ]  # fmt: skip


def test_another_search_and_the_report_of_a_candidate(visit):
    p = visit.page
    open_tree(p)
    p.click(".search-list button >> nth=1")
    assert p.locator(".node").count() == 4
    p.click(".search-list button >> nth=0")
    p.click(".node[data-name=model-g2s0]")
    p.click(".candidate a")
    p.wait_for_selector("h1")
    assert p.inner_text("h1").startswith("Fitness 0.80 on randomized physics")


def test_the_skill_grows(visit):
    p = visit.page
    p.fill("#search", "growing")
    p.click("button[data-view=videos]")
    figure = p.locator("figure[data-id$=growing]")
    assert [b.inner_text() for b in figure.locator("[data-stage]").all()] == ["8 k", "1.0 M", "2.0 M", "end"]
    assert figure.locator("video").get_attribute("src").endswith("video.mp4")
    figure.locator("[data-stage='0']").click()
    assert figure.locator("video").get_attribute("src").endswith("stages/000000008192.mp4")
    assert "fitness 0.100 after 8 k steps" in figure.inner_text()
    visit.wait("document.querySelector('figure[data-id$=growing] video').currentTime > 0.1")
    figure.locator("[data-stage='-1']").click()
    assert figure.locator("[data-stage='-1']").get_attribute("aria-pressed") == "true"


def test_reward_components_of_two_runs(visit):
    p = visit.page
    p.locator(f"#runs tr[data-id$='{ID}-model-g0s0'] input").click()
    p.locator(f"#runs tr[data-id$='{ID}-model-g1s0'] input").click()
    p.click("#to-compare")
    p.wait_for_selector("#component-0 .main-svg")
    names = p.eval_on_selector_all(".charts.small figcaption", "all => all.map(e => e.textContent.trim())")
    assert len(names) == len(samples.COMPONENTS) and "velocity" in names
    chart = f"#component-{names.index('velocity')}"
    drawn = p.evaluate(f"document.querySelector('{chart}')._fullData.map(t => [t.name, t.x.at(-1), t.y.length])")
    assert drawn == [[f"{ID}-model-g0s0", 4_000_000, 20], [f"{ID}-model-g1s0", 4_000_000, 20]]


def test_served_it_makes_reports_of_candidates_and_plays_stages(browser, runs):
    with serving(Board(runs)) as server:
        visit = Visit(browser, server.address)
        p = visit.page
        open_tree(p)
        p.click(".node[data-name=model-g1s1]")
        p.click(".candidate a")
        p.wait_for_selector("h1")
        assert p.inner_text("h1").startswith("Fitness 0.80")
        p.goto(server.address)
        p.click("button[data-view=videos]")
        p.fill("#search", "growing")
        p.click("[data-stage='1']")
        visit.wait("document.querySelector('video').currentTime > 0.1")
        assert visit.errors == []
        visit.close()


def test_a_search_has_a_page_of_its_own(browser, runs):
    visit = Visit(browser, write_search_report(runs / "sweeps" / ID).as_uri())
    p = visit.page
    p.click(".node[data-name=model-g2s0]")
    assert p.locator(".candidate .diff .added").count() == 1
    p.click(".candidate a")
    p.wait_for_selector("h1")
    assert p.inner_text("h1").startswith("Fitness 0.80")
    assert visit.errors == []
    visit.close()


def test_hostile_searches_are_only_text(browser, tmp_path):
    hostile_search(tmp_path)
    visit = Visit(browser, Board(tmp_path).write().as_uri())
    p = visit.page
    open_tree(p)
    for node in p.locator(".node").all():
        node.click()
        assert p.locator("main script, main img, main svg[onload], main b").count() == 0
    assert "<script>alert(1)</script>" in p.inner_text(".search")
    assert visit.errors == []
    assert visit.foreign == []
    visit.close()
