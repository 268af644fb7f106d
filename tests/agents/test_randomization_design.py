"""Designs on the cartpole: real trainings of a few hundred steps, answers written by hand, and no network."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from agents import checkpoint, randomization_design, search_ledger
from agents.design_jobs import DesignJobs
from agents.design_settings import base_ranges
from agents.fine_tuning import STILL, start_from
from agents.randomization_design import KIND, Design
from agents.training import Training
from agents.work_folder import WorkFolder, find_or_start
from configs.errors import UserError
from envs import tasks
from tests.agents.confined import needs_confinement
from tests.agents.launchers import two_at_once
from tests.agents.range_answers import Written

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), needs_confinement]
TINY = (
    "task=cartpole-swingup", "env_steps=640", "tune_env_steps=384", "choose_env_steps=256", "threads=1", "samples=3",
    "final_seeds=2", "episodes=4", "evaluation_seeds=2", "report_episodes=4", "report_seeds=1", "prior_values=5",
    "prior_episodes=3", "prior_seconds=2.0", "success=1e-30", "ppo.num_envs=16", "ppo.n_steps=8",
    "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]", "arms=[designed,none,cem]",
    "curriculum={until: 0.5, start: {joint_damping: [2.0, 4.0]}}", "widen=0.4", "widen_falls_per_minute=3",
)  # fmt: skip


def configure(runs: Path, *overrides: str) -> dict[str, Any]:
    """The resolved configuration of a tiny design, as `gantry randomize` would make it."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    with initialize_config_module("configs", version_base="1.3"):
        config = compose("randomize", [*TINY, f"runs={runs}", *overrides])
    resolved = OmegaConf.to_container(config, resolve=True)
    assert isinstance(resolved, dict)
    return resolved  # type: ignore[return-value]


def design(config: dict[str, Any], provider: Written) -> tuple[WorkFolder, dict[str, Any]]:
    folder = find_or_start(KIND, config)
    return folder, Design(folder, two_at_once, provider, say=lambda line: None).run()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorkFolder, dict[str, Any], Written]:
    """A finished design, its table, and who was asked."""
    runs = tmp_path_factory.mktemp("design")
    provider = Written(runs / "asked.log")
    folder, table = design(configure(runs), provider)
    return folder, table, provider


def test_every_arm_has_the_same_budget_and_seeds(finished):
    folder, table, _ = finished
    assert list(table["arms"]) == ["designed", "none", "cem"]
    for arm, row in table["arms"].items():
        assert len(row["fitness"]) == len(row["runs"]) == 2 and row["failed"] == 0
        for run in row["runs"]:
            config = yaml.safe_load((folder.runs / run / "config.yaml").read_text())
            assert config["env_steps"] == 384 and config["seed"] in table["seeds"], arm
        assert row["widths"] == [1.0, 1.0]
    finals = folder.ledger.all("final")
    assert [f["key"] for f in finals] == [f"{arm}-seed{s}" for arm in table["arms"] for s in (1000, 1001)]
    assert {e["key"] for e in folder.ledger.all("reported")} == {f["key"] for f in finals}


def test_the_choice_is_made_on_select_alone(finished):
    folder, table, _ = finished
    chosen = {event["key"]: event for event in folder.ledger.all("chosen")}
    for arm in ("designed", "cem"):
        select = chosen[arm]["select"]
        assert chosen[arm]["proposal"] == max(select, key=lambda name: select[name])
    assert chosen["none"]["select"] == {}, "what has no rival is trained in the finals alone"
    assert {arm: row["proposal"] for arm, row in table["arms"].items()} == {a: c["proposal"] for a, c in chosen.items()}
    reports = {p.parent.name.removeprefix(f"{folder.id}-") for p in folder.runs.glob("*/*/report.json")}
    assert reports == {f["key"] for f in folder.ledger.all("final")}, "nothing but the finals reads report physics"
    rows = {f["key"]: f for f in folder.ledger.all("final") if f["arm"] == "designed"}
    assert table["best_run"] == max(rows.values(), key=lambda row: row["select"])["folder"]


