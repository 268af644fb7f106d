"""A person answers through files."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agents import llm_inbox
from agents.llm import LLM, Answer, AnswersMissing, Asked, Limits, LLMError, Message, Request, make_provider, render
from agents.llm_types import MAX_ANSWER_BYTES

ROOT = Path(__file__).resolve().parents[2]
OLD = 1_700_000_000  # [s since 1970] a time long past: a file that nobody is writing any more


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm_inbox, "SETTLE_S", 0.3)
    monkeypatch.setattr(llm_inbox, "SETTLE_OPEN_S", 1.5)


def request(sample: int = 0, *turns: str, purpose: str = "reward") -> Request:
    messages = [Message("system", "You write rewards."), Message("user", "Write one for a cartpole.")]
    for index, turn in enumerate(turns):
        messages.append(Message("user" if index % 2 else "assistant", turn))
    return Request(tuple(messages), 0, sample, purpose)


def box(folder: Path, leave: bool = False) -> Asked:
    return Asked(folder, make_provider(LLM(kind="inbox", model="claude-x", inbox_exit=leave), folder), Limits())


def answer_file(folder: Path, name: str, content: str | bytes, settled: bool = True) -> Path:
    path = folder / "inbox" / f"{name}.answer.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    if settled:
        os.utime(path, (OLD, OLD))
    return path


def test_the_prompt_file_is_one_message_with_the_whole_conversation(tmp_path):
    answer_file(tmp_path, "g0s0", "an answer")
    asked = request(0, "my first reward", "it fell over; try again")
    box(tmp_path).ask([asked])
    text = (tmp_path / "inbox" / "g0s0.prompt.md").read_text()
    parts = ["You write rewards.", "Write one for a cartpole.", "my first reward", "it fell over; try again"]
    assert [text.index(part) for part in parts] == sorted(text.index(part) for part in parts)
    assert text == render(asked) and text.endswith("try again\n")
    assert "# You answered" in text


def test_a_first_prompt_is_only_the_text_itself(tmp_path):
    assert render(request()) == "You write rewards.\n\nWrite one for a cartpole.\n"


def test_it_says_what_it_waits_for_and_takes_answers_as_they_come(tmp_path, capsys):
    def person() -> None:
        prompts = [tmp_path / "inbox" / f"g0s{i}.prompt.md" for i in range(2)]
        while not all(prompt.exists() for prompt in prompts):
            time.sleep(0.02)
        answer_file(tmp_path, "g0s1", "second")
        time.sleep(1.0)
        answer_file(tmp_path, "g0s0", "first\r\nline")

    thread = threading.Thread(target=person, daemon=True)
    thread.start()
    answers = box(tmp_path).ask([request(0), request(1)])
    thread.join()
    assert [answer.text for answer in answers if isinstance(answer, Answer)] == ["first\nline", "second"]
    assert all(
        isinstance(a, Answer) and (a.provider, a.model, a.cost_usd) == ("inbox", "claude-x", None) for a in answers
    )
    printed = capsys.readouterr().out.splitlines()
    assert any("g0s0.answer.md, g0s1.answer.md" in line and str(tmp_path) in line for line in printed)
    assert any("for g0s0.answer.md" in line for line in printed), "what is left is said again"


def test_more_prompts_than_requests_at_a_time_appear_at_once(tmp_path):
    provider = make_provider(LLM(kind="inbox", inbox_exit=True), tmp_path)
    with pytest.raises(AnswersMissing):
        Asked(tmp_path, provider, Limits(concurrent=1, requests=0)).ask([request(i) for i in range(4)])
    assert len(list((tmp_path / "inbox").glob("*.prompt.md"))) == 4


def test_a_file_that_is_still_being_written_is_not_read(tmp_path):
    whole = "```python\ndef reward(s):\n    return {'a': s.x}\n```\n"
    path = answer_file(tmp_path, "g0s0", "", settled=False)

    def person() -> None:
        for end in range(0, len(whole), 6):
            path.write_text(whole[:end])
            time.sleep(0.1)
        path.write_text(whole)

    thread = threading.Thread(target=person, daemon=True)
    thread.start()
    (answer,) = box(tmp_path).ask([request()])
    thread.join()
    assert isinstance(answer, Answer) and answer.text == whole


def test_a_pause_within_a_code_block_is_waited_for(tmp_path):
    """The first half alone has settled long enough for a complete text, but it ends inside a code block."""
    path = answer_file(tmp_path, "g0s0", "```python\ndef reward(s):\n", settled=False)
    writer = threading.Timer(0.8, lambda: path.write_text("```python\ndef reward(s):\n    return {}\n```"))
    writer.start()
    (answer,) = box(tmp_path).ask([request()])
    writer.join()
    assert isinstance(answer, Answer) and answer.text.endswith("return {}\n```")


def test_an_answer_without_the_closing_fence_is_taken_in_the_end(tmp_path):
    answer_file(tmp_path, "g0s0", "```python\nx = 1", settled=False)
    started = time.monotonic()
    (answer,) = box(tmp_path).ask([request()])
    assert isinstance(answer, Answer) and answer.text == "```python\nx = 1"
    assert time.monotonic() - started >= 1.4


def test_leaving_names_every_missing_file_and_keeps_what_came(tmp_path):
    answer_file(tmp_path, "g0s1", "second")
    with pytest.raises(AnswersMissing) as error:
        box(tmp_path, leave=True).ask([request(0), request(1), request(2)])
    message = str(error.value)
    assert "2 answers are missing" in message and "g0s1" not in message
    for name in ("g0s0", "g0s2"):
        assert str(tmp_path / "inbox" / f"{name}.answer.md") in message
        assert (tmp_path / "inbox" / f"{name}.prompt.md").exists()
        answer_file(tmp_path, name, f"to {name}")
    answers = box(tmp_path, leave=True).ask([request(0), request(1), request(2)])
    assert [a.text for a in answers if isinstance(a, Answer)] == ["to g0s0", "second", "to g0s2"]


def test_what_was_taken_stays_even_when_the_file_changes_or_goes(tmp_path):
    path = answer_file(tmp_path, "g0s0", "first")
    box(tmp_path).ask([request()])
    path.unlink()
    (answer,) = box(tmp_path, leave=True).ask([request()])
    assert isinstance(answer, Answer) and answer.text == "first"


def test_an_answer_to_an_earlier_prompt_is_marked(tmp_path):
    with pytest.raises(AnswersMissing):
        box(tmp_path, leave=True).ask([request()])
    answer_file(tmp_path, "g0s0", "to the first wording")
    before = (tmp_path / "inbox" / "g0s0.prompt.md").read_text()
    (answer,) = box(tmp_path, leave=True).ask([request(0, "a", "another wording")])
    assert isinstance(answer, Answer) and answer.prompt_changed
    assert (tmp_path / "inbox" / "g0s0.prompt.md").read_text() == before


def test_an_unanswered_prompt_is_brought_up_to_date(tmp_path):
    for asked in (request(), request(0, "a", "another wording")):
        with pytest.raises(AnswersMissing):
            box(tmp_path, leave=True).ask([asked])
    assert (tmp_path / "inbox" / "g0s0.prompt.md").read_text() == render(asked)


def test_each_purpose_has_its_own_files(tmp_path):
    with pytest.raises(AnswersMissing, match=r"g0s0\.repair\.answer\.md"):
        box(tmp_path, leave=True).ask([request(), request(purpose="repair")])
    prompts = sorted(path.name for path in (tmp_path / "inbox").glob("*.prompt.md"))
    assert prompts == ["g0s0.prompt.md", "g0s0.repair.prompt.md"]


@pytest.mark.parametrize(
    ("content", "words"),
    [("ü".encode("utf-16"), "UTF-8"), (b"x" * (MAX_ANSWER_BYTES + 1), "shorten")],
    ids=["utf-16", "too-long"],
)
def test_a_file_that_is_no_answer_is_a_clear_error(tmp_path, content, words):
    path = answer_file(tmp_path, "g0s0", content)
    (error,) = box(tmp_path).ask([request()])
    assert isinstance(error, LLMError) and words in str(error) and str(path) in str(error)


def test_a_byte_order_mark_is_dropped(tmp_path):
    answer_file(tmp_path, "g0s0", "\ufeffanswer".encode())
    (answer,) = box(tmp_path).ask([request()])
    assert isinstance(answer, Answer) and answer.text == "answer"


def test_the_hash_on_record_is_that_of_the_prompt_file(tmp_path):
    answer_file(tmp_path, "g0s0", "x")
    asked = box(tmp_path)
    asked.ask([request()])
    (record,) = asked.records()
    assert record.prompt_sha256 == hashlib.sha256((tmp_path / "inbox" / "g0s0.prompt.md").read_bytes()).hexdigest()
    assert record.request == request()


def test_ctrl_c_while_waiting_leaves_nothing_behind(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "from agents.llm import *\n"
        "folder = Path(sys.argv[1])\n"
        "try:\n"
        "    asked = Asked(folder, make_provider(LLM(kind='inbox'), folder), Limits())\n"
        "    asked.ask([Request((Message('user', 'u'),), 0, 0)])\n"
        "except KeyboardInterrupt: sys.exit(130)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert child.stdout is not None
        assert "g0s0.answer.md" in child.stdout.readline()
        child.send_signal(2)
        _, errors = child.communicate(timeout=20)
    finally:
        child.kill()
    assert (child.returncode, errors) == (130, "")
    assert not list(tmp_path.rglob(".*"))


def test_inbox_and_transcript_do_not_load_pydantic_ai(tmp_path):
    program = (
        "import sys; from pathlib import Path\n"
        "sys.modules['pydantic_ai'] = None\n"  # any import of it fails
        "from agents.llm import *\n"
        "make_provider(LLM(kind='inbox'), Path(sys.argv[1]))\n"
        "bad = [name for name in ('torch', 'mujoco', 'openai', 'anthropic', 'genai_prices') if name in sys.modules]\n"
        "print('loaded:', bad)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, text=True, capture_output=True, check=True
    )
    assert done.stdout.strip() == "loaded: []"


def test_conversations_that_no_provider_could_take():
    user, system = Message("user", "u"), Message("system", "s")
    for messages in ((), (system,), (user, system), (user, Message("assistant", "a"))):
        with pytest.raises(ValueError, match="conversation"):
            Request(messages, 0, 0)
    with pytest.raises(ValueError, match="purpose"):
        Request((user,), 0, 0, "../x")
