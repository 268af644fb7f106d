"""Keys of language-model providers: read from the environment, never written, never handed to a candidate."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_LISTED = """
    ALIBABA_API_KEY ANTHROPIC_API_KEY ANTHROPIC_AUTH_TOKEN ANTHROPIC_WEBHOOK_SIGNING_KEY AWS_ACCESS_KEY_ID
    AWS_BEARER_TOKEN_BEDROCK AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AZURE_OPENAI_AD_TOKEN AZURE_OPENAI_API_KEY
    AZURE_VOICELIVE_API_KEY CEREBRAS_API_KEY COPILOT_GITHUB_TOKEN CO_API_KEY CRUSOE_API_KEY DASHSCOPE_API_KEY
    DEEPSEEK_API_KEY ELEVENLABS_API_KEY FIREWORKS_API_KEY GEMINI_API_KEY GH_TOKEN GITHUB_API_KEY
    GITHUB_COPILOT_API_KEY GITHUB_COPILOT_API_TOKEN GITHUB_TOKEN GOOGLE_API_KEY GOOGLE_APPLICATION_CREDENTIALS
    GROQ_API_KEY HEROKU_INFERENCE_KEY HF_TOKEN HUGGING_FACE_HUB_TOKEN LITELLM_API_KEY META_API_KEY MISTRAL_API_KEY
    MOONSHOTAI_API_KEY NEBIUS_API_KEY OLLAMA_API_KEY OPENAI_ADMIN_KEY OPENAI_API_KEY OPENAI_WEBHOOK_SECRET
    OPENROUTER_API_KEY OVHCLOUD_API_KEY PAIG_API_KEY PYDANTIC_AI_GATEWAY_API_KEY SAMBANOVA_API_KEY SNOWFLAKE_TOKEN
    SYSTEM_ONE_API_KEY TOGETHER_API_KEY TYPESAFE_API_KEY VERCEL_AI_GATEWAY_API_KEY VERCEL_OIDC_TOKEN VLLM_API_KEY
    VOYAGE_API_KEY XAI_API_KEY ZAI_API_KEY
"""
KEY_VARIABLES = frozenset(_LISTED.split())
"""Variables from which pydantic-ai and the providers' own clients read keys."""

_SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|COOKIE)(_|\d|$)", re.IGNORECASE)
_SHORTEST_KEY = 8
"""Shorter values are no keys; replacing them in texts would garble these."""


def is_key_variable(name: str, more: Iterable[str] = ()) -> bool:
    """Whether a variable holds a key, by its name. more: names that the configuration adds (llm.key_variable)."""
    return name in KEY_VARIABLES or name in set(more) or _SECRET_NAME.search(name) is not None


def key_values(environment: Mapping[str, str] | None = None, more: Iterable[str] = ()) -> list[str]:
    """The keys themselves, longest first."""
    environment = os.environ if environment is None else environment
    more = set(more)
    found = {
        value.strip()
        for name, value in environment.items()
        # By the listed names only: a variable that merely sounds secret may hold an everyday word or a path.
        if (name in KEY_VARIABLES or name in more) and name != "GOOGLE_APPLICATION_CREDENTIALS"
    }
    return sorted((value for value in found if len(value) >= _SHORTEST_KEY), key=len, reverse=True)


def environment_without_keys(environment: Mapping[str, str] | None = None, more: Iterable[str] = ()) -> dict[str, str]:
    """A copy of the environment for a candidate's process: without variables named or filled like a key.

    A variable of any name whose value contains a key goes too (an address with a key in it, for instance).
    """
    environment = os.environ if environment is None else environment
    more = set(more)
    keys = key_values(environment, more)
    return {
        name: value
        for name, value in environment.items()
        if not is_key_variable(name, more) and not any(key in value for key in keys)
    }


def redact(text: str, more: Iterable[str] = ()) -> str:
    """The text with every key in it replaced. Servers repeat keys in error messages; those end up in files."""
    for key in key_values(more=more):
        text = text.replace(key, "[key]")
    return text
