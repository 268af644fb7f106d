"""Language models for the searches: `make_provider` picks who answers, `Asked` asks and remembers.

Who answers (configs/llm/): a person through files (`inbox`), recorded answers (`transcript`), or any model that
pydantic-ai reaches, local servers with OpenAI's interface among them. Keys come from the environment alone.

The parts: llm_types.py (words that all share), llm_inbox.py, llm_transcript.py, llm_model.py (providers),
llm_store.py (prompts and answers on disk), llm_budget.py (what was spent), llm_asked.py (retries, concurrency),
llm_keys.py (keys and how to keep them out). docs/models.md says how to use it.
"""

from __future__ import annotations

from pathlib import Path

from agents.llm_asked import Asked
from agents.llm_budget import Spent
from agents.llm_inbox import Inbox
from agents.llm_keys import KEY_VARIABLES, environment_without_keys
from agents.llm_model import LanguageModel
from agents.llm_store import Record
from agents.llm_transcript import Transcript, locate, record, shipped
from agents.llm_types import (
    Answer,
    AnswersMissing,
    BudgetExhausted,
    LLMError,
    Message,
    Provider,
    Request,
    Transient,
    prompt_sha256,
    render,
)
from configs.errors import unknown
from configs.llm_schema import LLM, Limits

__all__ = [
    "KEY_VARIABLES", "LLM", "Answer", "AnswersMissing", "Asked", "BudgetExhausted", "LLMError", "Limits", "Message",
    "Provider", "Record", "Request", "Spent", "Transient", "environment_without_keys", "make_provider",
    "prompt_sha256", "record", "render", "shipped",
]  # fmt: skip


def make_provider(settings: LLM, folder: Path) -> Provider:
    """Who answers, by settings.kind. folder: the search's (the inbox lives in it).

    Raises LLMError where a key, a package, a model's name or a transcript is missing, so call it before anything
    is trained.
    """
    if settings.kind == "inbox":
        return Inbox(folder / "inbox", settings.model, settings.inbox_exit)
    if settings.kind == "transcript":
        return Transcript(locate(settings.transcript))
    if settings.kind == "model":
        return LanguageModel(settings)
    raise LLMError(str(unknown("llm.kind", settings.kind, ("inbox", "transcript", "model"))))
