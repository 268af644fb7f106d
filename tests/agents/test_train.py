"""`gantry train` from the command line to the run folder; stopping, killing and resuming; bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
import yaml

import gantry
from agents import checkpoint, run_folder, train
from agents.evaluate import evaluate_run
from agents.training import Training
from configs.errors import UserError
from envs import gl, rewards, tasks

ROOT = Path(__file__).resolve().parents[2]
TASK = tasks.get("cartpole-swingup")
TIMES = ("seconds", "env_steps_per_s")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def command(*arguments: str, cwd: Path, expect: int = 0) -> str:
    """Runs `gantry ARGUMENTS` as a program of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "gantry", *arguments], cwd=cwd, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def progress_of(run: Path) -> list[dict[str, Any]]:
    """The lines of progress.jsonl without what depends on the machine's speed."""
    lines = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


class StopAfter:
    """Stands in for the progress display and raises once an iteration is done."""

    def __init__(self, iteration: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.iteration, self.error = iteration, error

    def update(self, entry: dict[str, Any]) -> None:
        if entry["iteration"] == self.iteration:
            raise self.error


def uninterrupted(config: dict[str, Any], iterations: int) -> Path:
    """A run of that many iterations in one go."""
    run, training = train.prepare(dict(config))
    with pytest.raises(KeyboardInterrupt):
        training.learn(StopAfter(iterations))  # type: ignore[arg-type]
    training.save()
    return run


def bits(content: Any) -> Any:
    """Everything in a checkpoint in a form that compares bit for bit (a NaN equals itself)."""
    if isinstance(content, torch.Tensor):
        return str(content.dtype), tuple(content.shape), content.numpy().tobytes()
    if isinstance(content, dict):
        return {key: bits(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [bits(value) for value in content]
    return content


def assert_same_run(one: Path, other: Path) -> None:
    """Parameters, optimizer, environment, random states and logs agree to the last bit."""
    first, second = (checkpoint.read(run / checkpoint.CHECKPOINT) for run in (one, other))
    assert json.loads(first.pop("extra"))["iteration"] == json.loads(second.pop("extra"))["iteration"]
    assert first.keys() == second.keys()
    for part in first:
        assert bits(first[part]) == bits(second[part]), part
    assert progress_of(one) == progress_of(other)


def assert_same_figures(one: Path, other: Path) -> None:
    reports = [
        evaluate_run(checkpoint.load_policy(run), ("nominal", "select"), episodes=4, seeds=(1, 2), threads=1)
        for run in (one, other)
    ]
    assert reports[0] == reports[1]


class TestCommandLine:
    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("place")

    @pytest.fixture(scope="class")
    @classmethod
    def run(cls, place: Path, small: tuple[str, ...]) -> Path:
        printed = command("train", *small, "seed=5", "name=first", cwd=place)
        run = place / printed.splitlines()[-1].removeprefix("done: ")
        assert printed.startswith(f"run folder: {run.relative_to(place)}")
        assert "640 / 640 steps" in printed
        return run

    def test_the_run_folder(self, run, place, small):
        assert run.parent == place / "runs" / "cartpole-swingup" and run.name.endswith("-first")
        names = {path.name for path in run.iterdir()}
        events = {name for name in names if name.startswith("events.out.tfevents")}
        assert len(events) == 1
        expected = {"config.yaml", "run.json", "reward.py", "randomization.yaml", "progress.jsonl", "checkpoint.pt"}
        assert names - events - {"report.html"} == expected
        assert [path.name for path in place.iterdir()] == ["runs"]  # no litter where the command was typed

    def test_what_was_run(self, run, small):
        config = yaml.safe_load((run / "config.yaml").read_text())
        assert (config["task"], config["seed"], config["threads"], config["ppo"]["num_envs"]) == (
            "cartpole-swingup", 5, 1, 16)  # fmt: skip
        assert config["ppo"]["gamma"] == 0.99  # the task's own
        assert (run / "reward.py").read_bytes() == rewards.path_of("human", TASK).read_bytes()
        ranges = yaml.safe_load((run / "randomization.yaml").read_text())
        assert {name: tuple(span) for name, span in ranges.items()} == dict(TASK.randomization)
        record = run_folder.RunRecord.load(run).content
        assert record["command"] == ["gantry train", *small, "seed=5", "name=first"]
        assert (record["state"], record["error"], record["diverged"]) == ("finished", None, 0)
        assert record["env_steps"] == 640 and record["seconds"] > 0 and record["peak_memory_gb"] > 0.1
        assert record["versions"]["torch"] == torch.__version__ and record["machine"]["cores"] == os.cpu_count()

    def test_what_came_of_it(self, run):
        lines = progress_of(run)
        assert [line["iteration"] for line in lines] == [1, 2, 3, 4, 5]
        assert [line["env_steps"] for line in lines] == [128, 256, 384, 512, 640]
        for line in lines:
            assert set(line["components"]) >= {"upright", "centered", "spin", "effort", "edge"}
            assert set(line["measures"]) == set(TASK.measures)
            assert {"kl", "value_loss", "learning_rate"} <= set(line["train"])
            # Without a time limit within it, a rollout's mean reward is the sum of its components' means.
            assert sum(line["components"].values()) == pytest.approx(line["reward"], abs=1e-5)

    def test_curves(self, run):
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(run))
        events.Reload()
        curves = set(events.Tags()["scalars"])
        assert {"rollout/fitness", "components/upright", "measures/upright", "train/kl"} <= curves
        shown = [(event.step, event.value) for event in events.Scalars("rollout/reward")]
        assert shown == [(line["env_steps"], pytest.approx(line["reward"])) for line in progress_of(run)]

    def test_evaluate(self, run, place):
        few = ("--sets", "nominal,report", "--episodes", "4", "--seeds", "2", "--threads", "1")
        printed = command("evaluate", str(run.relative_to(place)), *few, cwd=place)
        assert "nominal" in printed and "evaluation.json" in printed
        report = json.loads((run / "evaluation.json").read_text())
        assert list(report["sets"]) == ["nominal", "report"] and report["seeds"] == [1000, 1001]
        for figures in report["sets"].values():
            fitness = figures["fitness"]
            assert fitness["low"] <= fitness["mean"] <= fitness["high"] and 0 <= fitness["mean"] <= 1
            assert figures["fall_rate"]["mean"] == 0 and figures["length_s"]["mean"] == pytest.approx(10.0)

    def test_video(self, run, place):
        try:
            gl.back_end()
        except UserError as error:
            pytest.skip(str(error))
        small = ("--seconds", "0.2", "--width", "160", "--height", "120")
        printed = command("video", str(run.relative_to(place)), *small, cwd=place)
        assert (place / printed.splitlines()[-1]).samefile(run / "video.mp4")
        assert (run / "video.mp4").stat().st_size > 1000


@pytest.mark.slow
def test_train_evaluates_and_films_by_itself(tmp_path, small):
    """All that one command does. Its last figure, the fitness on randomized physics, is what sweepers compare."""
    try:
        gl.back_end()
    except UserError as error:
        pytest.skip(str(error))
    kept = [override for override in small if override not in ("evaluate=false", "video=false")]
    command("train", *kept, "seed=6", cwd=tmp_path)
    (run,) = (tmp_path / "runs").glob("*/*")
    report = json.loads((run / "evaluation.json").read_text())
    assert list(report["sets"]) == ["nominal", "randomized", "select"]  # report is for final tables
    assert report["episodes"] * len(report["seeds"]) >= 256
    assert (run / "video.mp4").stat().st_size > 10_000
    assert run_folder.RunRecord.load(run).content["state"] == "finished"


class TestBadInput:
    NAN = 'import torch\ndef reward(s):\n    return {"good": s.time_s, "bad": torch.log(s.time_s - 9.0)}\n'

    @pytest.fixture
    def refused(self, tmp_path, small, monkeypatch, capsys) -> Callable[..., str]:
        """refused(*overrides): the one line that `gantry train` prints."""
        monkeypatch.chdir(tmp_path)

        def run(*overrides: str) -> str:
            with pytest.raises(SystemExit) as exit:
                gantry.main(["train", *small, *overrides])
            assert exit.value.code == 2
            shown = capsys.readouterr()
            assert shown.err.startswith("gantry: error: ") and shown.err.count("\n") == 1, shown.err
            return shown.err

        return run

    @pytest.mark.parametrize(
        ("override", "words"),
        [
            (
                "task=cartpole-swingdown",
                "unknown task 'cartpole-swingdown'|go1-walk, go2-ball, go2-dash, go2-walk|did you mean",
            ),
            ("reward=rewards/none.py", "reward 'rewards/none.py' is no file|human, sparse or the path"),
            ("randomization={frictoin:[0.5,1.0]}", "unknown randomization term 'frictoin'|did you mean 'friction'"),
            ("randomization={friction:[1.0,0.5]}", "friction: [1.0, 0.5] is the wrong way round|[low, high]"),
            ("randomization={friction:0.5}", "friction: 0.5 is no range|[low, high]"),
            ("randomization={friction:[0.5,.nan]}", "friction|[low, high]"),
            ("randomization={friction:[0.5,50.0]}", "friction: [0.5, 50.0] leaves the bounds [0.0, 5.0]"),
            ("randomization={push_velocity:[-1,1]}", "push_velocity: nobody is pushed without push_interval"),
            ("randomization=ranges.yaml", "randomization 'ranges.yaml' is no file|task, none"),
            ("threads=-2", "threads=-2|0 (all cores) or a positive number"),
            ("env_steps=-5", "env_steps=-5|at least 1"),
            ("env_steps=0", "env_steps=0|at least 1"),
            ("env_steps=many", "env_steps=many|could not be converted to Integer"),
            ("ppo.num_envs=0", "ppo.num_envs=0|at least 1"),
            ("ppo.average_last=1.5", "ppo.average_last=1.5|valid: 0 to 1"),
            ("terrain=bumpy", "unknown terrain 'bumpy'|flat, rough"),
            ("collision=all", "unknown collision 'all'|feet, full, ground"),
            ("seed=-1", "seed=-1|0 to 4294967295"),
            ("ppo.n_steps=0", "ppo.n_steps=0|at least 1"),
            ("ppo.num_minibatches=0", "ppo.num_minibatches=0|at least 1"),
            ("ppo.num_minibatches=500", "ppo.num_minibatches=500|too little"),
            ("ppo.num_env=5", "unknown setting 'ppo.num_env'|ppo.n_steps|did you mean 'ppo.num_envs'?"),
            ("+ppo.num_env=5", "unknown setting 'ppo.num_env'|did you mean 'ppo.num_envs'?"),
            ("seeed=1", "unknown setting 'seeed'|env_steps|did you mean 'seed'?"),
            ("+seeed=1", "unknown setting 'seeed'|did you mean 'seed'?"),
            ("resume=runs/cartpole-swingup/nothing", "nothing"),
            ("resume=true", "no unfinished run with this configuration"),
        ],
    )
    def test_is_refused_in_one_line_and_leaves_nothing(self, refused, tmp_path, override, words):
        line = refused(override)
        for word in words.split("|"):
            assert word in line
        assert not list(tmp_path.glob("runs/*/*"))

    def test_a_phase_without_a_name_beside_named_ones(self, refused):
        line = refused("task=go2-ball", "curriculum={until: 0.5, start: neutral}")
        assert "unknown setting 'curriculum.until'; valid: curriculum.honey, curriculum.widen" in line

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("def reward(s):\n  return {\n", "SyntaxError"),
            ("def rewards(s):\n  return {}\n", "defines no function `reward(s)`"),
        ],
    )
    def test_a_reward_that_is_none(self, refused, tmp_path, code, words):
        (tmp_path / "mine.py").write_text(code)
        assert words in refused("reward=mine.py")
        assert not list(tmp_path.glob("runs/*/*"))

    def test_a_nan_names_the_component(self, refused, tmp_path):
        """Such a run has begun; its folder says how it ended."""
        (tmp_path / "mine.py").write_text(self.NAN)
        line = refused("reward=mine.py")
        # First episodes are staggered, so not every simulation has reached the time from which the reward fails.
        assert re.search(r"reward component 'bad' is nan in \d+ of 16 simulations", line) and "guard" in line
        (run,) = tmp_path.glob("runs/*/*")
        record = run_folder.RunRecord.load(run).content
        assert record["state"] == "failed" and "'bad' is nan" in record["error"]
        assert (run / "reward.py").read_text() == self.NAN and not list(run.glob(".*"))

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("return s.time_s", "must return a dict of named tensors"),
            ("return {}", "must return a dict of named tensors"),
            ("return {'upright': 1.0}", "'upright' has type float|tensor of (16,)"),
            ("return {'far': s.joint_position}", "'far' has shape|tensor of (16,)"),
            ("return {'far': s.base_hight}", "fails: AttributeError|base_hight|(mine.py, line 2)"),
        ],
    )
    def test_a_reward_that_fails_when_it_runs(self, refused, tmp_path, body, words):
        (tmp_path / "mine.py").write_text(f"def reward(s):\n    {body}\n")
        line = refused("reward=mine.py")
        assert all(word in line for word in words.split("|")), line

    def test_a_run_continues_as_it_began(self, refused, tmp_path):
        (tmp_path / "mine.py").write_text(self.NAN)
        refused("reward=mine.py")
        (run,) = tmp_path.glob("runs/*/*")
        line = refused("reward=mine.py", f"resume={run}", "ppo.gamma=0.5")
        assert "ppo.gamma=0.5" in line and "leave ppo.gamma out" in line and str(run) in line

    def test_as_a_program_of_its_own(self, tmp_path, small):
        done = subprocess.run(
            [sys.executable, "-m", "gantry", "train", *small, "env_steps=-1"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "gantry: error: env_steps=-1; at least 1 step is needed\n"


def test_starts_at_the_same_time_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.time, "strftime", lambda form: "2026-01-02_03-04-05")
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda _: run_folder.create(tmp_path, "task", "name"), range(64)))
    assert len(set(made)) == 64 and all(folder.is_dir() and not list(folder.iterdir()) for folder in made)
    assert made[0].parent == tmp_path / "task" and all(f.name.startswith("2026-01-02_03-04-05-name") for f in made)


