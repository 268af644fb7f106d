"""Starting a search and finding it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agents import reward_search, search_folder
from configs.errors import UserError
from envs import physics
from tests.agents.confined import needs_confinement

ROOT = Path(__file__).resolve().parents[2]

pytestmark = needs_confinement


def configure(runs: Path, *overrides: str) -> dict[str, Any]:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("search", ["task=cartpole-swingup", "threads=1", f"runs={runs}", *overrides])
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def test_what_a_search_folder_says(tmp_path):
    folder = reward_search.find_or_start(configure(tmp_path, "seed=4"))
    assert folder.path.parent == tmp_path / "sweeps" and folder.path.name.endswith("-search")
    content = json.loads((folder.path / "search.json").read_text())
    assert content["task"] == "cartpole-swingup" and content["config"]["seed"] == 4 and content["versions"]["torch"]
    run = folder.candidate("model-g0s0")
    assert run == tmp_path / "cartpole-swingup" / f"{folder.id}-model-g0s0"
    assert folder.relative(run) == f"cartpole-swingup/{folder.id}-model-g0s0"
    single = folder.settings.train
    assert single["video"] is False and single["evaluate"] is False and "resume" not in single and "llm" not in single
    own = yaml.safe_load((ROOT / "configs/task/cartpole-swingup.yaml").read_text())
    assert single["env_steps"] == own["env_steps"] and single["ppo"]["num_envs"] == own["ppo"]["num_envs"]


def test_one_is_resumed_as_it_was_started(tmp_path):
    first = reward_search.find_or_start(configure(tmp_path, "seed=4", "samples=3"))
    again = reward_search.find_or_start({**configure(tmp_path, "samples=7"), "resume": str(first.path)})
    assert again.path == first.path and again.settings.samples == 3 and again.settings.seed == 4
    assert again.settings.config == first.settings.config
    assert [e["event"] for e in again.ledger] == ["resumed"]


def test_one_of_an_earlier_version_lacks_a_setting(tmp_path):
    first = reward_search.find_or_start(configure(tmp_path))
    content = json.loads((first.path / "search.json").read_text())
    del content["config"]["memory_gb"]
    (first.path / "search.json").write_text(json.dumps(content))
    again = reward_search.find_or_start({**configure(tmp_path), "resume": str(first.path)})
    assert again.settings.memory_gb == 4.0 and again.settings.resume is False


def test_only_the_models_settings_may_change(tmp_path):
    first = reward_search.find_or_start(configure(tmp_path))
    config = {**configure(tmp_path, "llm=openai", "llm.limits.cost_usd=25"), "resume": str(first.path)}
    assert reward_search.find_or_start(config).settings.llm["kind"] == "inbox"
    changed = reward_search.find_or_start(config, new_llm=True).settings.llm
    assert changed["kind"] == "model" and changed["limits"]["cost_usd"] == 25


def test_the_newest_unfinished_one_with_this_configuration(tmp_path):
    def started(name: str, *overrides: str) -> search_folder.SearchFolder:
        folder = reward_search.find_or_start(configure(tmp_path, f"name={name}", *overrides))
        folder.ledger.add("search", "search")
        path = folder.path.rename(folder.path.with_name(name))
        return search_folder.SearchFolder(path, folder.settings)

    config = {**configure(tmp_path, "name=b"), "resume": True}
    with pytest.raises(UserError, match="no unfinished search with this configuration"):
        reward_search.find_or_start(config)
    started("a", "name=b")
    newest = started("c", "name=b", "llm=openai")  # the model may be another
    started("d", "name=b", "samples=3")
    done = started("e", "name=b")
    (done.path / "table.json").write_text("{}")
    (tmp_path / "sweeps" / "f").mkdir()
    (tmp_path / "sweeps" / "f" / "search.json").write_text("damaged")
    assert reward_search.find_or_start(config).path == newest.path


def test_other_physics_cannot_be_compared(tmp_path, monkeypatch):
    folder = reward_search.find_or_start(configure(tmp_path))
    monkeypatch.setattr(physics, "digest", lambda task: "000000000000")
    with pytest.raises(UserError, match="physics sets that have changed"):
        reward_search.find_or_start({**configure(tmp_path), "resume": str(folder.path)})


def test_folders_that_are_no_search(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        reward_search.find_or_start({**configure(tmp_path), "resume": str(tmp_path / "none")})
    with pytest.raises(UserError, match=r"search\.json"):
        reward_search.find_or_start({**configure(tmp_path), "resume": str(tmp_path)})


def test_where_code_cannot_be_confined(tmp_path, monkeypatch):
    from agents import confinement

    monkeypatch.setattr(confinement, "landlock_abi", lambda: 2)
    with pytest.raises(UserError, match="trust=unconfined"):
        reward_search.find_or_start(configure(tmp_path))
    accepted = reward_search.find_or_start(configure(tmp_path, "trust=unconfined"))
    assert len(accepted.settings.missing) == 1 and "Landlock" in accepted.settings.missing[0]
