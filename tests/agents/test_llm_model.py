"""A model over the network: pydantic-ai against a scripted server on loopback. No network, no key."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from agents import llm
from agents.llm import LLM, Answer, Asked, BudgetExhausted, Limits, LLMError, Message, Request, make_provider
from agents.llm_budget import Budget, Cost, Spent
from agents.llm_keys import KEY_VARIABLES, environment_without_keys, is_key_variable, redact
from tests.agents.llm_server import Reply, serving

pytest.importorskip("pydantic_ai", reason="the llm extra is not installed")

KEY = "sk-planted-4f9b2c7de1"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if is_key_variable(name)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def request(sample: int = 0, generation: int = 0, text: str = "") -> Request:
    messages = (Message("system", "You write rewards."), Message("user", text or f"prompt g{generation}s{sample}"))
    return Request(messages, generation, sample)


def settings(url: str, **changes: object) -> LLM:
    changes = {"max_tokens": 1000, "timeout_s": 10.0, **changes}
    return LLM(kind="model", model="tiny", base_url=url, **changes)  # type: ignore[arg-type]


def limits(**changes: object) -> Limits:
    return Limits(**{"backoff_s": 0.01, "cost_usd": None, **changes})  # type: ignore[arg-type]


def asked(folder: Path, configuration: LLM, lines: list[str] | None = None, **changes: object) -> Asked:
    say = (lambda line: None) if lines is None else lines.append
    return Asked(folder, make_provider(configuration, folder), limits(**changes), say)


def everything(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.rglob("*")) if path.is_file())


def test_answer_tokens_and_conversation(tmp_path):
    conversation = (Message("system", "S"), Message("user", "U1"), Message("assistant", "A1"), Message("user", "U2"))
    with serving(lambda *_: Reply(text="<think>hm</think>\nhere")) as server:
        (answer,) = asked(tmp_path, settings(server.url, temperature=0.5)).ask([Request(conversation, 1, 0)])
    assert isinstance(answer, Answer)
    assert (answer.text.strip(), answer.model, answer.input_tokens, answer.output_tokens) == (
        "here", "served-model", 100, 50,
    )  # fmt: skip
    assert not answer.replayed and not answer.prompt_changed and not answer.cut_off
    (sent,) = server.requests
    assert sent["messages"] == [
        {"role": "system", "content": "S"}, {"role": "user", "content": "U1"},
        {"role": "assistant", "content": "A1"}, {"role": "user", "content": "U2"},
    ]  # fmt: skip
    assert (sent["model"], sent["max_tokens"], sent["temperature"]) == ("tiny", 1000, 0.5)


def test_samples_are_requested_at_the_same_time(tmp_path):
    with serving(lambda *_: Reply(delay_s=0.4)) as server:
        answers = asked(tmp_path, settings(server.url), concurrent=3).ask([request(i) for i in range(6)])
    assert all(isinstance(answer, Answer) for answer in answers)
    assert server.most_at_once == 3


def test_order_of_answers_is_that_of_the_requests(tmp_path):
    with serving(lambda prompt, _: Reply(text=f"to {prompt}", delay_s=0.3 if prompt == "prompt g0s0" else 0)) as server:
        answers = asked(tmp_path, settings(server.url)).ask([request(0), request(1), request(2)])
    assert [answer.text for answer in answers if isinstance(answer, Answer)] == [f"to prompt g0s{i}" for i in range(3)]


def test_rate_limit_holds_every_request_back_for_as_long_as_asked(tmp_path):
    """The first is limited; the second was under way; the third takes the second's place and must wait as well."""

    def script(prompt: str, seen: int) -> Reply:
        if prompt == "prompt g0s0" and seen == 1:
            return Reply(429, "slow down", {"retry-after": "1"})
        return Reply(delay_s=0.8 if prompt == "prompt g0s1" else 0.0)

    lines: list[str] = []
    with serving(script) as server:
        answers = asked(tmp_path, settings(server.url), lines, concurrent=2).ask([request(i) for i in range(3)])
    assert all(isinstance(answer, Answer) for answer in answers)
    arrivals = list(zip(server.prompts(), server.times, strict=True))
    limited_at = next(at for prompt, at in arrivals if prompt == "prompt g0s0")
    later = {prompt: at for prompt, at in arrivals if prompt != "prompt g0s1"}  # the last arrival of each
    assert len(arrivals) == 4 and set(later) == {"prompt g0s0", "prompt g0s2"}
    assert all(at - limited_at >= 1.0 for at in later.values()), arrivals
    assert any("HTTP 429" in line and "slow down" in line for line in lines)


