"""The whole loop on the cartpole with scripted answers: real trainings, a few hundred steps each, and no network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents import checkpoint, reward_search, search_ledger
from agents.llm_store import Store
from agents.search_folder import SearchFolder
from agents.search_settings import settings_of
from configs.errors import UserError
from tests.agents.confined import needs_confinement
from tests.agents.kill_search import GOOD, Scripted, launch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    needs_confinement,
]
ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "task=cartpole-swingup", "env_steps=640", "threads=1", "generations=2", "samples=2", "rungs=[0.4]",
    "finalists=1", "final_seeds=1", "episodes=4", "evaluation_seeds=1", "report_episodes=4", "report_seeds=1",
    "ppo.num_envs=16", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]", "arms=[human]",
)  # fmt: skip


def configure(runs: Path, *overrides: str) -> dict[str, Any]:
    """The resolved configuration of a tiny search, as `gantry search` would make it."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("search", [*TINY, f"runs={runs}", *overrides])
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def run(config: dict[str, Any], provider: Scripted, **options: Any) -> tuple[SearchFolder, dict[str, Any]]:
    folder = reward_search.find_or_start(config)
    return folder, reward_search.search(folder, launch, provider=provider, say=lambda line: None, **options)


def killed(config: dict[str, Any], *moments: str) -> SearchFolder:
    """A search that is killed again and again, and that ends all the same; see kill_search.py."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.agents.kill_search", json.dumps(config), *moments],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return SearchFolder(Path(done.stdout.split()[-1]), settings_of(config))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchFolder, dict[str, Any]]:
    """A finished search and its table. It was killed and resumed twice.

    First after 4 results, two answers and two checks, so in the first training; then after 14 of 18, in the finals.
    """
    runs = tmp_path_factory.mktemp("search")
    folder = killed(configure(runs), "at", "4", "14")
    return folder, json.loads((folder.path / "table.json").read_text())


def test_killed_and_resumed(finished):
    """What was on disk was not done again (kill_search.py looks), and no question was asked twice."""
    folder, _ = finished
    events = search_ledger.read(folder.path / "ledger.jsonl")
    assert [e["event"] for e in events].count("resumed") == 2
    assert (folder.runs / "asked.log").read_text().split() == ["g0s0", "g0s1", "g1s0", "g1s1"]
    kinds = [(e["event"], e["key"]) for e in events]
    assert len(set(kinds)) == len(kinds) and kinds[-1] == ("table", "table")


def test_the_table(finished):
    _, table = finished
    assert list(table["arms"]) == ["model", "human"]
    model, human = table["arms"]["model"], table["arms"]["human"]
    for row in (model, human):
        assert row["fitness"] == [row["mean"]] and 0 < row["mean"] <= 1
        assert row["low"] is None and row["high"] is None, "one seed has no interval; test_search_table.py has more"
    difference = table["differences"]["human"]
    assert difference["mean"] == pytest.approx(model["mean"] - human["mean"]) and difference["better"] is None
    assert table["candidates"] == 4 and table["counts"]["model"]["answered"] == 4
    assert table["counts"]["model"]["executed"] == 2 and table["executed_share"] == 0.5
    assert table["cost_usd"] == pytest.approx(0.04) and table["tokens"] == 4400


def test_only_the_finals_read_the_report_physics(finished):
    folder, _ = finished
    reports = {path.parent.name.removeprefix(f"{folder.id}-") for path in folder.runs.glob("*/*/report.json")}
    [winner] = [e["candidate"] for e in folder.ledger.all("winner") if e["key"] == "model"]
    assert reports == {f"{name}-seed1000" for name in (winner, "human")}


def test_stages_are_recorded(finished):
    folder, _ = finished
    ledger = folder.ledger
    assert ledger.get("checked", "model-g0s0")["ok"]
    refused = ledger.get("checked", "model-g0s1")
    assert not refused["ok"] and refused["stage"] == "check" and "import os" in refused["problems"][0]
    stages = [(e["key"], e["env_steps"]) for e in ledger.all("trained") if e["ok"]]
    assert ("model-g0s0/0", 256) in stages and ("model-g0s0/1", 640) in stages
    late = ledger.get("trained", "model-g1s1/0")
    assert not late["ok"] and "'early' is nan" in late["problem"]
    assert "model-g1s0/1" in [key for key, _ in stages], "the only one left goes on"


def test_a_candidate_is_an_ordinary_run(finished):
    folder, _ = finished
    path = folder.candidate("model-g0s0")
    record = json.loads((path / "run.json").read_text())
    assert record["kind"] == "candidate" and record["state"] == "finished" and record["env_steps"] == 640
    assert record["search"] == folder.id and record["candidate"] == "model-g0s0" and record["model_cost_usd"] == 0.01
    assert yaml.safe_load((path / "config.yaml").read_text())["env_steps"] == 640
    assert len((path / "progress.jsonl").read_text().splitlines()) == 5
    assert checkpoint.load_policy(path).task.name == "cartpole-swingup"
    text = (path / "reward.py").read_text()
    assert "script-1" in text and "import torch" in text and "'balance'" in text
    assert (path / "answer.md").read_text() == GOOD
    from envs import rewards

    assert callable(rewards.load(path / "reward.py")), "reward=FILE takes it as it is"
    with pytest.raises(UserError, match="does not fit"):
        from agents.training import Training

        Training({**json.loads(json.dumps(folder.settings.train))}, path, path / "reward.py", {}).resume()


def test_the_conversation(finished):
    folder, _ = finished
    asked = {record.request.place: record.request for record in Store(folder.path / "llm").records()}
    first = asked["g0s0"]
    assert [m.role for m in first.messages] == ["system", "user"]
    assert "real robot" in first.messages[0].content
    second = asked["g1s1"]
    assert [m.role for m in second.messages] == ["system", "user", "assistant", "user"]
    assert "'balance'" in second.messages[2].content
    told = second.messages[3].content
    assert "- upright:" in told and "Fitness, measured apart" in told
    assert "sample 1: not usable" in told and "`import os` is not allowed" in told
    kept = json.loads((folder.path / "prompts" / "model-g1.json").read_text())
    assert [m["content"] for m in kept] == [m.content for m in second.messages]


def test_running_it_again_does_nothing(finished):
    folder, table = finished
    before = {path: path.stat().st_mtime_ns for path in folder.runs.rglob("*.json") if path.name != "table.json"}
    config = {**configure(folder.runs), "resume": str(folder.path)}
    provider = Scripted(folder.runs / "again.log")

    def no_launch(jobs: Any) -> None:
        raise AssertionError(f"launched {jobs}")

    again = reward_search.search(
        reward_search.find_or_start(config), no_launch, provider=provider, say=lambda line: None
    )
    assert again == table and not provider.requests
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_it_runs_once_at_a_time(finished):
    folder, _ = finished
    other = SearchFolder(folder.path, folder.settings)
    with other.locked(), pytest.raises(UserError, match="running already"):
        reward_search.search(folder, launch, provider=Scripted(folder.runs / "again.log"))


def test_a_person_rejects_code(tmp_path):
    shown: list[tuple[str, list[str]]] = []

    def approve(key: str, candidates: Any, best: Any) -> set[str]:
        shown.append((key, [c.name for c in candidates]))
        return set()

    config = configure(tmp_path, "approve=ask", "generations=1", "arms=[]")
    folder, table = run(config, Scripted(tmp_path / "asked.log"), approve=approve)
    assert shown == [("model-g0", ["model-g0s0"])], "what was refused is not shown"
    assert folder.ledger.get("approval", "model-g0")["rejected"] == ["model-g0s0"]
    assert folder.ledger.all("trained") == [] and table["arms"] == {}


def test_no_answer_at_all_stops_and_can_be_resumed(tmp_path):
    config = configure(tmp_path, "generations=1", "samples=1", "arms=[]")
    folder = reward_search.find_or_start(config)
    with pytest.raises(UserError, match="nothing scripted"):
        reward_search.search(folder, launch, provider=Scripted(tmp_path / "log", {}), say=lambda line: None)
    found = reward_search.find_or_start({**config, "resume": True})
    assert found.path == folder.path
    assert [e["event"] for e in search_ledger.read(folder.path / "ledger.jsonl")] == ["search", "resumed"]


@pytest.mark.optin  # some minutes
def test_killed_at_ten_random_moments(tmp_path):
    """Ends in the same table and the same prompts as a search that was left alone."""
    whole, table = run(configure(tmp_path / "whole"), Scripted(tmp_path / "whole.log"))
    folder = killed(configure(tmp_path / "killed"), "10", "7")
    ours = json.loads((folder.path / "table.json").read_text())
    assert {**ours, "id": None} == {**table, "id": None}
    for path in (whole.path / "prompts").iterdir():
        assert (folder.path / "prompts" / path.name).read_text() == path.read_text()
    events = search_ledger.read(folder.path / "ledger.jsonl")
    assert sum(e["event"] == "resumed" for e in events) >= 5, "it was killed after it had begun"
    kinds = [(e["event"], e["key"]) for e in events if e["event"] != "resumed"]
    assert kinds == [(e["event"], e["key"]) for e in whole.ledger if e["event"] != "resumed"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("proposer=modle", "did you mean 'model'"),
        ("arms=[humn]", "did you mean 'human'"),
        ("rungs=[0.5,0.2]", "growing shares"),
        ("keep=0", "keep=0"),
        ("samples=0", "samples=0; at least 1"),
        ("approve=maybe", "unknown approve"),
        ("trust=blind", "unknown trust"),
    ],
)
def test_bad_settings_are_named(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        reward_search.find_or_start(configure(tmp_path, override))
    assert not (tmp_path / "sweeps").exists()
