"""`gantry search` from the command line, through every launcher, each for real."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agents.confined import needs_confinement
from tests.agents.kill_search import GOOD, REFUSED
from tests.agents.launchers import LAUNCHERS, need

ROOT = Path(__file__).resolve().parents[2]
TINY = (
    "task=cartpole-swingup", "env_steps=256", "threads=1", "generations=1", "samples=2", "rungs=[]", "arms=[]",
    "finalists=1", "final_seeds=1", "episodes=4", "evaluation_seeds=1", "report_episodes=4", "report_seeds=1",
    "ppo.num_envs=16", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]", "ppo.critic_hidden=[16,16]", "video=false",
)  # fmt: skip
pytestmark = [
    pytest.mark.optin,  # some minutes: whole searches; tests/agents/test_sweeps.py tries each launcher in `make test`
    pytest.mark.timeout(600),
    needs_confinement,
]


def gantry(*arguments: str, cwd: Path, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gantry", "search", *arguments], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("launcher", [name for name in LAUNCHERS if name != "basic"])
def test_a_search(launcher, tmp_path, short_folder):
    need(launcher)
    options = list(LAUNCHERS[launcher])
    if launcher == "ray":
        options.append(f"+hydra.launcher.ray.init._temp_dir={short_folder}")
    gantry(*TINY, "proposer=mutation", *options, cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}, "the search leaves its files below runs/ alone"
    [folder] = (tmp_path / "runs" / "sweeps").iterdir()
    table = json.loads((folder / "table.json").read_text())
    assert table["counts"]["mutation"] == {
        "proposed": 2, "answered": 2, "executed": 2, "complete": 2, "env_steps": 512, "env_steps_full": 512,
    }  # fmt: skip
    assert len(table["arms"]["mutation"]["fitness"]) == 1
    assert len(list((tmp_path / "runs" / "cartpole-swingup").iterdir())) == 3


def transcript(folder: Path) -> Path:
    """A recorded conversation as `llm=transcript` reads it, on other prompts than ours."""
    folder.mkdir()
    answers = {}
    for place, text in {"g0s0": GOOD, "g0s1": REFUSED}.items():
        (folder / f"{place}.md").write_text(text)
        answers[place] = {
            "file": f"{place}.md", "prompt": None, "prompt_sha256": hashlib.sha256(b"another prompt").hexdigest(),
            "input_tokens": 900, "output_tokens": 100, "cost_usd": 0.02,
        }  # fmt: skip
    content = {
        "format": 1,
        "provider": "somebody",
        "model": "model-7",
        "date": "2026-11-01",
        "note": "",
        "answers": answers,
    }
    (folder / "transcript.json").write_text(json.dumps(content))
    return folder


def test_a_transcript_in_a_folder_of_any_name(tmp_path):
    """From the command line to the table, in a place whose name needs quoting; then again, which does nothing."""
    place = tmp_path / "it's $HOME, [1=2] ü"
    place.mkdir()
    recorded = transcript(tmp_path / "recorded")
    text = gantry(*TINY, "llm=transcript", f"llm.transcript={recorded}", cwd=place)
    [folder] = (place / "runs" / "sweeps").iterdir()
    table = json.loads((folder / "table.json").read_text())
    assert table["replayed"] and table["arms"]["model"]["replayed"] and "replayed" in text
    assert "1 of 2 answers ran as they came" in text
    proposal = json.loads((folder / "ledger.jsonl").read_text().splitlines()[2])
    assert proposal["event"] == "proposal" and proposal["model"] == "model-7" and proposal["prompt_changed"]
    written = {path: path.stat().st_mtime_ns for path in place.rglob("rung*.json")}
    assert len(written) == 2
    again = gantry(f'resume="{folder}"', cwd=place)
    assert "1 of 2 answers ran as they came" in again
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_what_cannot_begin_leaves_nothing(tmp_path):
    assert "llm.transcript is empty" in gantry(*TINY, "llm=transcript", "llm.transcript=", cwd=tmp_path, expect=2)
    assert not list((tmp_path / "runs").rglob("search.json"))
    text = gantry(*TINY, "proposer=mutatoin", cwd=tmp_path, expect=2)
    assert "did you mean 'mutation'" in text and "Traceback" not in text
    text = gantry(*TINY, "resume=true", cwd=tmp_path, expect=2)
    assert "no unfinished search with this configuration" in text
    assert "is a sweep" in gantry(*TINY, "seed=1,2", cwd=tmp_path, expect=2)


def test_nobody_at_the_terminal_to_approve(tmp_path):
    recorded = transcript(tmp_path / "recorded")
    text = gantry(*TINY, "llm=transcript", f"llm.transcript={recorded}", "approve=ask", cwd=tmp_path, expect=2)
    assert "'balance'" in text, "the code is shown"
    assert "approve=ask needs somebody at a terminal" in text and "continue with: gantry search resume=" in text
    assert not list((tmp_path / "runs").rglob("rung*.json"))


def descendants(process_id: int) -> dict[int, str]:
    """Command lines of all processes below one, by id."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # ended meanwhile
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = {}, [process_id]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found[child] = command_line(child)
            waiting.append(child)
    return found


def command_line(process_id: int) -> str:
    """Empty for a process that has ended, or that nobody has waited for yet."""
    try:
        return Path(f"/proc/{process_id}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_a_search_that_is_told_to_stop_leaves_nobody_training(launcher, stop, tmp_path):
    """Only the search itself is told, as by a cluster's scheduler, and not its whole process group."""
    arguments = [*TINY, "env_steps=1_000_000_000", "proposer=mutation", *LAUNCHERS[launcher]]
    search = subprocess.Popen(
        [sys.executable, "-m", "gantry", "search", *arguments], cwd=tmp_path, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # even where SIGINT is ignored
    )  # fmt: skip
    family: dict[int, str] = {}
    try:
        until = time.monotonic() + 120
        while not any(path.stat().st_size for path in tmp_path.glob("runs/*/*/train/progress.jsonl")):
            assert time.monotonic() < until and search.poll() is None, "no candidate trains"
            time.sleep(0.2)
        family = descendants(search.pid)
        assert any("confinement" in line for line in family.values()), family
        search.send_signal(stop)
        output, _ = search.communicate(timeout=60)
        assert search.returncode == 130 and "continue with: gantry search resume=" in output
        until = time.monotonic() + 10
        while left := [line for child, line in family.items() if line and command_line(child) == line]:
            assert time.monotonic() < until, left
            time.sleep(0.1)
    finally:
        for process in (search.pid, *family):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        search.wait()