class TestStopping:
    @pytest.mark.timeout(600)
    def test_ctrl_c_saves_a_whole_iteration(self, tmp_path, small, configure):
        overrides = (*small, "seed=7", "env_steps=1000000000")
        started = subprocess.Popen(
            [sys.executable, "-m", "gantry", "train", *overrides], cwd=tmp_path, env=environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # even where SIGINT is ignored
        )  # fmt: skip
        try:
            limit = time.monotonic() + 300
            while sum(p.read_bytes().count(b"\n") for p in tmp_path.glob("runs/*/*/progress.jsonl")) < 3:
                assert started.poll() is None and time.monotonic() < limit
                time.sleep(0.02)
            started.send_signal(signal.SIGINT)
            printed, complaint = started.communicate(timeout=200)
        finally:
            started.kill()
        assert started.returncode == 130
        assert complaint == "gantry: interrupted\n"
        (run,) = tmp_path.glob("runs/*/*")
        assert printed.splitlines()[-1] == f"stopped; continue with: gantry train resume={run.relative_to(tmp_path)}"
        assert run_folder.RunRecord.load(run).content["state"] == "stopped"

        done = len(progress_of(run))
        same = uninterrupted(configure(tmp_path / "other", "seed=7", "env_steps=1000000000"), done)
        assert_same_run(run, same)

    def test_a_second_ctrl_c_stops_at_once(self, tmp_path, configure, monkeypatch):
        run, training = train.prepare(configure(tmp_path, "checkpoint_every_s=0"))
        plain = training.ppo.iterate

        def iterate() -> None:
            if training.iteration == 2:
                for _ in range(2):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.01)
            plain()

        monkeypatch.setattr(training.ppo, "iterate", iterate)
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                training.learn(StopAfter(99))  # type: ignore[arg-type]
            assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        finally:
            signal.signal(signal.SIGINT, before)
        assert json.loads(checkpoint.read(run / checkpoint.CHECKPOINT)["extra"])["iteration"] == 2

    def test_a_failure_is_on_record(self, tmp_path, configure, monkeypatch):
        def fail(self: Training, progress: Any) -> None:
            raise RuntimeError("the disk is full")

        monkeypatch.setattr(Training, "learn", fail)
        with pytest.raises(RuntimeError):
            train.train(configure(tmp_path))
        (run,) = tmp_path.glob("*/*")
        record = run_folder.RunRecord.load(run).content
        assert (record["state"], record["error"]) == ("failed", "the disk is full")


