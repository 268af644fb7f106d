"""A candidate's jobs: data that comes back from untrusted code, the policy's measurement, the recorded states."""

from __future__ import annotations

import json
import math
import os
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from agents import candidate, candidate_training, checkpoint, search_states
from agents.candidate_data import is_source, plain, problem_line, take_back, useful_lines
from agents.candidate_evaluation import measure
from agents.confinement import ConfinementError, Outcome
from configs.errors import UserError
from envs import tasks
from envs.state import State, field_docs
from tests.agents.confined import needs_confinement


def test_what_comes_back_is_plain():
    dirty = {"a": float("nan"), "b": [1, 2.5, float("inf"), "x" * 999], "c": {"d": True, "e": None}, "f": 10**400}
    assert plain(dirty) == {
        "a": None,
        "b": [1, 2.5, None, "x" * 200],
        "c": {"d": True, "e": None},
        "f": None,
    }
    deep: list = []
    for _ in range(50):
        deep = [deep]
    json.dumps(plain(deep))
    assert len(plain({str(i): i for i in range(999)})) == 200


@pytest.mark.parametrize("text", ["a\x1b[2Jb", "a\ud800b", "a\x00b"])
def test_texts_that_come_back_can_be_written_and_shown(text):
    found = plain({text: text})
    json.dumps(found, ensure_ascii=False).encode()
    assert not any(ord(c) < 32 for key in found for c in key)
    assert "\x1b" not in problem_line({"line": 10**30, "text": text, "message": text})
    assert not is_source(text) and is_source("def reward(s):\n    return {'x': s.time_s}  # größer\n")


def outcome(error: dict[str, str] | None, reason: str = "killed") -> Outcome:
    return Outcome("failed", reason, None, error, "", 1, 0.0, 0)


def test_a_traceback_is_cut_to_what_its_author_can_use():
    trace = (
        'Traceback (most recent call last):\n  File "/x/agents/training.py", line 5, in learn\n    self.iterate()\n'
        '  File "<reward>", line 12, in reward\n    speed = helper(s)\n  File "<reward>", line 4, in helper\n'
        "    return s.joint_velocity @ s.action\nRuntimeError: size mismatch\n"
    )
    text = useful_lines(outcome({"type": "RuntimeError", "message": "size mismatch", "traceback": trace}))
    assert text.splitlines() == [
        "line 12: `speed = helper(s)`", "line 4: `return s.joint_velocity @ s.action`", "RuntimeError: size mismatch",
    ]  # fmt: skip
    told = useful_lines(outcome({"type": "UserError", "message": "component 'x' is nan", "traceback": ""}))
    assert told == "component 'x' is nan"
    assert useful_lines(outcome(None, "ran longer than 5 s")) == "ran longer than 5 s"


def test_links_in_train_are_refused(tmp_path):
    (tmp_path / "train").mkdir()
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"a": 1}\n')
    torch.save({"w": torch.zeros(2)}, tmp_path / "train" / "policy.pt")
    os.symlink(secret, tmp_path / "train" / "progress.jsonl")
    with pytest.raises(ConfinementError, match="links are not followed"):
        take_back(tmp_path)


def test_policies_are_measured(finished_run):
    loaded = checkpoint.load_policy(finished_run)
    report, failure = measure(loaded, "select", episodes=4, seeds=[5, 6], threads=1)
    assert len(report["fitness_of_seeds"]) == 2
    assert report["fitness"]["mean"] == pytest.approx(np.mean(report["fitness_of_seeds"]))
    # The quarters' mean is the episode's, but for the last step, which no action follows.
    assert np.mean(failure["fitness_by_quarter"]) == pytest.approx(report["fitness"]["mean"], abs=0.003)
    assert failure["fall_rate"] == 0 and 0 < failure["action_change"] <= 2
    again, _ = measure(loaded, "select", episodes=4, seeds=[5, 6], threads=1)
    assert again == report


def test_a_policy_of_nan_is_refused(finished_run):
    loaded = checkpoint.load_policy(finished_run)
    with torch.no_grad():
        next(loaded.policy.actor.parameters()).fill_(math.nan)
    with pytest.raises(UserError, match="not finite"):
        measure(loaded, "select", episodes=2, seeds=[5], threads=1)


