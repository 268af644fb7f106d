"""What is asked, what is answered and what can go wrong: the words that every language-model provider shares."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from configs.errors import UserError

_PURPOSE = re.compile(r"[a-z][a-z0-9-]{0,31}")
MAX_ANSWER_BYTES = 1_000_000
"""Longer answers are refused: no reward needs them, and they would end up in the next prompt."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """One question: the whole conversation so far and its place in the search.

    generation, sample and purpose identify the request for good: a search never asks the same one twice, so a
    different question at the same place (asking for a repair, for instance) needs another purpose.

    Raises ValueError for a conversation that no provider could take.
    """

    messages: tuple[Message, ...]
    generation: int
    sample: int
    purpose: str = "reward"

    def __post_init__(self) -> None:
        roles = [message.role for message in self.messages]
        if not roles or roles[-1] != "user" or "system" in roles[1:]:
            raise ValueError(f"a conversation starts with at most one system message and ends with the user's: {roles}")
        if self.generation < 0 or self.sample < 0 or not _PURPOSE.fullmatch(self.purpose):
            raise ValueError(f"no place in a search: g{self.generation}s{self.sample}, purpose {self.purpose!r}")

    @property
    def place(self) -> str:
        """File-name-safe identity: g0s3, or g0s3.repair for another purpose than a reward."""
        suffix = "" if self.purpose == "reward" else f".{self.purpose}"
        return f"g{self.generation}s{self.sample}{suffix}"


@dataclass(frozen=True)
class Answer:
    """What came back."""

    text: str
    provider: str
    model: str
    input_tokens: int | None
    """None where nobody counted (inbox)."""
    output_tokens: int | None
    cost_usd: float | None
    """[USD] by list price; None where no price is known."""
    seconds: float
    replayed: bool = False
    """From a transcript: the model was asked at another time, perhaps something slightly different."""
    recorded: str = ""
    """ISO date of the day on which the model answered."""
    prompt_changed: bool = False
    """The prompt that this answers differs from the one that was asked for now."""
    cut_off: bool = False
    """The model stopped at llm.max_tokens, so the end is missing."""


class LLMError(UserError):
    """A request that cannot be answered. The message names the provider, what happened and the fix."""

    def __init__(self, message: str, *, billed: bool = False) -> None:
        """billed: the provider may have charged for the attempt nevertheless."""
        super().__init__(message)
        self.billed = billed


class BudgetExhausted(LLMError):
    """A limit of llm.limits is reached: ask nothing more, finish with what there is."""


class AnswersMissing(LLMError):
    """The inbox waits for a person, and llm.inbox_exit asks to stop meanwhile."""


class Transient(LLMError):
    """One attempt failed in a way that another may not. Retried; never leaves `agents.llm_asked`."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, billed: bool = False) -> None:
        """retry_after_s: [s] that the provider asks to wait; None where it does not say."""
        super().__init__(message, billed=billed)
        self.retry_after_s = retry_after_s


class Provider(Protocol):
    """Answers one request; one attempt. Raises Transient for what may go away, else LLMError.

    Two optional attributes refine the accounting: `free` (bool: costs nothing and needs no limits) and
    `worst_case(request) -> (tokens, cost_usd | None)`, by which room for an answer is kept in the budget.
    """

    async def ask(self, request: Request) -> Answer: ...


def render(request: Request) -> str:
    """The conversation as one message in Markdown, so that it can be pasted into any chat."""
    first, *rest = request.messages
    if first.role == "system" and rest:
        parts = [first.content.strip(), rest.pop(0).content.strip()]
    else:
        parts = [first.content.strip()]
    for message in rest:
        title = "You answered" if message.role == "assistant" else "Reply to your answer"
        parts.append(f"---\n\n# {title}\n\n{message.content.strip()}")
    return "\n\n".join(parts).replace("\r\n", "\n") + "\n"


def prompt_sha256(request: Request) -> str:
    """SHA-256 of `render`'s UTF-8 text, in hexadecimal: what `sha256sum gXsY.prompt.md` prints."""
    return hashlib.sha256(render(request).encode()).hexdigest()
