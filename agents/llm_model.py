"""`llm=anthropic`, `openai`, `google`, `local`, ...: a model over the network, through pydantic-ai.

The only module that knows pydantic-ai, and it loads it no earlier than a model is made, so that inbox and
transcript work without the package.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import re
import time
from datetime import date
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from agents.llm_keys import redact
from agents.llm_types import MAX_ANSWER_BYTES, Answer, LLMError, Request, Transient, render
from configs.llm_schema import LLM

if TYPE_CHECKING:
    from pydantic_ai.messages import ModelMessage, ModelResponse
    from pydantic_ai.models import Model
    from pydantic_ai.settings import ModelSettings

_OURS = ("max_tokens", "temperature", "timeout", "request_timeout", "max_retries")
"""Settings of pydantic-ai that have names of their own in LLM, or that retries and time limits here own."""
_NO_KEY = "no-key"  # OpenAI's client insists on one; servers that want none ignore it
_CHATTY = ("httpx", "httpx2", "httpcore", "httpcore2", "openai", "anthropic", "google_genai")
"""Loggers that tell of every request, address and headers included, once Hydra has set logging up."""
_LONGEST_DETAIL = 400
_CHARACTERS_A_TOKEN = 2.5
"""Below what tokenizers reach on English and Python, so that the worst case overestimates the input."""


class LanguageModel:
    """Asks a model, one attempt a call. Retries, concurrency and the budget are the business of `agents.llm_asked`."""

    free = False

    def __init__(self, settings: LLM) -> None:
        """Raises LLMError where the package, the key or the name is missing, before anything is asked."""
        self.settings = settings
        self._options = _options(settings)
        model = _make(settings)
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._name, self._system, self._address = model.model_name, model.system, model.base_url
        self.label = f"{self._name} at {settings.base_url}" if settings.base_url else settings.model

    async def ask(self, request: Request) -> Answer:
        """Raises Transient for what may go away, else LLMError."""
        from pydantic_ai.direct import model_request

        started = time.monotonic()
        model = _make(self.settings)  # made anew, because connections belong to the event loop that opened them
        async with model:
            try:
                response = await model_request(model, _messages(request), model_settings=self._options)
            except Exception as error:
                # Not only pydantic-ai's own: an answer without choices, say, comes out as an IndexError.
                raise self._explain(error) from None
        return self._answer(response, time.monotonic() - started)

    def worst_case(self, request: Request) -> tuple[int, float | None]:
        """(tokens, USD) that the longest possible answer would cost; USD is None where no price is known."""
        input_tokens = math.ceil(len(render(request)) / _CHARACTERS_A_TOKEN)
        return input_tokens + self.settings.max_tokens, self._price(input_tokens, self.settings.max_tokens)

    def _answer(self, response: ModelResponse, seconds: float) -> Answer:
        usage = response.usage
        counted = usage.input_tokens > 0 or usage.output_tokens > 0  # some servers report nothing
        cut_off = response.finish_reason == "length"
        text = self._redact(response.text or "")
        if response.finish_reason == "content_filter":
            raise LLMError(f"{self.label} withheld the answer (content filter); ask another model", billed=True)
        if len(text.encode()) > MAX_ANSWER_BYTES:
            raise LLMError(f"{self.label} answered with {len(text):,} characters; lower llm.max_tokens", billed=True)
        if not text.strip() and cut_off:
            raise LLMError(
                f"{self.label} used up llm.max_tokens={self.settings.max_tokens} before it wrote an answer; raise it",
                billed=True,
            )
        if not text.strip():
            raise Transient(f"{self.label} gave an empty answer", billed=True)
        return Answer(
            text,
            response.provider_name or self._system,
            response.model_name or self._name,
            usage.input_tokens if counted else None,
            usage.output_tokens if counted else None,
            self._cost(response) if counted else None,
            seconds,
            recorded=date.today().isoformat(),
            cut_off=cut_off,
        )

    def _cost(self, response: ModelResponse) -> float | None:
        """[USD] with the provider's cached and other special tokens priced as such, where the list knows them."""
        usage = response.usage
        if self._own_prices() is None:
            if usage.cost is not None:
                return float(usage.cost)
            try:
                return float(response.cost().total_price)
            except (LookupError, ValueError, AssertionError):
                pass
        return self._price(usage.input_tokens, usage.output_tokens)

    def _own_prices(self) -> tuple[float, float] | None:
        given = (self.settings.usd_per_million_input, self.settings.usd_per_million_output)
        return None if given[0] is None or given[1] is None else (given[0], given[1])

    def _price(self, input_tokens: int, output_tokens: int) -> float | None:
        own = self._own_prices()
        if own is not None:
            return (input_tokens * own[0] + output_tokens * own[1]) / 1e6
        from genai_prices import Usage, calc_price

        usage = Usage(input_tokens=input_tokens, output_tokens=output_tokens)
        for where in ({"provider_api_url": self._address}, {"provider_id": self._system}):
            try:
                return float(calc_price(usage, self._name, **where).total_price)  # type: ignore[arg-type]
            except (LookupError, ValueError):
                continue
        return None

    def _redact(self, text: str) -> str:
        return redact(text, [self.settings.key_variable])

    def _explain(self, error: Exception) -> LLMError:
        """Our error for one of pydantic-ai's: what happened, in one line without keys, and the fix."""
        from pydantic_ai import exceptions as e

        status = getattr(error, "status_code", None)
        detail = self._redact(" ".join(_detail(error).split()))[:_LONGEST_DETAIL]
        what = f"{self.label}: " + (f"HTTP {status}: " if status else "") + detail
        if isinstance(error, e.ModelRequestTimeout | e.ModelTimeoutError):
            return Transient(
                f"{self.label} did not answer within llm.timeout_s={self.settings.timeout_s:g}", billed=True
            )
        if isinstance(error, e.ModelConnectionError):
            if error.phase in ("connect", "pool"):
                return Transient(f"{what} (no connection to {self._address}; is the server running?)")
            return Transient(f"{what} (the connection broke)", billed=True)
        if isinstance(error, e.ModelRateLimitError | e.ModelUnavailableError | e.ModelServerError):
            return Transient(what, retry_after_s=error.retry_after)
        for kind, fix in (
            (e.ModelQuotaExceededError, "the account's quota or credit is used up"),
            (e.ModelAuthenticationError, f"check the key in {self._key_name()} and what it may be used for"),
            (e.ModelNotFoundError, "check llm.model" + (" and llm.base_url" if self.settings.base_url else "")),
            (e.ModelContextWindowExceededError, "the prompt is too long for this model; choose one that takes more"),
            (
                e.ModelRequestRejectedError,
                "refused: too long for the model, or llm.max_tokens or llm.options do not suit it",
            ),
            (e.ContentFilterError, "the provider's filter refused; ask another model"),
            (e.UserError, "check llm.model and llm.options"),
        ):
            if isinstance(error, kind):
                return LLMError(f"{what}; {fix}")
        if status is not None and status not in (408, 409, 425, 429) and status < 500:
            return LLMError(f"{what}; check llm.model and llm.options")
        # What remains is an answer that makes no sense, or a passing state of the server (409, say).
        return Transient(what, retry_after_s=getattr(error, "retry_after", None), billed=status is None)

    def _key_name(self) -> str:
        if self.settings.key_variable:
            return self.settings.key_variable
        return "llm.key_variable (none is set)" if self.settings.base_url else "the environment"