@pytest.mark.parametrize("name", ["cartpole-swingup", "go2-walk"])
def test_recorded_states(name, tmp_path):
    path = search_states.record(tmp_path / "states.pt", tasks.get(name))
    states = torch.load(path, weights_only=True)
    assert list(states) == list(field_docs())
    rows = len(states["time_s"])
    assert rows >= 256 and len(torch.unique(states["time_s"])) > 5
    for field, value in states.items():
        assert (value.shape[0] == rows) != (field in search_states.CONSTANTS), field
        assert value.dtype == torch.bool or torch.isfinite(value).all(), field
    if name == "go2-walk":
        assert states["terminated"].any() and not states["terminated"].all(), "failures are among them"
        assert states["foot_contact"].any() and not states["foot_contact"].all()
    before = path.stat().st_mtime_ns
    assert search_states.record(path, tasks.get(name)).stat().st_mtime_ns == before
    State(**{key: value for key, value in states.items()})


def test_components_are_watched():
    watched = candidate_training.Watched(lambda s: {"x": s, "y": torch.ones_like(s)})  # type: ignore[arg-type,return-value]
    for i in range(8):
        watched(torch.tensor([0.0, 0.0, 1.0, float(i)]))  # type: ignore[arg-type]
    found = watched.take()  # calls 4 and 8 were looked at: 0 0 1 3 and 0 0 1 7
    assert found["x"]["mean"] == pytest.approx(12 / 8) and found["x"]["high"] == 7 and found["x"]["low"] == 0
    assert found["x"]["at_low"] == pytest.approx(4 / 8) and found["x"]["at_high"] == pytest.approx(1 / 8)
    assert found["y"]["std"] == 0 and watched.take() == {}


def test_the_course_is_thinned():
    assert candidate_training.thinned([1, 2, 3]) == [1, 2, 3]
    points = candidate_training.thinned(list(range(1000)))
    assert len(points) == 10 and points[0] == 0 and points[-1] == 999


def test_a_job_waits_for_a_worker_that_still_runs_it(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    job = {"kind": "check", "folder": str(folder), "result": "check.json"}
    (tmp_path / "job.json").write_text(json.dumps(job))

    def work() -> None:
        with candidate.run_folder_lock(folder):
            ready.set()
            time.sleep(0.3)
            (folder / "check.json").write_text('{"ok": true}')

    ready = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    candidate.run_job(tmp_path / "job.json")  # it lacks everything to run, so it must find the result
    thread.join()
    assert json.loads((folder / "check.json").read_text()) == {"ok": True}


def test_a_file_that_is_no_job_is_named(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    with pytest.raises(UserError, match="describes no job"):
        candidate.run_job(tmp_path / "job.json")


@pytest.mark.slow
@needs_confinement
def test_stages_continue_one_training(tmp_path, configure):
    """Stopped and continued, a training ends with the bits of one in a single go; a kill in between changes nothing."""
    from agents.confinement import Limits, run_confined

    source = "def reward(s):\n    return {'up': s.joint_position[:, 1].cos()}\n"
    config = {key: value for key, value in configure(tmp_path).items() if key != "resume"}

    def train(folder: Path, target: int) -> dict:
        argument = {"source": source, "config": config, "ranges": {}, "target": target}
        found = run_confined("agents.candidate_training:train_job", argument, folder, Limits())
        assert found.ok, found.output
        return found.result

    one, two = tmp_path / "one", tmp_path / "two"
    assert train(one, 256)["env_steps"] == 256
    shutil.copytree(one, two)
    with (two / "train" / "components.jsonl").open("a") as log:
        log.write('{"iteration": 3, "half of a li')  # written after the checkpoint, before a kill
    results = [train(one, 640), train(two, 640)]
    assert results[0]["env_steps"] == 640
    whole = tmp_path / "whole"
    results.append(train(whole, 640))
    assert results[0]["course"] == results[1]["course"] == results[2]["course"] and len(results[0]["course"]) == 5
    policies = [torch.load(f / "train" / "policy.pt", weights_only=True) for f in (one, two, whole)]
    for name, value in policies[0].items():
        assert torch.equal(value, policies[1][name]) and torch.equal(value, policies[2][name]), name
