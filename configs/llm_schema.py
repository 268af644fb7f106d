"""The settings of the language model, each with its default, once. The choices stand in configs/llm/.

Not frozen, for the reason that configs/schema.py gives.
"""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class Limits:
    """What a search may spend, counted from what stands on disk, so that it survives a crash."""

    requests: int | None = 500
    """Requests sent, retries included. null means no limit."""
    tokens: int | None = 5_000_000
    """Input and output tokens together."""
    cost_usd: float | None = 10.0
    """[USD] by list price. Where no price is known, Gantry says so and the other two limits remain."""
    concurrent: int = 8
    """Requests under way at a time."""
    attempts: int = 6
    """How often one request is sent before it counts as failed."""
    backoff_s: float = 1.0
    """[s] wait before the second attempt; doubles with each further one, with jitter."""
    max_wait_s: float = 300.0
    """[s] longest wait before an attempt. A provider that asks for more (Retry-After) makes the request fail."""


@dataclass
class LLM:
    """Who answers. See agents/llm.py."""

    kind: str = MISSING
    """inbox: a person, through files; transcript: recorded answers; model: a language model over the network."""
    model: str = ""
    """PROVIDER:MODEL as pydantic-ai names it, such as anthropic:claude-sonnet-5-5. With base_url, the server's own
    name of the model. With kind inbox, who answers, for the record only."""
    base_url: str = ""
    """Address of an OpenAI-compatible server, such as http://127.0.0.1:11434/v1 (Ollama, vLLM, llama.cpp)."""
    key_variable: str = ""
    """Environment variable that holds the key. Empty: the provider's usual one, or no key where base_url is set."""
    max_tokens: int = 16_384
    """Longest answer, a model's thinking included."""
    temperature: float | None = None
    """null leaves it to the provider; several models refuse any other value."""
    timeout_s: float = 600.0
    """[s] longest wait for one answer."""
    options: dict[str, Any] = field(default_factory=dict)
    """Further model settings of pydantic-ai, such as {thinking: high}."""
    usd_per_million_input: float | None = None
    """[USD] a million input tokens cost; with the next one it replaces the price list."""
    usd_per_million_output: float | None = None
    """[USD] a million output tokens cost."""
    transcript: str = ""
    """Folder of the recorded conversation, for kind transcript."""
    inbox_exit: bool = False
    """Stop when answers are missing, instead of waiting; resume the search to go on."""
    limits: Limits = field(default_factory=Limits)


def register() -> None:
    """Makes the schema known to Hydra, under the name that the files of configs/llm build on.

    Outside the group llm, so that it is not offered as a choice.
    """
    ConfigStore.instance().store(name="llm_schema", node=LLM)
