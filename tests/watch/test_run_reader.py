"""Runs that were killed, half-written, are old, or were made to do harm are read all the same."""

from __future__ import annotations

import json
import os
import re
import time

import pytest

from tests.watch import samples
from watch import words
from watch.run_reader import find_runs, read_run


@pytest.fixture
def run(tmp_path):
    return samples.write_run(tmp_path, iterations=20)


def edit(run, **values):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | values))


def reasons(run) -> dict[str, str]:
    return {problem.file: problem.reason for problem in read_run(run).problems}


def test_a_whole_run(run):
    read = read_run(run)
    assert (read.state, read.reason, read.problems) == ("finished", None, [])
    assert read.task == "go2-walk"
    assert read.overrides == ["task=go2-walk", "seed=1", "ppo.learning_rate=0.001"]
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"command": ["gantry search", "resume=/x/y", "seed=2"]}))
    assert read_run(run).overrides == ["seed=2"]
    assert read.config["ppo.gamma"] == "0.97"
    assert read.config["ppo.actor_hidden"] == "[128, 128]"
    assert read.config["resume"] == "false"
    assert read.ranges["friction"] == (0.3, 1.5)
    assert len(read.progress) == 20
    assert read.progress.last("env_steps") == 4_000_000
    assert set(read.progress.groups["components"]) == set(samples.COMPONENTS)
    assert read.evaluation.episodes == 768
    assert read.evaluation.main.name == "randomized"
    assert read.evaluation.main.fitness.mean == pytest.approx(0.80)
    assert read.video is not None


def test_an_empty_folder_says_what_it_lacks(tmp_path):
    read = read_run(tmp_path)
    assert read.state == "broken"
    assert read.reason == "run.json is missing; not a run, or made by an older version"
    assert {"run.json", "config.yaml", "reward.py", "progress.jsonl", "video.mp4"} <= {p.file for p in read.problems}
    assert all(p.missing for p in read.problems)


def test_a_killed_run_is_told_from_a_running_one(run):
    edit(run, state="running")
    assert read_run(run).state == "running"
    later = time.time() + 3 * 3600
    read = read_run(run, now=later)
    assert (read.state, read.reason) == ("killed", "nothing written for 3 hours: killed, or its machine went down")


def test_a_failed_run_gives_its_error(run):
    edit(run, state="failed", error="reward component 'slip' is NaN")
    read = read_run(run)
    assert (read.state, read.reason) == ("failed", "reward component 'slip' is NaN")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty"),
        ('{"format": 1, "task"', "no valid JSON"),
        ("[1, 2]", "holds no JSON object"),
        ('{"format": 7, "state": "finished"}', "format 7; this version of Gantry reads format 1"),
        ('{"state": "finished"}', "format none"),
        ('{"format": 1, "state": "levitating"}', "state levitating; valid: running, finished, stopped, failed"),
        ("[" * 100_000, "nested too deeply"),
        ('{"format": ' + "9" * 5000 + "}", "no valid JSON"),
        ("\x00\xff\xfe", "no valid JSON"),
    ],
)
def test_an_unusable_record(run, content, reason):
    (run / "run.json").write_text(content, encoding="latin-1")
    read = read_run(run)
    assert read.state == "broken"
    assert reason in read.reason
    assert len(read.progress) == 20  # the rest is shown all the same


def test_a_record_of_odd_types(run):
    (run / "run.json").write_text(json.dumps({
        "format": 1, "state": "finished", "task": ["x"], "command": {"a": 1}, "created": 5, "seconds": "long",
        "machine": [], "versions": 3, "error": {"a": []}, "env_steps": True,
    }))  # fmt: skip
    read = read_run(run)
    assert (read.task, read.command, read.created) == ("go2-walk", [], None)
    assert read.seconds == pytest.approx(4_000_000 / 15800 + 1.2)  # from the curves instead


def test_progress_that_was_cut_off(run):
    path = run / "progress.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    read = read_run(run)
    assert len(read.progress) == 19
    assert "cut off" in reasons(run)["progress.jsonl"]


def test_progress_with_damaged_lines_and_numbers(run):
    rows = ["nonsense", '{"iteration": "x"}', "[]",
            '{"iteration": 1, "reward": NaN, "fitness": 1e999}',
            '{"iteration": 2, "reward": "high", "components": [1], "fitness": 0.5}',
            '{"iteration": 1e308}']  # fmt: skip
    (run / "progress.jsonl").write_text("\n".join(rows) + "\n")
    read = read_run(run)
    assert read.progress.iteration == [1, 2]
    assert read.progress.scalars == {"fitness": [None, 0.5]}
    assert reasons(run)["progress.jsonl"] == "4 damaged lines left out"


def test_a_resumed_run_keeps_the_later_of_repeated_iterations(run):
    rows = [(1, 0.1), (2, 0.2), (3, 0.9), (2, 0.25), (3, 0.3)]
    (run / "progress.jsonl").write_text("".join(json.dumps({"iteration": i, "fitness": f}) + "\n" for i, f in rows))
    read = read_run(run)
    assert (read.progress.iteration, read.progress.scalars["fitness"]) == ([1, 2, 3], [0.1, 0.25, 0.3])


