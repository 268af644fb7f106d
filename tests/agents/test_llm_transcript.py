"""Recorded conversations, and the settings of every choice."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module

from agents import llm_transcript
from agents.llm import LLM, Answer, Asked, Limits, LLMError, Message, Request, make_provider, record
from configs import llm_schema, schema, search_schema
from configs.errors import UserError

OLD = 1_700_000_000  # [s since 1970]


def request(generation: int, sample: int, text: str = "") -> Request:
    messages = (Message("system", "You write rewards."), Message("user", text or f"generation {generation}"))
    return Request(messages, generation, sample)


def answered(folder: Path, count: int = 2) -> Path:
    """A search that a person has answered through the inbox."""
    (folder / "inbox").mkdir(parents=True)
    for place in [f"g{g}s{s}" for g in range(2) for s in range(count)]:
        path = folder / "inbox" / f"{place}.answer.md"
        path.write_text(f"answer {place} ü\n")
        os.utime(path, (OLD, OLD))
    box = Asked(folder, make_provider(LLM(kind="inbox"), folder), Limits())
    for generation in range(2):
        box.ask([request(generation, sample) for sample in range(count)])
    return folder


@pytest.fixture
def transcript(tmp_path: Path) -> Path:
    return record(
        answered(tmp_path / "search"), tmp_path / "recorded", provider="anthropic", model="claude-x", date="2026-11-21"
    )


def replay(transcript: Path, folder: Path, requests: list[Request]) -> list[Answer | LLMError]:
    provider = make_provider(LLM(kind="transcript", transcript=str(transcript)), folder)
    return Asked(folder, provider, Limits(requests=0, tokens=0, cost_usd=0.0)).ask(requests)


def test_recorded_answers_come_back(transcript, tmp_path):
    requests = [request(g, s) for g in range(2) for s in range(2)]
    answers = replay(transcript, tmp_path / "second", requests)
    for asked, answer in zip(requests, answers, strict=True):
        assert isinstance(answer, Answer)
        assert answer.text == f"answer {asked.place} ü\n"
        assert (answer.provider, answer.model, answer.recorded) == ("anthropic", "claude-x", "2026-11-21")
        assert answer.replayed and not answer.prompt_changed


def test_a_resumed_replay_is_still_called_one(transcript, tmp_path):
    first = replay(transcript, tmp_path / "second", [request(0, 0)])
    assert replay(transcript, tmp_path / "second", [request(0, 0)]) == first


def test_a_changed_prompt_is_reported(transcript, tmp_path, capsys):
    same, changed = replay(transcript, tmp_path / "second", [request(0, 0), request(0, 1, "a new wording")])
    assert isinstance(same, Answer) and not same.prompt_changed
    assert isinstance(changed, Answer) and changed.prompt_changed and changed.text == "answer g0s1 ü\n"
    assert "g0s1" in capsys.readouterr().out


def test_an_absent_answer_is_a_clear_error(transcript, tmp_path):
    present, absent = replay(transcript, tmp_path / "second", [request(0, 0), request(7, 0)])
    assert isinstance(present, Answer)
    assert isinstance(absent, LLMError) and "g7s0" in str(absent) and "g0s0, g0s1, g1s0, g1s1" in str(absent)


def test_what_a_transcript_consists_of(transcript):
    content = json.loads((transcript / "transcript.json").read_text())
    assert list(content["answers"]) == ["g0s0", "g0s1", "g1s0", "g1s1"]
    for entry in content["answers"].values():
        assert (transcript / entry["file"]).is_file()
        assert hashlib.sha256((transcript / entry["prompt"]).read_bytes()).hexdigest() == entry["prompt_sha256"]
    assert len(list((transcript / "prompts").iterdir())) == 2, "equal prompts are kept once"
    assert not list(transcript.parent.glob(".*"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(format=9), "format 9"),
        (lambda c: c.pop("model"), "model"),
        (lambda c: c["answers"]["g0s0"].update(file="../../secret"), "no plain file name"),
        (lambda c: c.update(answers=[1]), "transcript.json"),
    ],
)
def test_a_damaged_transcript_is_named(transcript, tmp_path, change, words):
    content = json.loads((transcript / "transcript.json").read_text())
    change(content)
    (transcript / "transcript.json").write_text(json.dumps(content))
    with pytest.raises(LLMError, match=words):
        make_provider(LLM(kind="transcript", transcript=str(transcript)), tmp_path)


def test_a_missing_answer_file_is_named(transcript, tmp_path):
    (transcript / "g0s0.answer.md").unlink()
    (error,) = replay(transcript, tmp_path / "second", [request(0, 0)])
    assert isinstance(error, LLMError) and "g0s0.answer.md" in str(error)


@pytest.mark.parametrize(
    ("folder", "words"), [("", "llm.transcript is empty"), ("nowhere", "unknown llm.transcript 'nowhere'")]
)
def test_no_transcript(tmp_path, folder, words):
    with pytest.raises(LLMError, match=words):
        make_provider(LLM(kind="transcript", transcript=folder), tmp_path)


@pytest.mark.parametrize("name", llm_transcript.shipped())
def test_the_conversations_that_come_with_gantry(name, tmp_path):
    """Each can be replayed by its name, is complete, and holds the prompts that it says it answers."""
    provider = make_provider(LLM(kind="transcript", transcript=name), tmp_path)
    assert isinstance(provider, llm_transcript.Transcript) and provider.folder == llm_transcript.SHIPPED / name
    content = json.loads((provider.folder / "transcript.json").read_text())
    assert content["provider"] and content["model"] and content["date"]
    schema.register()
    search_schema.register()
    llm_schema.register()
    with initialize_config_module("configs", version_base="1.3"):
        size = compose("search", [f"+recorded={name.partition('/')[0]}"])
    generations = max(size.generations, len(content["answers"]) // size.samples)
    asked = {f"g{g}s{s}" for g in range(generations) for s in range(size.samples)}
    assert set(content["answers"]) == asked, "whole generations, at least as many as the recorded size asks for"
    for place, entry in content["answers"].items():
        assert "def reward" in (provider.folder / entry["file"]).read_text(), place
        prompt = provider.folder / entry["prompt"]
        assert hashlib.sha256(prompt.read_bytes()).hexdigest() == entry["prompt_sha256"]


def test_a_shipped_name_gives_way_to_a_folder(transcript, tmp_path, monkeypatch):
    monkeypatch.setattr(llm_transcript, "SHIPPED", tmp_path / "shipped")
    (tmp_path / "shipped" / "task").mkdir(parents=True)
    shutil.copytree(transcript, tmp_path / "shipped" / "task" / "0")
    assert llm_transcript.shipped() == ["task/0"]
    assert llm_transcript.locate("task/0") == tmp_path / "shipped" / "task" / "0"
    with pytest.raises(LLMError, match="did you mean 'task/0'"):
        llm_transcript.locate("taks/0")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(transcript, tmp_path / "task" / "0")
    assert llm_transcript.locate("task/0") == Path("task/0")


def test_what_cannot_be_recorded(tmp_path, transcript):
    search = tmp_path / "search"
    with pytest.raises(UserError, match="exists"):
        record(search, transcript, provider="p", model="m")
    with pytest.raises(UserError, match="which provider answered"):
        record(search, tmp_path / "a")
    with pytest.raises(UserError, match="ISO date"):
        record(search, tmp_path / "a", provider="p", model="m", date="yesterday")
    with pytest.raises(UserError, match="no answers"):
        record(tmp_path, tmp_path / "a", provider="p", model="m")
    replay(transcript, tmp_path / "second", [request(0, 0)])
    with pytest.raises(UserError, match="replayed"):
        record(tmp_path / "second", tmp_path / "a", provider="p", model="m")
    assert not (tmp_path / "a").exists()


def test_an_answer_to_an_earlier_wording_stays_marked_in_the_transcript(tmp_path):
    search = answered(tmp_path / "search")
    box = Asked(search, make_provider(LLM(kind="inbox", inbox_exit=True), search), Limits())
    with pytest.raises(LLMError):
        box.ask([request(2, 0)])
    (search / "inbox" / "g2s0.answer.md").write_text("late")
    box.ask([request(2, 0, "another wording")])
    transcript = record(search, tmp_path / "recorded", provider="p", model="m")
    (answer,) = replay(transcript, tmp_path / "second", [request(2, 0, "another wording")])
    assert isinstance(answer, Answer) and answer.prompt_changed


def test_command_line(tmp_path, capsys):
    search = answered(tmp_path / "search")
    llm_transcript.main([str(search), str(tmp_path / "recorded"), "--provider", "a", "--model", "m"])
    assert str(tmp_path / "recorded") in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        llm_transcript.main([str(search), str(tmp_path / "recorded"), "--provider", "a", "--model", "m"])
    assert left.value.code == 2 and "exists" in capsys.readouterr().err


# --- configs/llm ----------------------------------------------------------------------------------------------

CHOICES = sorted(path.stem for path in (Path(llm_schema.__file__).parent / "llm").glob("*.yaml"))


def choose(choice: str, *overrides: str):
    llm_schema.register()
    with initialize_config_module("configs", version_base="1.3"):
        return compose(overrides=[f"+llm={choice}", *overrides]).llm


def test_every_choice_is_there_and_typed():
    assert CHOICES == ["anthropic", "google", "inbox", "local", "openai", "transcript"]
    for choice in CHOICES:
        chosen = choose(choice)
        assert set(chosen) == {field.name for field in fields(LLM)}
        assert chosen.kind == {"inbox": "inbox", "transcript": "transcript"}.get(choice, "model")


@pytest.mark.parametrize("override", ["llm.max_tokns=1", "llm.limits.tokens=many", "llm.inbox_exit=perhaps"])
def test_a_typo_or_a_wrong_type_is_refused(override):
    with pytest.raises(Exception, match=override.partition("=")[0].split(".")[-1]):
        choose("inbox", override)


def test_limits_can_be_lifted():
    chosen = choose("local", "llm.limits.tokens=null", "llm.model=qwen3-coder:30b")
    assert chosen.limits.tokens is None and chosen.limits.concurrent == 2