def _make(settings: LLM) -> Model:
    """pydantic-ai's model. Raises LLMError with the one thing to do about what is missing."""
    if find_spec("pydantic_ai") is None:
        raise LLMError(
            f"llm.model={settings.model!r} needs pydantic-ai; pip install 'gantry-lab[llm]', or use llm=inbox, "
            "which needs neither package nor key"
        )
    from pydantic_ai.exceptions import UserError as ModelUserError
    from pydantic_ai.models import infer_model
    from pydantic_ai.providers import infer_provider, infer_provider_class

    if not settings.model or settings.model == "???":
        raise LLMError("llm.model is empty; name one, such as llm.model=anthropic:claude-sonnet-5-5")
    key = None
    if settings.key_variable:
        key = os.environ.get(settings.key_variable, "").strip()
        if not key:
            raise LLMError(f"llm.key_variable={settings.key_variable} is not set in the environment; export it")
    try:
        if settings.base_url:
            return _compatible(settings, key)
        if key is None:
            return infer_model(settings.model, infer_provider)
        return infer_model(settings.model, lambda name: _with_key(infer_provider_class(name), name, key))
    except ImportError as error:
        package = re.search(r"pydantic-ai-slim\[[\w-]+\]", str(error))
        fix = f"pip install '{package[0]}'" if package else "pip install 'gantry-lab[llm]'"
        raise LLMError(f"llm.model={settings.model!r} needs a package that is not installed; {fix}") from None
    except LLMError:
        raise
    except (ModelUserError, ValueError) as error:
        raise _unusable(settings, str(error)) from None
    except Exception as error:  # the providers' own packages have errors of their own (Google's credentials)
        raise _unusable(settings, f"{type(error).__name__}: {error}") from None