def test_few_points_keep_the_ends(run):
    samples.write_progress(run, 500)
    read = read_run(run, points=50)
    assert 50 <= len(read.progress) <= 52
    assert (read.progress.iteration[0], read.progress.iteration[-1]) == (0, 499)
    assert len(read_run(run).progress.thinned(100)) == 100


def test_too_many_names_are_cut(run):
    row = {"iteration": 1, "components": {f"c{i}": 1.0 for i in range(5000)}}
    (run / "progress.jsonl").write_text(json.dumps(row) + "\n")
    assert len(read_run(run).progress.groups["components"]) == 60
    assert "5000 components" in reasons(run)["progress.jsonl"]


def test_an_evaluation_of_odd_types(run):
    x = {"fitness": 0.5, "measures": {"a": None, "b": 2}, "diverged": "?"}
    sets = {"nominal": [], "randomized": {"fitness": {"mean": "x"}, "foot_use": 7}, "x": x}
    content = {"episodes": "many", "seeds": 3, "sets": sets}
    (run / "evaluation.json").write_text(json.dumps(content))
    read = read_run(run).evaluation
    assert (read.episodes, read.seeds, read.main.name) == (None, 3, "x")
    assert list(read.main.measures) == ["b"]


def test_yaml_aliases_cannot_explode(run):
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{chr(98 + i)}: &{chr(98 + i)} {{" + ", ".join(f"k{j}: *{chr(97 + i)}" for j in range(9)) + "}"
        for i in range(9)
    ]
    (run / "config.yaml").write_text("\n".join(lines))
    begun = time.process_time()
    assert len(read_run(run).config) <= 2000
    assert time.process_time() - begun < 2


def test_yaml_that_would_build_objects_is_refused(run):
    (run / "config.yaml").write_text("a: !!python/object/apply:os.system ['touch /tmp/gantry-was-here']")
    assert "no valid YAML" in reasons(run)["config.yaml"]


def test_ranges_that_are_none(run):
    (run / "randomization.yaml").write_text("friction: [0.3, 1.5]\nkp: 3\nkd: [1, x]\n")
    assert read_run(run).ranges == {"friction": (0.3, 1.5)}
    assert "is no range" in reasons(run)["randomization.yaml"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(lambda v: b"", "is empty"), (lambda v: v[: len(v) // 2], "incomplete"), (lambda v: b"<script>" * 40, "no MP4"),
     (lambda v: v[:4] + b"ftyp" + b"\xff" * 400, "incomplete")],
)  # fmt: skip
def test_a_broken_video(run, content, reason):
    (run / "video.mp4").write_bytes(content(samples.video()))
    assert read_run(run).video is None
    assert reason in reasons(run)["video.mp4"]


def test_what_is_no_plain_file_of_the_run_is_not_opened(run, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("token")
    for name in ("reward.py", "config.yaml", "video.mp4", "progress.jsonl"):
        (run / name).unlink()
    (run / "reward.py").symlink_to(secret)
    os.mkfifo(run / "config.yaml")  # opening it would block for ever
    (run / "video.mp4").mkdir()
    (run / "progress.jsonl").symlink_to(run / "progress.jsonl")
    found = reasons(run)
    assert "leads out of the run folder" in found["reward.py"]
    assert found["config.yaml"] == found["video.mp4"] == "is no plain file"
    assert "cannot be opened" in found["progress.jsonl"]
    assert read_run(run).reward_source is None


def test_runs_are_found_where_they_are(tmp_path):
    for name in ("go2-walk/a", "go2-walk/b", "go2-walk/.hidden", "x/c", "sweeps/2026/0"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "board.html").touch()
    assert [str(p.relative_to(tmp_path)) for p in find_runs(tmp_path)] == ["go2-walk/b", "go2-walk/a", "x/c"]
    assert list(find_runs(tmp_path / "nowhere")) == []


def test_the_headline_says_how_it_went(run):
    verdict, more = words.headline(read_run(run))
    assert verdict == "Fitness 0.80 on randomized physics, above the task’s threshold of 0.75"
    assert "1.4\u202f% of 768 episodes ended in a fall" in more
    assert "within 0.113\u202fm/s and 0.165\u202frad/s" in more
    assert "Training took 4\u202fmin 14\u202fs and 4\u202fmillion steps." in more
    (run / "evaluation.json").unlink()
    edit(run, state="running", env_steps=None)
    samples.write_progress(run, 20)
    assert words.headline(read_run(run))[0] == "Training: 4\u202fmillion of 4\u202fmillion steps done"
    edit(run, state="failed", error="boom")
    verdict, more = words.headline(read_run(run))
    assert verdict == "The run failed"
    assert re.fullmatch(r"boom\. Fitness while training was last 0\.8\d\.", more)
