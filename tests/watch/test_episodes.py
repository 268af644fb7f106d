"""Falls and fitness against what each episode drew: intervals that are known, bins that find what matters."""

from __future__ import annotations

import pytest

from tests.watch import samples
from watch import episodes
from watch.files import Unreadable
from watch.report import write_report


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),  # Newcombe 1998, table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_intervals_as_published(count, total, low, high):
    share, *found = episodes.wilson(count, total)
    assert share == count / total
    assert found == pytest.approx([low, high], abs=5e-5)


def test_bins_find_what_the_robot_falls_for(tmp_path):
    samples.write_episodes(tmp_path)
    sets = episodes.read(tmp_path)
    assert len(sets[0].fitness) == 479  # without the one that diverged
    panels = episodes.panels(sets, {"friction": (0.3, 1.5)})
    assert [panel["name"] for panel in panels] == ["friction", "gravity"]  # what never varied has no panel
    friction, gravity = panels
    assert friction["train"] == [0.3, 1.5] and gravity["train"] is None
    bins = friction["curves"][0]["bins"]
    assert len(bins) == 8 and sum(b["n"] for b in bins) == 479
    assert bins[0]["falls"][0] == 1.0 and bins[0]["to"] < 0.6
    assert all(b["falls"][0] == 0.0 for b in bins if b["from"] > 0.6)
    assert bins[0]["fitness"][0] == pytest.approx(0.3, abs=0.02) and bins[-1]["fitness"][0] == pytest.approx(
        0.8, abs=0.02
    )
    overlap = [b["falls"][1:] for b in gravity["curves"][0]["bins"]]
    assert max(low for low, _ in overlap) < min(high for _, high in overlap)  # no bin differs from another


def test_few_episodes_make_few_bins(tmp_path):
    samples.write_episodes(tmp_path, 90)
    assert len(episodes.panels(episodes.read(tmp_path), {})[0]["curves"][0]["bins"]) == 2


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "{}", '{"sets": 3}', '{"sets": {"a": {"fitness": [1], "fallen": []}}}',
     '{"sets": {"a": {"fitness": ["x"], "fallen": [0]}}}', '{"sets": {"a": {"fitness": [NaN], "fallen": [0]}}}'],
)  # fmt: skip
def test_what_has_another_form_is_no_episodes(tmp_path, content):
    (tmp_path / "episodes.json").write_text(content)
    with pytest.raises(Unreadable):
        episodes.read(tmp_path)


def test_the_report_shows_them_and_says_what_it_cannot_read(tmp_path):
    run = samples.write_run(tmp_path, iterations=5)
    samples.write_episodes(run)
    page = write_report(run).read_text()
    assert 'id="episodes-charts"' in page and '"unit":"m/s²"' in page
    (run / "episodes.json").write_text("{")
    page = write_report(run).read_text()
    assert 'id="episodes-charts"' not in page and "episodes.json</td>" in page