def _unusable(settings: LLM, why: str) -> LLMError:
    why = redact(" ".join(why.split()), [settings.key_variable])
    variable = re.search(r"Set the `(\w+)` environment variable", why)
    if variable:
        return LLMError(
            f"llm.model={settings.model!r} needs the environment variable {variable[1]}; export {variable[1]}=..., "
            "or use llm=inbox, which needs no key"
        )
    hint = "" if "Did you mean" in why else "; valid: PROVIDER:MODEL, such as anthropic:claude-sonnet-5-5"
    return LLMError(f"llm.model={settings.model!r} cannot be used: {why[:_LONGEST_DETAIL].rstrip('.')}{hint}")


def _with_key(kind: type, name: str, key: str) -> Any:
    if "api_key" not in inspect.signature(kind).parameters:
        raise LLMError(f"provider {name!r} takes no key; leave llm.key_variable out")
    return kind(api_key=key)


def _compatible(settings: LLM, key: str | None) -> Model:
    """A server with OpenAI's chat interface. OPENAI_API_KEY is never sent there unless key_variable names it."""
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    parts = urlsplit(settings.base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LLMError(
            f"llm.base_url={settings.base_url!r} is no address; valid: http://127.0.0.1:11434/v1, for example"
        )
    if parts.username or parts.password:
        raise LLMError("llm.base_url holds a password, which would be written into the configuration; use key_variable")
    name = re.sub(r"^openai(-chat)?:", "", settings.model)
    # Ollama knows only the older field for the longest answer, and the other servers still take it.
    profile = OpenAIModelProfile(openai_chat_supports_max_completion_tokens=False)
    provider = OpenAICompatibleProvider(
        parts.hostname, base_url=settings.base_url, api_key=key or _NO_KEY, profile=profile
    )
    return OpenAIChatModel(name, provider=provider)


def _options(settings: LLM) -> ModelSettings:
    """pydantic-ai's settings. Raises LLMError for an option that it would silently ignore."""
    if settings.max_tokens < 1 or settings.timeout_s <= 0:
        raise LLMError(
            f"llm.max_tokens={settings.max_tokens}, llm.timeout_s={settings.timeout_s}; both must be positive"
        )
    options = {str(name): value for name, value in settings.options.items()}
    if options and find_spec("pydantic_ai") is not None:
        from pydantic_ai.settings import ModelSettings

        # extra_headers would carry keys into the configuration.
        valid = set(ModelSettings.__annotations__) - {"extra_headers", *_OURS}
        # A provider's own settings carry its name: openai_reasoning_summary, anthropic_thinking.
        prefix = ("openai" if settings.base_url else re.split("[-:]", settings.model)[0]) + "_"
        bad = [name for name in options if name not in valid and not name.startswith(prefix)]
        if bad:
            raise LLMError(f"llm.options has {', '.join(bad)}; valid: {', '.join(sorted(valid))}, {prefix}...")
    base: dict[str, Any] = {
        "max_tokens": settings.max_tokens,
        "timeout": settings.timeout_s,
        "request_timeout": settings.timeout_s,
        "max_retries": 0,  # retried in agents/llm_asked.py, where the budget is counted
    }
    if settings.temperature is not None:
        base["temperature"] = settings.temperature
    return cast("ModelSettings", {**base, **options})


def _messages(request: Request) -> list[ModelMessage]:
    from pydantic_ai.messages import ModelRequest, ModelResponse, SystemPromptPart, TextPart, UserPromptPart

    found: list[ModelMessage] = []
    for message in request.messages:
        if message.role == "assistant":
            found.append(ModelResponse(parts=[TextPart(message.content)]))
            continue
        part = SystemPromptPart(message.content) if message.role == "system" else UserPromptPart(message.content)
        if found and isinstance(found[-1], ModelRequest):
            found[-1] = ModelRequest(parts=[*found[-1].parts, part])
        else:
            found.append(ModelRequest(parts=[part]))
    return found


def _detail(error: Exception) -> str:
    """The provider's own words where there are some."""
    body = getattr(error, "body", None)
    if isinstance(body, dict):
        inner = body.get("error", body)
        message = inner.get("message") if isinstance(inner, dict) else inner
        if message:
            return str(message)
    if isinstance(body, str) and body.strip():
        return f"{getattr(error, 'message', '')} {body}" if not hasattr(error, "status_code") else body
    return str(getattr(error, "message", "") or error) or type(error).__name__