def test_proposals_train_the_same_policy_further(finished):
    folder, _, _ = finished
    jobs = [json.loads(p.read_text()) for p in (folder.path / "jobs").glob("*.rung0.json")]
    tuned = [job for job in jobs if job["arm"] != "base"]
    assert sorted(job["target"] for job in tuned) == [256] * (2 + 3) + [384] * 3 * 2, "to choose, then to keep"
    base_run = folder.candidate("base-seed0")
    assert {job["initial"] for job in tuned} == {str(base_run / "train" / "checkpoint.pt")}
    own, taken_back = (checkpoint.read(path / "checkpoint.pt") for path in (base_run / "train", base_run))
    assert own["learner"] and all(torch.equal(own["policy"][k], v) for k, v in taken_back["policy"].items())
    [base] = [job for job in jobs if job["arm"] == "base"]
    assert base["ranges"] == {} and base["initial"] is None and base["target"] == 640
    curriculum = {"until": 0.5, "start": {"joint_damping": [2.0, 4.0]}}
    assert base["config"]["curriculum"] == curriculum, "which is for those who begin"
    widening = {"until": 0.4, "start": "neutral", "falls_per_minute": 3}
    assert all(job["config"]["curriculum"] == widening for job in tuned)


def test_ranges_reach_the_training_with_their_reasons(finished):
    folder, _, _ = finished
    text = (folder.candidate("designed-s0") / "randomization.yaml").read_text()
    assert "# scales weigh to a few per cent" in text and "fixture" in text
    assert yaml.safe_load(text) == {
        "link_mass": [0.9, 1.1],
        "motor_strength": [0.95, 1.05],
        "joint_damping": [0.8, 1.3],
    }
    assert not folder.ledger.get("proposal", "designed-s2")["usable"]


def test_the_cross_entropy_method_learns_from_its_first_round(finished):
    folder, _, _ = finished
    notes = [folder.ledger.get("proposal", f"cem-s{k}")["note"][0] for k in range(3)]
    assert ["round 1" in note for note in notes] == [True, True, False]
    order = [(e["event"], e["key"]) for e in folder.ledger]
    assert order.index(("tuned", "cem-s1")) < order.index(("proposal", "cem-s2"))


def test_running_it_again_does_nothing(finished):
    folder, table, provider = finished
    asked = provider.log.read_text()

    def no_launch(jobs: Sequence[Path]) -> None:
        raise AssertionError(f"launched {jobs}")

    found = find_or_start(KIND, {**configure(folder.runs), "resume": str(folder.path)})
    assert Design(found, no_launch, provider, say=lambda line: None).run() == table
    assert provider.log.read_text() == asked


def test_it_goes_on_from_a_given_run(tmp_path, finished_run):
    config = configure(tmp_path, f"run={finished_run}", "arms=[human]", "final_seeds=1")
    folder, table = design(config, Written(tmp_path / "log"))
    assert [e["run"] for e in folder.ledger.all("base")] == [finished_run.name]
    human = folder.ledger.get("proposal", "human")["ranges"]
    assert human == {n: list(r) for n, r in tasks.get("cartpole-swingup").randomization.items()}
    assert table["arms"]["human"]["low"] is None and not (folder.path / "physics_prior.json").exists()
    assert not list(tmp_path.glob("cartpole-swingup/*base*"))


def test_a_prior_of_other_settings_is_not_taken_over(tmp_path, finished_run):
    """By its own threshold the policy fails at nominal; what the message advises must then count."""
    run = tmp_path / "given"
    shutil.copytree(finished_run, run)
    overrides = [f"run={run}", "arms=[prior]", "final_seeds=1", "prior_terms=[link_mass,joint_damping]"]
    with pytest.raises(UserError, match=r"fitness 0.7 in 0% of its episodes on nominal physics.*lower the threshold"):
        design(configure(tmp_path / "a", *overrides, "success=null"), Written(tmp_path / "log"))
    strict = (run / "physics_prior.json").read_text()
    folder, table = design(configure(tmp_path / "b", *overrides), Written(tmp_path / "log"))
    assert set(table["arms"]["prior"]["ranges"]) == {"link_mass", "joint_damping"}
    assert (run / "physics_prior.json").read_text() == strict != (folder.path / "physics_prior.json").read_text()


def test_final_seeds_can_have_bases_of_their_own(tmp_path):
    folder, _ = design(configure(tmp_path, "arms=[no_prior]", "own_bases=true", "samples=1"), Written(tmp_path / "log"))
    assert [e["key"] for e in folder.ledger.all("base")] == ["0", "1000", "1001"]
    for seed in (1000, 1001):
        job = json.loads((folder.path / "jobs" / f"no_prior-seed{seed}.rung0.json").read_text())
        assert f"base-seed{seed}" in job["initial"] and job["config"]["seed"] == seed