WALK = ("task=go2-walk", "ppo.num_envs=6", "ppo.n_steps=24",
        "randomization={friction:[0.3,1.5],base_mass:[-1.0,3.0],center_of_mass:[-0.05,0.05],kp:[0.9,1.1],"
        "motor_offset:[-0.03,0.03],joint_friction:[0.5,2.0],armature:[1.0,1.05],action_delay:[0.0,0.02],"
        "gravity:[-1.0,1.0],push_velocity:[-0.5,0.5],push_interval:[0.1,0.3],joint_position_noise:[-0.02,0.02],"
        "angular_velocity_bias:[-0.05,0.05]}")  # fmt: skip
"""Pushes every few steps, so that a short training has many."""


class TestResume:
    @pytest.mark.parametrize(
        ("overrides", "crash", "end"), [(("seed=8",), 4, 9), (WALK, 3, 5)], ids=["cartpole", "go2"]
    )
    def test_after_a_crash_it_goes_on_as_if_nothing_had_happened(self, tmp_path, configure, overrides, crash, end):
        config = configure(tmp_path, *overrides, "checkpoint_every_s=0", "env_steps=1000000")
        whole = uninterrupted(config, end)
        run, training = train.prepare(dict(config))
        run_folder.RunRecord.begin(run, "train", training.task.name, "x", 1)
        with pytest.raises(RuntimeError):
            training.learn(StopAfter(crash, RuntimeError))  # type: ignore[arg-type]
        # The crash came before the iteration was saved; a kill may besides leave half a line in the log.
        assert json.loads(checkpoint.read(run / checkpoint.CHECKPOINT)["extra"])["iteration"] == crash - 1
        with (run / "progress.jsonl").open("a") as log:
            log.write('{"iteration": 1')
        again, training = train.prepare(configure(tmp_path, f"resume={run}"))
        assert again == run and training.iteration == crash - 1 and len(progress_of(run)) == crash - 1
        with pytest.raises(KeyboardInterrupt):
            training.learn(StopAfter(end))  # type: ignore[arg-type]
        training.save()
        assert_same_run(run, whole)
        if training.task.name == "go2-walk":
            episodes = training.environment.episodes
            assert episodes.pushes.done.sum() > 6 and episodes.episode.max() > 0
        else:
            assert_same_figures(run, whole)

    def test_killed_before_the_first_checkpoint_it_starts_again(self, tmp_path, configure):
        config = configure(tmp_path, "seed=9", "checkpoint_every_s=1000", "env_steps=384")
        run, training = train.prepare(dict(config))
        with pytest.raises(RuntimeError):
            training.learn(StopAfter(2, RuntimeError))  # type: ignore[arg-type]
        assert len(progress_of(run)) == 2 and not (run / checkpoint.CHECKPOINT).exists()
        assert train.train({**config, "resume": str(run)}) == run
        assert [line["iteration"] for line in progress_of(run)] == [1, 2, 3]
        assert_same_run(run, uninterrupted(config, 3))

    def test_how_it_began_stays_on_record(self, tmp_path, finished_run, configure, monkeypatch):
        run = Path(copytree(finished_run, tmp_path / "run"))
        began = run_folder.RunRecord.load(run).content
        monkeypatch.setattr(sys, "argv", ["gantry train", f"resume={run}"])
        train.train(configure(tmp_path, f"resume={run}"))
        now = run_folder.RunRecord.load(run).content
        assert now["command"] == began["command"] and now["created"] == began["created"]
        assert [r["command"] for r in now["resumed"]] == [["gantry train", f"resume={run}"]]
        assert now["state"] == "finished"

    def test_resume_true_finds_the_newest_unfinished_run_of_this_configuration(self, tmp_path, configure):
        first, training = train.prepare(configure(tmp_path, "seed=1"))
        run_folder.RunRecord.begin(first, "train", training.task.name, "train", 1)

        def another(name: str, state: str, **changes: Any) -> Path:
            run = Path(copytree(first, first.parent / name))
            run_folder.RunRecord.load(run).update({"state": state})
            config = yaml.safe_load((run / "config.yaml").read_text())
            (run / "config.yaml").write_text(yaml.safe_dump({**config, **changes}))
            return run

        wanted = another("2990-01-01_00-00-00-train", "running")  # killed: nobody could write how it ended
        another("2991-01-01_00-00-00-train", "finished")
        another("2992-01-01_00-00-00-train", "stopped", seed=2)
        another("2993-01-01_00-00-00-train", "running", termination_penalty=3.0)
        damaged = another("2994-01-01_00-00-00-train", "stopped")
        (damaged / "config.yaml").write_text("task: [")
        (first.parent / "2995-01-01_00-00-00-train").mkdir()
        assert train.prepare(configure(tmp_path, "seed=1", "resume=true"))[0] == wanted
        with pytest.raises(UserError, match="no unfinished run with this configuration"):
            train.prepare(configure(tmp_path, "seed=3", "resume=true"))

    @pytest.mark.slow
    @pytest.mark.timeout(600)
    def test_killed_at_ten_random_moments(self, tmp_path, configure):
        config = configure(tmp_path / "killed", "seed=10", "env_steps=1000000000", "checkpoint_every_s=0")
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("kill_training.py")), json.dumps(config), "10", "0"],
            cwd=tmp_path, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        run = Path(done.stdout.strip())
        iterations = len(progress_of(run))
        assert iterations >= 10
        whole = uninterrupted(configure(tmp_path / "whole", "seed=10", "env_steps=1000000000"), iterations)
        assert_same_run(run, whole)
        assert_same_figures(run, whole)
        assert len(run_folder.RunRecord.load(run).content["resumed"]) >= 8
