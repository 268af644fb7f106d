"""Who writes candidates: a language model in a conversation that keeps the best of the past."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from agents.candidate_record import Candidate, Proposal, ranked
from agents.llm_types import Answer, BudgetExhausted, LLMError, Message, Request
from agents.reward_prompt import Example, conversation, first_messages
from agents.search_settings import Settings

Ask = Callable[[Sequence[Request]], list[Answer | LLMError]]


class Exhausted(Exception):
    """A limit of tokens or money is reached: no further generation."""


class Proposer(Protocol):
    """Proposes a generation's candidates, one a sample."""

    def prompt(self, generation: int, past: Sequence[Candidate]) -> tuple[Message, ...] | None:
        """What the proposals answer; None where nobody is asked."""

    def propose(self, generation: int, past: Sequence[Candidate]) -> list[Proposal]:
        """Raises Exhausted at a limit, UserError where nothing can be proposed."""


class ModelProposer:
    """A language model."""

    def __init__(self, settings: Settings, ask: Ask) -> None:
        self._settings, self._ask = settings, ask
        self._first = first_messages(
            settings.definition, safety=settings.safety_instruction,
            termination_penalty=settings.termination_penalty,
        )  # fmt: skip

    def parents(self, past: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that stand in the conversation, the best last."""
        # One that was trained in full is never behind one that was not: those were stopped for being worse.
        best = ranked(list(past)) or sorted((c for c in past if c.rungs), key=lambda c: -c.fitness)
        return best[: self._settings.memory][::-1]

    def prompt(self, generation: int, past: Sequence[Candidate]) -> tuple[Message, ...]:
        last = [c for c in past if c.generation == generation - 1]
        failures: dict[str, str] = {}
        for candidate in last:
            why = "\n".join(candidate.problems) if candidate.source is None else candidate.failed
            if why and why not in failures.values():
                failures[f"sample {candidate.sample}"] = why
        examples = [Example(c.source or "", c.reflection) for c in self.parents(past)]
        return conversation(self._first, examples, failures, [c.outcome for c in last])

    def propose(self, generation: int, past: Sequence[Candidate]) -> list[Proposal]:
        messages = self.prompt(generation, past)
        requests = [Request(messages, generation, sample) for sample in range(self._settings.samples)]
        found = self._ask(requests)
        errors = [outcome for outcome in found if isinstance(outcome, LLMError)]
        if len(errors) == len(found):
            exhausted = [error for error in errors if isinstance(error, BudgetExhausted)]
            if exhausted:
                raise Exhausted(str(exhausted[0]))
            raise errors[0]
        parents = tuple(c.name for c in self.parents(past))
        return [_proposal(outcome, parents) for outcome in found]


def _proposal(outcome: Answer | LLMError, parents: tuple[str, ...]) -> Proposal:
    if isinstance(outcome, LLMError):
        return Proposal(None, parents, str(outcome))
    names = ("provider", "model", "input_tokens", "output_tokens", "cost_usd", "replayed", "recorded", "prompt_changed")
    facts = {name: getattr(outcome, name) for name in names} | {"seconds": round(outcome.seconds, 3)}
    text = outcome.text.encode("utf-8", "replace").decode()  # halves of characters could not be written
    return Proposal(text, parents, None, facts)