@pytest.mark.parametrize("status", [429, 503, 529])
def test_retry_after_longer_than_allowed_is_an_error_at_once(tmp_path, status):
    with serving(lambda *_: Reply(status, "later", {"retry-after": "3600"})) as server:
        (error,) = asked(tmp_path, settings(server.url)).ask([request()])
    assert isinstance(error, LLMError) and "3600 s" in str(error) and "max_wait_s" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "failure",
    [
        Reply(500, "oops"), Reply(502, raw="<html>bad gateway</html>"), Reply(408), Reply(close=True),
        Reply(raw="<html>login</html>", headers={"content-type": "text/html"}), Reply(raw='{"id": '), Reply(raw="{}"),
        Reply(raw='{"id":"1","object":"chat.completion","created":1,"model":"m","choices":[]}'), Reply(text=""),
    ],
    ids=["500", "502", "408", "broken-connection", "html", "half-json", "empty-object", "no-choices", "empty-answer"],
)  # fmt: skip
def test_what_may_go_away_is_retried(tmp_path, failure):
    with serving(lambda _, seen: failure if seen <= 2 else Reply()) as server:
        (answer,) = asked(tmp_path, settings(server.url)).ask([request()])
    assert isinstance(answer, Answer), answer
    assert len(server.requests) == 3


def test_back_off_grows_and_gives_up(tmp_path):
    with serving(lambda *_: Reply(500, "oops")) as server:
        (error,) = asked(tmp_path, settings(server.url), attempts=4, backoff_s=0.1).ask([request()])
    assert isinstance(error, LLMError) and "given up after 4 attempts" in str(error) and "oops" in str(error)
    waits = [after - before for before, after in zip(server.times, server.times[1:], strict=False)]
    assert len(waits) == 3
    for wait_s, least_s in zip(waits, (0.05, 0.1, 0.2), strict=True):
        assert wait_s >= least_s


def test_an_answer_that_does_not_come_in_time(tmp_path):
    with serving(lambda _, seen: Reply(delay_s=9.0 if seen == 1 else 0.0)) as server:
        started = time.monotonic()
        box = asked(tmp_path, settings(server.url, timeout_s=1.5))
        (answer,) = box.ask([request()])
        assert time.monotonic() - started < 8.0
    assert isinstance(answer, Answer)
    # The first attempt may have been charged for: its worst case counts.
    assert box.spent().requests == 2 and box.spent().tokens > 1000 + 150


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(401, "bad key"), ("HTTP 401", "bad key", "check the key")),
        (Reply(403, "no access"), ("HTTP 403", "check the key")),
        (Reply(404, "no such model"), ("no such model", "llm.model", "llm.base_url")),
        (Reply(400, "too many tokens"), ("HTTP 400", "llm.max_tokens")),
        (Reply(402, "pay first"), ("credit",)),
        (Reply(text="", finish="length"), ("llm.max_tokens=1000", "raise it")),
    ],
)
def test_what_will_not_go_away_is_one_clear_error(tmp_path, reply, words):
    with serving(lambda *_: reply) as server:
        (error,) = asked(tmp_path, settings(server.url)).ask([request()])
    assert isinstance(error, LLMError) and all(word in str(error) for word in words), error
    assert "\n" not in str(error)
    assert len(server.requests) == 1


def test_nobody_listens(tmp_path):
    with serving(lambda *_: Reply()) as server:
        url = server.url
    (error,) = asked(tmp_path, settings(url), attempts=2).ask([request()])
    assert isinstance(error, LLMError) and "is the server running?" in str(error)


def test_a_cut_off_answer_says_so(tmp_path):
    with serving(lambda *_: Reply(text="def rew", finish="length")) as server:
        (answer,) = asked(tmp_path, settings(server.url)).ask([request()])
    assert isinstance(answer, Answer) and answer.cut_off


def test_answered_once_is_never_asked_again(tmp_path):
    with serving(lambda prompt, _: Reply(text=f"to {prompt}")) as server:
        first = asked(tmp_path, settings(server.url)).ask([request(0), request(1)])
        again = asked(tmp_path, settings(server.url)).ask([request(0), request(1), request(2)])
    assert again[:2] == first
    assert sorted(server.prompts()) == ["prompt g0s0", "prompt g0s1", "prompt g0s2"]


def test_a_prompt_that_changed_since_is_reported_not_paid(tmp_path):
    lines: list[str] = []
    with serving(lambda *_: Reply()) as server:
        asked(tmp_path, settings(server.url)).ask([request(text="old wording")])
        (answer,) = asked(tmp_path, settings(server.url), lines).ask([request(text="new wording")])
    assert isinstance(answer, Answer) and answer.prompt_changed
    assert server.prompts() == ["old wording"]
    assert any("earlier wordings" in line and "g0s0" in line for line in lines)