def test_without_answers_it_stops_and_can_be_resumed(tmp_path):
    config = configure(tmp_path, "arms=[designed]", "final_seeds=1", "samples=1")
    folder = find_or_start(KIND, config)
    with pytest.raises(UserError, match="nothing written"):
        Design(folder, two_at_once, Written(tmp_path / "log", {}), say=lambda line: None).run()
    found = find_or_start(KIND, {**config, "resume": True})
    assert found.path == folder.path
    table = Design(found, two_at_once, Written(tmp_path / "log"), say=lambda line: None).run()
    assert table["arms"]["designed"]["proposal"] == "designed-s0"
    events = search_ledger.read(folder.path / "randomize.jsonl")
    assert sum(e["event"] == "base" for e in events) == 1


def test_fine_tuning_begins_where_the_other_run_ended(tmp_path, finished_run):
    content = checkpoint.read(finished_run / "checkpoint.pt")
    loaded = checkpoint.load_policy(finished_run)
    config = yaml.safe_load((finished_run / "config.yaml").read_text())
    ppo = Training(config, tmp_path, finished_run / "reward.py", {}).ppo
    critic = torch.randn(5, ppo.environment.critic_size)
    start_from(ppo, finished_run / "checkpoint.pt")
    observation = torch.randn(5, loaded.observation.size)
    assert torch.equal(ppo.policy.mean_action(observation), loaded.act(observation))
    seen = loaded.policy.critic_normalizer.variance
    still = seen < STILL
    assert still.any() and not still.all()
    assert torch.equal(ppo.policy.critic_normalizer.variance[~still], seen[~still])
    assert (ppo.policy.critic_normalizer.variance[still] == 1).all(), "what never moved starts unscaled"
    changed = torch.where(still, critic + 1.0, critic)
    assert torch.equal(ppo.policy.value(changed), ppo.policy.value(critic)), "and means nothing yet"
    assert ppo.adaptive_rate == content["learner"]["learning_rate"]
    assert [ppo.return_scale.mean, ppo.return_scale.variance] == content["learner"]["return_statistics"][:2]
    moments = ppo.policy.optimizer.state_dict()["state"]
    for key, value in content["optimizer"]["state"].items():
        assert torch.equal(moments[key]["exp_avg"], value["exp_avg"])


def test_a_base_may_be_trained_with_the_noise_that_people_chose(tmp_path):
    task = tasks.get("cartpole-swingup")
    noise = base_ranges(configure(tmp_path, "base_randomization=noise"), task)
    assert noise == {n: task.randomization[n] for n in ("joint_position_noise", "joint_velocity_noise")}
    given = "base_randomization={link_mass: [0.8, 1.2]}"
    assert base_ranges(configure(tmp_path, given), task) == {"link_mass": (0.8, 1.2)}
    folder = find_or_start(KIND, configure(tmp_path, given))
    job = DesignJobs(folder, tmp_path / "states.pt", two_at_once).base("base-seed0", "source", "reward", 0)
    assert job["ranges"] == {"link_mass": [0.8, 1.2]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms=[]", "arms is empty"),
        ("arms=[desinged]", "did you mean 'designed'"),
        ("arms=[none,none]", "names one twice"),
        ("samples=0", "samples=0; at least 1"),
        ("tune_env_steps=0", "tune_env_steps=0"),
        ("choose_env_steps=-1", "choose_env_steps=-1; at least 0"),
        ("widen=1.5", "widen=1.5; valid: 0"),
        ("widen_falls_per_minute=0", "widen_falls_per_minute=0"),
        ("widen=0", r"widen_falls_per_minute=3.* says when ranges narrow again, but with widen=0"),
        ("base_randomization=noisy", "randomization 'noisy' is no file; valid: task, none"),
        ("curriculum={until: 2}", "curriculum.until=2; valid: 0 to 1"),
        ("prior_terms=[friction]", "makes no difference"),
        ("prior_share=0", "needed_share=0"),
        ("reward=nowhere.py", "nowhere.py"),
        ("trust=blind", "unknown trust"),
    ],
)
def test_bad_settings_are_named(tmp_path, override, message):
    with pytest.raises(UserError, match=message):
        find_or_start(randomization_design.KIND, configure(tmp_path, override))
    assert not (tmp_path / "sweeps").exists()
