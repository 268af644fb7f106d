"""The prior of a small policy, as file and as ranges."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from agents import physics_prior, train
from agents.checkpoint import load_policy
from agents.physics_prior import Settings, answers, measure, read, surviving_ranges, with_push_interval, write
from configs.errors import UserError
from envs import tasks

ANY = 1e-30
"""A fitness that even an untrained cartpole has: what counts here is the bookkeeping."""
SMALL = Settings(
    terms=("link_mass", "motor_strength", "joint_position_noise"), values=5, episodes=3, seconds=1.0, threshold=ANY,
    threads=1,
)  # fmt: skip


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_the_file(run):
    content = measure(load_policy(run), SMALL)
    path = write(run, content)
    assert path == run / "physics_prior.json" and read(run) == json.loads(path.read_text()) == content
    assert list(content["terms"]) == ["link_mass", "motor_strength", "joint_position_noise"], "in the order of TERMS"
    mass, noise = content["terms"]["link_mass"], content["terms"]["joint_position_noise"]
    assert mass["range"] == [0.3, 3.0] and mass["limited"] == [False, False] and not mass["symmetric"]
    assert [v["value"] for v in mass["values"]][2] == mass["neutral"] == 1.0
    assert all(v["successes"] == v["episodes"] == 3 and v["share"] == 1.0 for v in mass["values"])
    assert noise["symmetric"] and noise["bounds"] == [0.0, 1.0]
    assert content["simulations"] == 3 * 5 * 3 and content["rounds"] == 0
    assert content["env_steps"] == 45, "each episode was decided by its first step"
    assert surviving_ranges(content)["joint_position_noise"] == (-1.0, 1.0)


def test_the_same_policy_gives_the_same_digest_and_another_another(run):
    first = measure(load_policy(run), SMALL)
    again = measure(load_policy(run), SMALL)
    assert first["digest"] == again["digest"]
    harder = measure(load_policy(run), Settings(**{**vars(SMALL), "needed_share": 1.0}))
    assert harder["digest"] != first["digest"]


def test_a_prior_is_used_again_only_for_the_same_question(run, tmp_path_factory, configure):
    loaded = load_policy(run)
    content = measure(loaded, SMALL)
    assert answers(content, SMALL, loaded) and answers(
        content, Settings(**{**vars(SMALL), "collision": "feet"}), loaded
    )
    for change in (
        {"threshold": 0.5}, {"needed_share": 0.9}, {"episodes": 4}, {"seconds": 2.0}, {"terms": ("link_mass",)},
        {"collision": "full"}, {"threshold": None},
    ):  # fmt: skip
        assert not answers(content, Settings(**{**vars(SMALL), **change}), loaded), change
    other = load_policy(train.train(configure(tmp_path_factory.mktemp("other"), "seed=5", "env_steps=256")))
    assert not answers(content, SMALL, other)


def test_success_is_the_tasks_own_threshold(run):
    content = measure(load_policy(run), Settings(**{**vars(SMALL), "threshold": None}))
    assert content["fitness_threshold"] == tasks.get("cartpole-swingup").fitness_threshold
    assert all(term["range"] is None for term in content["terms"].values())
    with pytest.raises(UserError, match=r"fitness 0.7 in 0% of its episodes on nominal physics, and 50%"):
        surviving_ranges(content)


def test_what_cannot_be_drawn_is_left_out():
    term: dict[str, Any] = {"range": [1.0, 1.0], "symmetric": False, "neutral": 1.0, "values": []}
    content = {"terms": {"kp": term, "friction": {**term, "range": [0.2, 2.0]}}}
    assert surviving_ranges(content) == {"friction": (0.2, 2.0)}


def test_pushes_get_their_interval():
    walk, dash = tasks.get("go2-walk"), tasks.get("go2-dash")
    assert with_push_interval({"kp": (1, 2)}, walk) == {"kp": (1, 2)}
    assert with_push_interval({"push_velocity": (-1, 1)}, dash)["push_interval"] == dash.randomization["push_interval"]
    ranges = with_push_interval({"push_velocity": (-1, 1)}, walk)
    assert train.resolve_ranges(ranges, walk) == ranges


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"needed_share": 0.0}, "needed_share=0"), ({"threshold": 2.0}, "threshold=2"), ({"episodes": 0}, "episodes=0"),
     ({"values": 2}, "at least 3"), ({"terms": ("friction",)}, "makes no difference")],
)  # fmt: skip
def test_bad_settings_are_named(run, setting, message):
    with pytest.raises(UserError, match=message):
        measure(load_policy(run), Settings(**{**vars(SMALL), **setting}))


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with pytest.raises(UserError, match="measure it first: gantry prior"):
        read(tmp_path)
    (tmp_path / "physics_prior.json").write_text('{"format": 99}')
    with pytest.raises(UserError, match="not of format 1"):
        read(tmp_path)


def test_the_command(run, monkeypatch, capsys):
    options = ["--terms", "link_mass", "--values", "3", "--episodes", "2", "--seconds", "0.5", "--threshold", str(ANY)]
    monkeypatch.setattr("sys.argv", ["gantry prior", str(run), *options, "--threads", "1"])
    physics_prior.main()
    said = capsys.readouterr().out
    assert "link_mass" in said and "bound" in said and (run / "physics_prior.json").is_file()