def test_two_requests_with_one_place_are_a_mistake(tmp_path):
    with serving(lambda *_: Reply()) as server, pytest.raises(ValueError, match="one place"):
        asked(tmp_path, settings(server.url)).ask([request(text="a"), request(text="b")])


def test_request_limit_stops_and_survives_a_restart(tmp_path):
    with serving(lambda *_: Reply()) as server:
        outcomes = asked(tmp_path, settings(server.url), requests=3).ask([request(i) for i in range(5)])
        assert [type(outcome) for outcome in outcomes].count(BudgetExhausted) == 2
        outcomes = asked(tmp_path, settings(server.url), requests=3).ask([request(i) for i in range(5)])
        assert [type(outcome) for outcome in outcomes].count(BudgetExhausted) == 2
        assert len(server.requests) == 3
        outcomes = asked(tmp_path, settings(server.url), requests=5).ask([request(i) for i in range(5)])
        assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert len(server.requests) == 5
    assert sorted(set(server.prompts())) == [f"prompt g0s{i}" for i in range(5)]


def test_retries_count_as_requests(tmp_path):
    with serving(lambda *_: Reply(500, "oops")) as server:
        (error,) = asked(tmp_path, settings(server.url), requests=2).ask([request()])
    assert isinstance(error, BudgetExhausted) and "llm.limits.requests=2" in str(error)
    assert len(server.requests) == 2


def test_token_limit_is_never_passed(tmp_path):
    # A request may take about 1020 tokens and takes 150, so that the first four fit one after the other.
    with serving(lambda *_: Reply(delay_s=0.05)) as server:
        box = asked(tmp_path, settings(server.url), tokens=1600)
        outcomes = box.ask([request(i) for i in range(8)])
    answered = [outcome for outcome in outcomes if isinstance(outcome, Answer)]
    errors = [outcome for outcome in outcomes if not isinstance(outcome, Answer)]
    assert len(answered) == len(server.requests) == 4
    assert all(isinstance(error, BudgetExhausted) and "llm.limits.tokens=1,600" in str(error) for error in errors)
    assert box.spent().tokens == 4 * 150


def test_money_limit_with_prices_of_ones_own(tmp_path):
    prices = {"usd_per_million_input": 1000.0, "usd_per_million_output": 2000.0}  # 0.2 USD an answer, at worst 2.02
    with serving(lambda *_: Reply()) as server:
        box = asked(tmp_path, settings(server.url, **prices), cost_usd=2.3, concurrent=1)
        outcomes = box.ask([request(i) for i in range(5)])
    assert [type(outcome) for outcome in outcomes] == [Answer, Answer, *[BudgetExhausted] * 3]
    assert isinstance(outcomes[0], Answer) and outcomes[0].cost_usd == pytest.approx(0.2)
    assert box.spent().cost_usd == pytest.approx(0.4)
    assert "llm.limits.cost_usd=2.3" in str(outcomes[2])


def test_an_unknown_price_is_said_once(tmp_path):
    lines: list[str] = []
    with serving(lambda *_: Reply()) as server:
        box = asked(tmp_path, settings(server.url), lines, cost_usd=1.0)
        box.ask([request(0), request(1)])
    assert sum("no price is known" in line for line in lines) == 1
    assert box.spent().unpriced == 2


def test_a_server_that_counts_nothing_is_charged_the_worst_case(tmp_path):
    with serving(lambda *_: Reply(usage=None)) as server:
        box = asked(tmp_path, settings(server.url))
        (answer,) = box.ask([request()])
    assert isinstance(answer, Answer) and answer.input_tokens is None
    assert box.spent().tokens > 1000


