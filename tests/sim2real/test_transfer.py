"""The whole way on the cartpole, from answers written by hand: real trainings of a few hundred steps, and no network.

What so small a policy is worth does not matter here; so any fitness above nothing counts as success for the prior.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import ConfigCompositionException

from agents import search_ledger
from agents.work_folder import find_or_start
from configs.errors import UserError
from sim2real import transfer
from sim2real.bundle import Bundle
from tests.agents.confined import needs_confinement
from tests.agents.launchers import two_at_once
from tests.sim2real.kill_transfer import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_confinement]
ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "task=cartpole-swingup", "env_steps=640", "threads=1", "video=false", "tours=1",
    "ppo.num_envs=16", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]",
    "search={generations: 1, samples: 2, rungs: [], arms: [], finalists: 1, final_seeds: 1, episodes: 4,"
    " report_episodes: 4, report_seeds: 1}",
    "ranges={samples: 3, arms: [designed], tune_env_steps: 384, final_seeds: 2, episodes: 4, evaluation_seeds: 2,"
    " report_episodes: 4, report_seeds: 1, prior_values: 5, prior_episodes: 3, prior_seconds: 2.0, success: 1.0e-30}",
)  # fmt: skip


def configure(runs: Path, *overrides: str) -> dict[str, Any]:
    """The resolved configuration of a tiny transfer, as `gantry transfer` would make it."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("transfer", [*TINY, f"runs={runs}", *overrides])
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of a finished transfer, log of who was asked)"""
    runs = tmp_path_factory.mktemp("transfer")
    return run(configure(runs), runs / "asked.log", two_at_once), runs / "asked.log"


def policy_of(folder: Path) -> dict[str, Any]:
    """What a bundle is, apart from when and where it was made."""
    contract = json.loads((folder / "bundle" / "contract.json").read_text())
    own = {key: value for key, value in contract.items() if key not in ("provenance", "sha256")}
    return own | {"graph": (folder / "bundle" / "policy.onnx").read_bytes()}


def test_all_stages_and_their_results(finished):
    folder, _ = finished
    events = search_ledger.read(folder / "transfer.jsonl")
    assert [e["key"] for e in events if e["event"] == "stage"] == ["search", "ranges", "export", "tour", "report"]
    result = json.loads((folder / "result.json").read_text())
    assert result["reward"]["candidate"].startswith("model-g0")
    assert "scripted" not in (folder / "reward.py").read_text() and "def reward" in (folder / "reward.py").read_text()
    assert result["ranges"]["proposal"].startswith("designed-s") and result["ranges"]["ranges"]
    bundle = Bundle.load(folder / "bundle")
    assert bundle.contract.task == "cartpole-swingup" and bundle.contract.sha256 == result["bundle"]["sha256"]
    assert result["tour"]["tours"] == 1 and len(json.loads((folder / "tours.json").read_text())["tours"]) == 1
    page = (folder / "report.html").read_text()
    assert "scales weigh to a few per cent" in page and "Physics that the policy survives" in page


def test_each_stage_asks_for_what_it_should(finished):
    _, log = finished
    assert sorted(log.read_text().split()) == ["g0s0", "g0s0.designed", "g0s1", "g0s1.designed", "g0s2.designed"]


def test_the_design_stayed_inside_the_prior(finished):
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    design = folder.parent / result["ranges"]["folder"]
    prior = json.loads((design / "physics_prior.json").read_text())
    proposals = [e for e in search_ledger.read(design / "randomize.jsonl") if e["event"] == "proposal"]
    assert [p["usable"] for p in proposals] == [True, True, False]
    for proposal in proposals:
        for name, (low, high) in proposal["ranges"].items():
            bound = prior["terms"][name]["range"]
            assert bound[0] <= low <= high <= bound[1], name
    assert "horsepower is no parameter on offer" in " ".join(proposals[1]["problems"])
    tuned = [e for e in search_ledger.read(design / "randomize.jsonl") if e["event"] == "tuned"]
    assert [t["key"] for t in tuned] == ["designed-s0", "designed-s1"]
    table = json.loads((design / "table.json").read_text())
    assert table["best_run"] == result["ranges"]["run"] and len(table["arms"]["designed"]["fitness"]) == 2


def test_running_it_again_does_nothing(finished):
    folder, log = finished
    asked = log.read_text()
    before = {p: p.stat().st_mtime_ns for p in folder.parent.parent.rglob("*") if p.is_file() and p.name != ".lock"}
    run(configure(folder.parent.parent, f"resume={folder}"), log)
    assert log.read_text() == asked
    changed = [p for p, stamp in before.items() if p.stat().st_mtime_ns != stamp and p.name != "result.json"]
    assert changed == []


@pytest.mark.parametrize(
    "when", ["stages", pytest.param("events", marks=pytest.mark.optin),
             pytest.param("random:10:3", marks=pytest.mark.optin)]
)  # fmt: skip
def test_killed_it_resumes_to_the_same_bundle(tmp_path, finished, when):
    done = subprocess.run(
        [sys.executable, "-m", "tests.sim2real.kill_transfer", json.dumps(configure(tmp_path)), when],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    folder = Path(done.stdout.split()[-1])
    assert policy_of(folder) == policy_of(finished[0])
    ours, whole = (json.loads((f / "result.json").read_text()) for f in (folder, finished[0]))
    for key in ("candidate", "fitness"):
        assert ours["reward"][key] == whole["reward"][key]
    for key in ("proposal", "ranges", "fitness"):
        assert ours["ranges"][key] == whole["ranges"][key]
    if when == "stages":
        assert "6 attempts" in done.stderr, "it died after each of the five stages"


def test_a_given_reward_needs_no_search(tmp_path):
    config = configure(tmp_path, "reward=human", "ranges.arms=[none]", "ranges.final_seeds=1", "tours=0")
    folder = run(config, tmp_path / "log", two_at_once)
    result = json.loads((folder / "result.json").read_text())
    assert result["reward"] == {"folder": None, "candidate": "human", "fitness": None, "replayed": False}
    assert result["ranges"]["ranges"] == {} and (folder / "bundle" / "policy.onnx").is_file()
    assert not (tmp_path / "log").exists(), "nobody was asked"


def test_a_policy_that_fails_at_nominal_physics_stops_it(tmp_path):
    config = configure(tmp_path, "reward=human", "ranges.success=0.9", "tours=0")
    with pytest.raises(UserError, match="on nominal physics, and 50% are needed; train it longer"):
        run(config, tmp_path / "log")


@pytest.mark.parametrize("override", ["ranges.run=somewhere", "search.task=go2-walk", "search.samples=many"])
def test_settings_of_a_stage_are_checked_like_any_other(tmp_path, override):
    with pytest.raises(ConfigCompositionException):
        configure(tmp_path, override)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("tour_physics=mars", "unknown physics set"),
        ("tours=-1", "tours=-1"),
        ("reward=nowhere.py", "nowhere.py"),
        ("ranges.arms=[desinged]", "did you mean 'designed'"),
        ("ranges.samples=0", "samples=0; at least 1"),
        ("search.keep=0", "keep=0"),
    ],
)
def test_bad_settings_are_named_before_anything_begins(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        find_or_start(transfer.KIND, configure(tmp_path, override))
    assert not (tmp_path / "sweeps").exists()
