"""Searches: what became of each candidate and why, from ledgers that the real writer has written."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from agents.search_ledger import Ledger
from configs.errors import UserError
from tests.watch import search_samples
from tests.watch.search_samples import ID, write_search
from tests.watch.test_report import ATTACK
from watch import report
from watch.board import Board
from watch.report import write_report
from watch.search_reader import find_searches, read_search
from watch.search_report import write_search_report
from watch.search_tree import Searches, arms, details, lineage, outcome, place, summary


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_search(folder)
    return folder


@pytest.fixture(scope="module")
def search(runs):
    return read_search(runs / "sweeps" / ID, runs)


def said(search, name):
    return outcome(search.candidates[name], search)


def test_what_became_of_each_candidate(search):
    assert search.state == "finished" and search.reason is None
    assert said(search, "model-g2s0") == ("best", "Winner of its arm, chosen by new seeds on select; trained in full.")
    assert said(search, "model-g1s0") == ("finished", "Trained in full.")
    kind, why = said(search, "model-g0s2")
    assert kind == "stopped"
    assert why == (
        "Stopped early after 750\u202f000 steps: its fitness of 0.300 on select was below 0.350, "
        "the lowest that went on."
    )
    assert said(search, "model-g1s3") == ("rejected", "Did not pass the dry run: component 'slip' is nan")
    assert said(search, "human")[0] == "finished"


def test_finals_that_all_failed_are_no_success(tmp_path):
    folder = write_search(tmp_path, finished=False)
    ledger = Ledger(folder)
    for candidate, arm in (("model-g2s0", "model"), ("human", "human")):
        for seed in (1000, 1001):
            ledger.add("final", f"{candidate}-seed{seed}", candidate=candidate, arm=arm, seed=seed, ok=False,
                       fitness=None, problem="out of memory")  # fmt: skip
        ledger.add("winner", arm, candidate=candidate, select={})
    found = read_search(folder, tmp_path)
    assert said(found, "model-g2s0")[1].endswith("every training with new seeds failed.")
    assert said(found, "human")[0] == "failed"
    Ledger(folder).add("final", "again", candidate="human", arm="human", seed=1002, ok=True,
                       fitness={"mean": 0.5}, problem=None)  # fmt: skip
    assert said(read_search(folder, tmp_path), "human")[0] == "finished"


@pytest.mark.parametrize(
    ("event", "content", "kind", "words"),
    [
        ("proposal", {"error": "the provider is overloaded"}, "rejected", "No answer: the provider is overloaded"),
        ("checked", {"ok": False, "stage": "check", "problems": ["imports os"]}, "rejected", "the check of its text"),
        ("approval", {"approved": [], "rejected": ["x"]}, "rejected", "A person did not approve"),
        ("trained", {"candidate": "x", "rung": 0, "ok": False, "env_steps": 9000, "problem": "reward is nan"}, "failed",
         "Its training failed after 9\u202f000 steps: reward is nan"),
        ("checked", {"ok": True}, "running", "In training."),
    ],
)  # fmt: skip
def test_other_ends(tmp_path, event, content, kind, words):
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.add("search", "search", task="go2-walk", proposer="model", rungs=[1000])
    own = {"arm": "model", "generation": 0, "sample": 0, "folder": "go2-walk/x", "parents": []}
    ledger.add("proposal", "x", **own, **(content if event == "proposal" else {}))
    if event != "proposal":
        ledger.add(event, {"approval": "model-g0", "trained": "x/0"}.get(event, "x"), **content)
    found = outcome(read_search(folder, tmp_path).candidates["x"], read_search(folder, tmp_path))
    assert found[0] == kind and words in found[1]


def test_the_tree(search):
    assert arms(search) == ["model", "human"]
    places = place(search)
    assert {name: places[name][0] for name in ("model-g0s0", "model-g1s3", "model-g2s2")} == {
        "model-g0s0": 0, "model-g1s3": 1, "model-g2s2": 2,
    }  # fmt: skip
    assert len(set(places.values())) == len(search.candidates)  # no card covers another
    assert places["human"][1] > max(row for name, (_, row) in places.items() if name != "human")
    assert lineage(search, "model-g2s0") == ["model-g2s0", "model-g1s0", "model-g0s0"]


def test_a_line_for_the_list(search):
    line = summary(search)
    assert (line["candidates"], line["trained"], line["stopped"], line["rejected"]) == (13, 7, 3, 3)
    assert line["cost"] == pytest.approx(12 * 0.0255, rel=1e-3) and line["fitness"] == pytest.approx(0.8)


def test_what_the_board_is_given(search):
    digests: dict[str, str] = {}
    tree = details(search, digests)
    node = next(node for node in tree["nodes"] if node["name"] == "model-g1s1")
    assert node["parents"] == ["model-g0s0"] and node["gaming"]["correlation"] == -0.4
    assert "def reward" in digests[node["reward"]] and node["reflection"] == search_samples.REFLECTION
    assert [rung["steps"] for rung in node["rungs"]] == [750_000, 3_000_000]
    model, human = tree["arms"]
    assert (model["select"], model["report"], human["select"]) == (0.78, 0.73, 0.71)
    json.dumps(tree, allow_nan=False)


def test_a_search_that_was_killed(tmp_path):
    folder = write_search(tmp_path, finished=False, generations=1)
    assert read_search(folder, tmp_path).state == "running"
    assert read_search(folder, tmp_path, now=time.time() + 3600).state == "killed"
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"event": "trained", "key"')
    found = read_search(folder, tmp_path)
    assert found.damaged == 1 and len(found.candidates) == 4


@pytest.mark.parametrize("content", ["", "x\n", '{"event": "ranked", "key": "a"}\n', "[1]\n" * 5, "\0\0"])
def test_a_ledger_that_is_none(tmp_path, content):
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    (folder / "ledger.jsonl").write_text(content)
    found = read_search(folder, tmp_path)
    assert found.state == "broken" and "does not begin with a search" in found.reason


def hostile_search(runs):
    """Every text attacks, every number has another form, folders lead elsewhere, parents go in a circle."""
    folder = runs / "sweeps" / "2026-11-22_<img src=x onerror=alert(9)>"
    folder.mkdir(parents=True)
    ledger = Ledger(folder)
    ledger.add("search", "search", task=ATTACK, proposer=ATTACK, rungs=["x", None], generations=ATTACK, trust=ATTACK)
    run = runs / "go2-walk" / "hostile"
    run.mkdir(parents=True)
    (run / "reward.py").write_text(f'"""{ATTACK}"""\n# {ATTACK}\ndef reward(s): return {{"{ATTACK}": 1}}\n')
    (run / "reflection.md").write_text(ATTACK)
    for name, folder_name, parents in (
        (ATTACK, "go2-walk/hostile", ["b", ATTACK]), ("b", "../../etc", [ATTACK, "b", "gone"]),
        ("c", 7, "x"), ("__proto__", "go2-walk/hostile", ["constructor"]),
        ("constructor", "/etc/passwd", ["__proto__"]),
    ):  # fmt: skip
        ledger.add("proposal", name, arm=ATTACK, generation="x", sample=1e300, folder=folder_name, parents=parents,
                   model=ATTACK, input_tokens="x", cost_usd="free", error=None)  # fmt: skip
        ledger.add("checked", name, ok=name != "b", stage=ATTACK, problems=[ATTACK, 5, {}])
    ledger.add("trained", "x/0", candidate=ATTACK, rung="x", fitness={"mean": "x"})
    ledger.add("trained", "x/1", candidate=ATTACK, rung=1, ok=False, fitness={"mean": 0.5}, problem=ATTACK)
    ledger.add("stopped", "c", candidate="c", rung=None, bar=ATTACK)
    ledger.add("reflected", ATTACK, candidate=ATTACK, gaming={"suspected": True, "correlation": ATTACK})
    ledger.add("ranked", "r", arm=ATTACK, ranking=[[ATTACK, "x"], 5, []], best=ATTACK)
    ledger.add("exhausted", "e", arm=ATTACK, reason=ATTACK)
    ledger.add("final", "f", candidate=ATTACK, arm=ATTACK, seed=1, fitness=None, problem=ATTACK)
    ledger.add("approval", "a", rejected=[ATTACK, {}])
    return folder


def test_hostile_ledgers_are_read(tmp_path):
    found = read_search(hostile_search(tmp_path), tmp_path)
    assert found.candidates["b"].folder is None and found.candidates["constructor"].folder is None
    assert found.candidates["b"].code is None and found.candidates["constructor"].code is None
    json.dumps(details(found, {}), allow_nan=False)
    page = Board(tmp_path).html()
    assert "<img src=x" not in page and "\u2028" not in page


def test_links_out_of_the_runs_are_not_followed(tmp_path):
    write_search(tmp_path, generations=1)
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "reward.py").write_text("SECRET")
    run = tmp_path / "go2-walk" / f"{ID}-model-g0s0"
    run.rename(tmp_path / "moved")
    os.symlink(secret, run)
    assert read_search(tmp_path / "sweeps" / ID, tmp_path).candidates["model-g0s0"].code is None


def test_sweeps_of_hydra_are_no_searches(tmp_path):
    (tmp_path / "sweeps" / "2026-11-20_10-00-00" / "0").mkdir(parents=True)
    assert list(find_searches(tmp_path)) == []
    assert list(find_searches(tmp_path / "nothing")) == []


def test_a_refresh_reads_only_what_has_grown(tmp_path, monkeypatch):
    folder = write_search(tmp_path)
    searches = Searches(tmp_path)
    assert searches.refresh() == {ID}
    monkeypatch.setattr("watch.search_tree.read_search", lambda *a: pytest.fail("was read again"))
    assert searches.refresh() == set()
    monkeypatch.undo()
    Ledger(folder).add("exhausted", "x", arm="model", reason="no money")
    assert searches.refresh() == {ID} and searches.found[ID].exhausted == ["model: no money"]
    (folder / "ledger.jsonl").unlink()
    assert searches.refresh() == {ID} and searches.found == {}


def test_the_report_of_a_search(tmp_path, monkeypatch, capsys):
    folder = write_search(tmp_path, generations=1)
    monkeypatch.setattr("sys.argv", ["gantry report", str(folder)])
    report.main()
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["search"]["id"] == ID and len(data["tree"]["nodes"]) == 5 and data["reports"] == {}
    write_report(tmp_path / "go2-walk" / f"{ID}-model-g0s0")
    page = write_search_report(folder).read_text()
    assert f"../../go2-walk/{ID}-model-g0s0/report.html" in page
    assert "<img src=x" not in write_search_report(hostile_search(tmp_path)).read_text()
    with pytest.raises(UserError, match="is no search; give a folder like runs/sweeps/TIME-NAME"):
        write_search_report(tmp_path)