CHILD = """
import sys
from pathlib import Path
from agents.llm import LLM, Asked, Limits, Message, Request, make_provider
folder, url, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
provider = make_provider(LLM(kind="model", model="tiny", base_url=url, max_tokens=1000), folder)
requests = [Request((Message("user", f"prompt g0s{i}"),), 0, i) for i in range(count)]
try:
    Asked(folder, provider, Limits(cost_usd=None)).ask(requests)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


def start_child(folder: Path, url: str, count: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(folder), url, str(count)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_the_middle_nothing_answered_is_paid_again(tmp_path, how):
    """Half of the answers come at once, the other half is under way when the process ends."""

    def script(prompt: str, seen: int) -> Reply:
        return Reply(text=f"to {prompt}", delay_s=60.0 if int(prompt[-1]) % 2 and seen == 1 else 0.0)

    with serving(script) as server:
        child = start_child(tmp_path, server.url, 6)
        try:
            wait_until(lambda: len(list((tmp_path / "llm").glob("*.answer.json"))) == 3 and len(server.requests) == 6)
            child.send_signal(how)
            output, errors = child.communicate(timeout=20)
        finally:
            child.kill()
        if how == signal.SIGINT:
            assert (child.returncode, "interrupted" in output) == (130, True), errors
            assert "Traceback" not in errors
        requests = [Request((Message("user", f"prompt g0s{i}"),), 0, i) for i in range(6)]
        box = asked(tmp_path, settings(server.url))
        assert box.spent().requests == 6 and box.spent().tokens > 3 * 1000 + 3 * 150  # the lost ones in full
        answers = box.ask(requests)
    assert [answer.text for answer in answers if isinstance(answer, Answer)] == [f"to prompt g0s{i}" for i in range(6)]
    assert [server.prompts().count(f"prompt g0s{i}") for i in range(6)] == [1, 2, 1, 2, 1, 2]
    assert box.spent().requests == 9
    assert not list(tmp_path.rglob(".*.tmp"))


def test_a_torn_journal_line_does_not_stop_the_search(tmp_path):
    with serving(lambda *_: Reply()) as server:
        asked(tmp_path, settings(server.url)).ask([request(0)])
        with (tmp_path / "llm" / "requests.jsonl").open("a") as journal:
            journal.write('{"event": "sent", "id": "ab')
        box = asked(tmp_path, settings(server.url))
        box.ask([request(1)])
    assert asked(tmp_path, settings(server.url)).spent() == box.spent()
    assert box.spent().requests == 2


def test_what_follows_a_torn_line_is_a_line_of_its_own(tmp_path):
    journal = tmp_path / "requests.jsonl"
    Budget(journal, limits()).send("g0s0", 1, Cost(10, None))
    with journal.open("a") as file:
        file.write('{"event": "sent", "id": "ab')
    Budget(journal, limits()).send("g0s1", 1, Cost(20, 0.5))
    assert Budget(journal, limits()).spent() == Spent(requests=2, tokens=30, cost_usd=0.5, unpriced=1)


def test_a_damaged_answer_is_named(tmp_path):
    (tmp_path / "llm").mkdir()
    (tmp_path / "llm" / "g0s0.answer.json").write_text("{}")
    with serving(lambda *_: Reply()) as server, pytest.raises(LLMError, match=r"g0s0\.answer\.json"):
        asked(tmp_path, settings(server.url)).ask([request()])


# --- keys -------------------------------------------------------------------------------------------------


def test_the_key_is_sent_and_never_written(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MY_GATEWAY", KEY)

    def script(prompt: str, seen: int) -> Reply:
        if seen == 1:
            return Reply(500, f"your key {KEY} is fine, we are not")
        return Reply(401, f"Bearer {KEY} is wrong") if "s1" in prompt else Reply(text=f"you sent {KEY}")

    with serving(script) as server:
        provider = make_provider(settings(server.url, key_variable="MY_GATEWAY"), tmp_path)
        good, bad = Asked(tmp_path, provider, limits()).ask([request(0), request(1)])
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert isinstance(good, Answer) and good.text == "you sent [key]"
    assert isinstance(bad, LLMError) and "[key]" in str(bad) and "MY_GATEWAY" in str(bad)
    printed = capsys.readouterr()
    assert KEY not in everything(tmp_path) + str(bad) + printed.out + printed.err
    assert "we are not" in everything(tmp_path), "the error was recorded, without the key"


def test_the_openai_key_does_not_go_to_other_servers(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with serving(lambda *_: Reply()) as server:
        asked(tmp_path, settings(server.url)).ask([request()])
    assert KEY not in "".join(server.keys)


def test_environment_without_keys(monkeypatch):
    environment = {
        "PATH": "/usr/bin", "HOME": "/home/x", "OPENAI_API_KEY": KEY, "MY_GATEWAY": "another-secret", "A_COPY": KEY,
        "URL": f"https://x:{KEY}@y", "DB_PASSWORD": "p", "GH_TOKEN": "t", "KEYBOARD": "us", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    kept = environment_without_keys(environment, ["MY_GATEWAY"])
    assert kept == {"PATH": "/usr/bin", "HOME": "/home/x", "KEYBOARD": "us", "OMP_NUM_THREADS": "1"}
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    assert redact(f"a {KEY} b") == "a [key] b"


def test_every_key_that_the_installed_providers_read_is_listed():
    spec = find_spec("pydantic_ai")
    assert spec is not None and spec.origin is not None
    named = set()
    for path in (Path(spec.origin).parent / "providers").glob("*.py"):
        reads = r"""(?:getenv\(|environ\[|environ\.get\(|Set the `)['"]?([A-Z][A-Z0-9_]*(?:KEY|TOKEN|SECRET)\w*)"""
        named |= set(re.findall(reads, path.read_text()))
    assert len(named) > 20
    assert named <= KEY_VARIABLES


# --- before anything is trained -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configuration", "words"),
    [
        (LLM(kind="model", model="anthropic:claude-sonnet-5-5"), ("ANTHROPIC_API_KEY", "llm=inbox")),
        (LLM(kind="model", model="openai:gpt-6.1-terra"), ("OPENAI_API_KEY",)),
        (LLM(kind="model", model="google:gemini-3.8-flash"), ("GOOGLE_API_KEY",)),
        (LLM(kind="model", model="antropic:claude-sonnet-5-5"), ("Did you mean 'anthropic:claude-sonnet-5-5'",)),
        (LLM(kind="model", model="claude"), ("PROVIDER:MODEL",)),
        (LLM(kind="model"), ("llm.model is empty",)),
        (LLM(kind="model", model="m", base_url="localhost:11434"), ("llm.base_url='localhost:11434'",)),
        (LLM(kind="model", model="m", base_url="http://me:pw@x/v1"), ("key_variable",)),
        (LLM(kind="model", model="m", base_url="http://x/v1", key_variable="NOT_SET"), ("NOT_SET",)),
        (LLM(kind="model", model="m", base_url="http://x/v1", options={"thinkin": "high"}), ("thinkin", "thinking")),
        (LLM(kind="model", model="m", base_url="http://x/v1", options={"extra_headers": {}}), ("extra_headers",)),
        (LLM(kind="model", model="m", base_url="http://x/v1", max_tokens=0), ("llm.max_tokens=0",)),
        (LLM(kind="modle"), ("llm.kind", "did you mean 'model'")),
    ],
)
def test_a_bad_configuration_is_one_clear_error(tmp_path, configuration, words):
    with pytest.raises(LLMError) as error:
        make_provider(configuration, tmp_path)
    assert all(word in str(error.value) for word in words), error.value
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("agents.llm_model.find_spec", lambda name: None)
    with pytest.raises(LLMError, match=r"gantry-lab\[llm\].*llm=inbox"):
        make_provider(LLM(kind="model", model="anthropic:claude-sonnet-5-5"), tmp_path)


@pytest.mark.parametrize("bad", [{"requests": -1}, {"concurrent": 0}, {"attempts": 0}, {"backoff_s": -1.0}])
def test_limits_that_make_no_sense(tmp_path, bad):
    with pytest.raises(LLMError, match=f"llm.limits.{next(iter(bad))}"):
        asked(tmp_path, LLM(kind="inbox"), **bad)


def test_a_key_from_a_variable_of_ones_own_reaches_a_known_provider(tmp_path, monkeypatch):
    monkeypatch.setenv("SECOND_KEY", KEY)
    configuration = LLM(kind="model", model="anthropic:claude-sonnet-5-5", key_variable="SECOND_KEY")
    provider = make_provider(configuration, tmp_path)
    assert isinstance(provider, llm.LanguageModel)
    tokens, cost_usd = provider.worst_case(request())
    assert tokens > configuration.max_tokens and cost_usd is not None and cost_usd > 0


def test_the_price_list_knows_the_models_that_are_offered(tmp_path, monkeypatch):
    from hydra import compose, initialize_config_module
    from pydantic_ai.models import known_model_names

    from configs import llm_schema

    llm_schema.register()
    for choice in ("anthropic", "openai", "google"):
        with initialize_config_module("configs", version_base="1.3"):
            chosen = compose(overrides=[f"+llm={choice}"]).llm
        assert chosen.model in known_model_names()
        monkeypatch.setenv({"google": "GOOGLE_API_KEY"}.get(choice, f"{choice.upper()}_API_KEY"), KEY)
        assert make_provider(chosen, tmp_path).worst_case(request())[1] > 0  # type: ignore[attr-defined]


def test_a_provider_serves_several_event_loops(tmp_path):
    with serving(lambda *_: Reply()) as server:
        provider = make_provider(settings(server.url), tmp_path)
        for _ in range(2):
            assert asyncio.run(provider.ask(request())).output_tokens == 50
