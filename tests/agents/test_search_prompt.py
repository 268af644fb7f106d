"""The conversation with the model: what it is told comes from the code, and every turn has its place."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from agents.candidate_record import Candidate
from agents.llm_types import Answer, BudgetExhausted, LLMError, Request
from agents.reward_code import BUILTINS, check, extract
from agents.reward_prompt import SAFETY, Example, conversation, first_messages
from agents.search_proposer import Exhausted, ModelProposer
from envs import robots, tasks
from envs.environment import Environment
from envs.physics import no_reward
from envs.state import field_docs

GO2, CARTPOLE = tasks.get("go2-walk"), tasks.get("cartpole-swingup")
START = first_messages(CARTPOLE, safety=True, termination_penalty=0.0)


@pytest.mark.parametrize("task", [GO2, CARTPOLE, tasks.get("go2-ball")], ids=lambda task: task.name)
def test_the_state_is_told_as_the_code_has_it(task):
    system, user = first_messages(task, safety=True, termination_penalty=2.0)
    # What is told is what the task's own states have in them, no more and no less.
    state = Environment(task, 2, reward=no_reward, seed=0, num_threads=1).state
    for name, text in field_docs().items():
        told = f"- `s.{name}`: {text}\n" in user.content
        assert told == (getattr(state, name).numel() > 0), name
    for joint in robots.get(task.robot).joint_names:
        assert joint in user.content
    assert task.description in user.content and "additionally costs 2 in" in user.content
    assert "penalty" not in system.content and task.human_reward not in user.content
    assert "costs" not in first_messages(task, safety=True, termination_penalty=0.0)[1].content


def test_a_command_that_is_drawn_and_one_that_is_always_the_same():
    drawn, fixed = (first_messages(tasks.get(name), safety=True, termination_penalty=0.0)[1].content
                    for name in ("go2-walk", "go2-dash"))  # fmt: skip
    assert "Commands are drawn from -0.5 to 1.5 m/s, -0.5 to 0.5 m/s, -1 to 1 rad/s, anew every 5 s." in drawn
    assert "The command is (2 m/s, 0 m/s, 0 rad/s)." in fixed and "drawn" not in fixed


def test_what_the_prompt_offers_is_allowed():
    """The sketch in the prompt passes the checker; what it says is missing does not."""
    user = START[1].content
    sketch = extract(user.replace("    ...\n", "").replace("component,", "s.time_s,").replace(" ...}", "}"))
    check(sketch, field_docs())
    assert "lambda" in user and "print" not in BUILTINS


def test_the_safety_instruction_can_be_left_out():
    with_it, without = (first_messages(GO2, safety=safety, termination_penalty=0.0) for safety in (True, False))
    assert SAFETY in with_it[0].content and SAFETY not in without[0].content
    assert with_it[1] == without[1]


def test_turns():
    examples = [Example("def worse", "told worse"), Example("def better", "told better")]
    messages = conversation(START, examples, {"sample 2": "line 1: bad\nand more"}, ["sample 0: fitness 0.2"])
    assert [m.role for m in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[:2] == tuple(START)
    assert "def worse" in messages[2].content and "def better" in messages[4].content
    assert "told worse" in messages[3].content and "sample 0" not in messages[3].content
    last = messages[5].content
    assert last.index("told better") < last.index("sample 0: fitness 0.2") < last.index("line 1: bad")
    assert "  line 1: bad\n  and more" in last and last.endswith("why.")
    Request(messages, 0, 0)


def test_nothing_could_be_trained():
    messages = conversation(START, [], {"sample 0": "no function `reward`"}, ["sample 0: not usable"])
    assert [m.role for m in messages] == ["system", "user"]
    assert messages[1].content.startswith(START[1].content) and "no function `reward`" in messages[1].content
    assert conversation(START, [], {}, []) == tuple(START)


def proposer(ask, memory: int = 2) -> ModelProposer:
    settings = SimpleNamespace(
        definition=CARTPOLE, safety_instruction=True, termination_penalty=0.0, samples=3, memory=memory
    )
    return ModelProposer(settings, ask)  # type: ignore[arg-type]


def trained(sample: int, fitness: float, complete: bool = True, generation: int = 0) -> Candidate:
    rung = {"select": {"fitness": {"mean": fitness}}, "course": [], "env_steps": 500}
    return Candidate(
        f"model-g{generation}s{sample}", "model", generation, sample, "", source=f"code {sample}", rungs=[rung],
        complete=complete, stopped=None if complete else "stopped", reflection=f"told {sample}",
    )  # fmt: skip


def test_the_best_of_the_past_stay():
    past = [trained(0, 0.3), trained(1, 0.9), trained(2, 0.5), trained(3, 0.95, complete=False)]
    messages = proposer(None).prompt(5, past)
    shown = [m.content for m in messages if m.role == "assistant"]
    assert ["code 2" in shown[0], "code 1" in shown[1], len(shown)] == [True, True, 2], "the best stands last"
    assert "All attempts" not in messages[-1].content, "they are not of the last generation"
    assert "sample 3: fitness 0.950, stopped after 500 steps" in proposer(None).prompt(1, past)[-1].content
    # Nothing was completed: what was trained at all is better than nothing.
    only = proposer(None).prompt(1, [trained(3, 0.4, complete=False)])
    assert [m.role for m in only] == ["system", "user", "assistant", "user"]


def test_the_same_complaint_is_made_once():
    failed = [
        Candidate(f"model-g0s{i}", "model", 0, i, "", source="x", failed="component 'x' is nan") for i in range(3)
    ]
    assert proposer(None).prompt(1, failed)[-1].content.count("is nan") == 1


def test_requests_and_answers():
    asked: list[Request] = []

    def ask(requests):
        asked.extend(requests)
        return [
            Answer("one \ud800", "p", "m", 10, 20, 0.5, 1.23456),
            LLMError("too slow"),
            Answer("three", "p", "m", None, None, None, 0.0, replayed=True, recorded="2026-01-01", prompt_changed=True),
        ]

    one, two, three = proposer(ask).propose(4, [trained(1, 0.9, generation=3)])
    assert [r.place for r in asked] == ["g4s0", "g4s1", "g4s2"]
    assert one.answer == "one ?" and one.parents == ("model-g3s1",) and one.facts["cost_usd"] == 0.5
    assert two.answer is None and two.error == "too slow"
    assert three.facts["replayed"] and three.facts["prompt_changed"] and three.facts["recorded"] == "2026-01-01"


def test_no_answers():
    with pytest.raises(Exhausted, match="out of money"):
        proposer(lambda requests: [LLMError("x"), BudgetExhausted("out of money"), LLMError("y")]).propose(0, [])
    with pytest.raises(LLMError, match="no network"):
        proposer(lambda requests: [LLMError("no network")] * 3).propose(0, [])
