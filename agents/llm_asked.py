"""Ask a model and remember everything: nothing that was answered once is asked, or paid, again."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agents.llm_budget import Budget, Cost, Spent
from agents.llm_keys import redact
from agents.llm_store import Record, Store
from agents.llm_types import (
    Answer,
    AnswersMissing,
    BudgetExhausted,
    LLMError,
    Provider,
    Request,
    Transient,
)
from configs.llm_schema import Limits


def _say(line: str) -> None:
    print(line, flush=True)


class Asked:
    """The questions and answers of one search, in SEARCH/llm/ (see agents/llm_store.py and agents/llm_budget.py)."""

    def __init__(self, folder: Path, provider: Provider, limits: Limits, say: Callable[[str], None] = _say) -> None:
        """folder: the search's. say: told one line at a time what happens. Raises LLMError for bad limits."""
        self.provider, self.limits = provider, limits
        self._say = say
        self._store = Store(folder / "llm")
        self._budget = Budget(folder / "llm" / "requests.jsonl", limits)
        self._free = bool(getattr(provider, "free", False))
        self._label = str(getattr(provider, "label", type(provider).__name__.lower()))
        self._resume_at = 0.0  # time.monotonic(); when a rate limit lets requests through again
        self._told_unpriced = False

    def ask(self, requests: Sequence[Request]) -> list[Answer | LLMError]:
        """An answer or the reason why there is none, for each request, in their order.

        What stands on disk is returned from there, without a request. The rest is asked concurrently; each answer
        is on disk before the next step. BudgetExhausted in the list means that a limit is reached.

        Raises AnswersMissing, naming every file, when the inbox waits and llm.inbox_exit is set; KeyboardInterrupt
        after Ctrl-C, with every answer that had arrived on disk; ValueError when two requests have one place.
        """
        places = [request.place for request in requests]
        if len(set(places)) < len(places):
            raise ValueError(f"two requests have one place: {places}")
        outcomes: dict[str, Answer | LLMError] = {}
        for request in requests:
            answer = self._store.answer(request)
            if answer is not None:
                outcomes[request.place] = answer
        missing = [request for request in requests if request.place not in outcomes]
        if missing:
            for request in missing:
                self._store.put_request(request)
            outcomes |= asyncio.run(self._ask_all(missing))
        self._report(outcomes, len(missing))
        waiting = [str(outcome) for outcome in outcomes.values() if isinstance(outcome, AnswersMissing)]
        if waiting:
            raise AnswersMissing(f"{len(waiting)} answers are missing; write them, then resume: {', '.join(waiting)}")
        return [outcomes[place] for place in places]

    def spent(self) -> Spent:
        """What the search has cost so far, earlier runs of it included."""
        return self._budget.spent()

    def records(self) -> list[Record]:
        """Everything answered so far, for reports."""
        return list(self._store.records())

    async def _ask_all(self, requests: Sequence[Request]) -> dict[str, Answer | LLMError]:
        slots = asyncio.Semaphore(len(requests) if self._free else self.limits.concurrent)
        settled = asyncio.Condition()  # notified when an outcome may have left room in the budget
        self._resume_at = 0.0

        async def one(request: Request) -> Answer | LLMError:
            try:
                async with slots:
                    if not self._free:
                        return await self._ask_until_answered(request, settled)
                    answer = await self.provider.ask(request)
            except LLMError as error:
                return error
            self._store.put_answer(request, answer)
            return answer

        if not self._free:
            self._say(f"llm: asking {self._label} for {len(requests)} answers")
        found = await asyncio.gather(*(one(request) for request in requests))
        return {request.place: outcome for request, outcome in zip(requests, found, strict=True)}

    async def _ask_until_answered(self, request: Request, settled: asyncio.Condition) -> Answer:
        """Attempts with exponential back-off until one succeeds. Raises LLMError."""
        limits = self.limits
        worst = self._worst_case(request)
        for attempt in range(1, limits.attempts + 1):
            await self._pause()
            identity = await self._enter(request, attempt, worst, settled)
            try:
                return await self._attempt(identity, request, settled)
            except Transient as error:
                asked_s = error.retry_after_s or 0.0
                if asked_s > limits.max_wait_s:
                    raise LLMError(
                        f"{error}; it asks to wait {asked_s:.0f} s, longer than llm.limits.max_wait_s="
                        f"{limits.max_wait_s:g}; resume the search later"
                    ) from None
                if attempt == limits.attempts:
                    raise LLMError(
                        f"{error}; given up after {attempt} attempts (llm.limits.attempts); resume the search to "
                        "try again"
                    ) from None
                wait_s = min(limits.backoff_s * 2 ** (attempt - 1), limits.max_wait_s) * random.uniform(0.5, 1.0)
                self._say(f"llm: {request.place}: {error}; again in {asked_s or wait_s:.1f} s")
                if asked_s:
                    # A rate limit holds for every request, not only for the one that met it.
                    self._resume_at = max(self._resume_at, time.monotonic() + asked_s)
                else:
                    await asyncio.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(self, identity: str, request: Request, settled: asyncio.Condition) -> Answer:
        """One attempt, its outcome in the journal whatever it is."""
        try:
            answer = await self.provider.ask(request)
        except LLMError as error:
            self._budget.settle(identity, "failed", None if error.billed else Cost(), error=redact(str(error)))
            raise
        except BaseException as error:  # Ctrl-C, too: the provider may go on and charge
            self._budget.settle(identity, "failed", None, error=type(error).__name__)
            raise
        else:
            return self._keep(identity, request, answer)
        finally:
            async with settled:
                settled.notify_all()

    def _keep(self, identity: str, request: Request, answer: Answer) -> Answer:
        counted = answer.input_tokens is not None or answer.output_tokens is not None
        tokens = (answer.input_tokens or 0) + (answer.output_tokens or 0)
        # On disk first: a crash between these two lines costs a wrong figure, the other order an answer.
        self._store.put_answer(request, answer)
        self._budget.settle(identity, "answered", Cost(tokens, answer.cost_usd) if counted else None)
        return answer

    async def _pause(self) -> None:
        """Until the rate limit lets requests through; with jitter, so that they do not all leave at once."""
        while (wait_s := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(wait_s + random.uniform(0.0, min(1.0, self.limits.backoff_s)))

    async def _enter(self, request: Request, attempt: int, worst: Cost, settled: asyncio.Condition) -> str:
        """Wait until the budget has room for the worst case. Raises BudgetExhausted when it never will."""
        async with settled:
            while (obstacle := self._budget.obstacle(worst)) is not None:
                if self._budget.under_way == 0:
                    raise BudgetExhausted(f"{obstacle}; raise the limit and resume the search to go on")
                await settled.wait()  # what is under way usually costs less than its worst case
            return self._budget.send(request.place, attempt, worst)

    def _worst_case(self, request: Request) -> Cost:
        estimate = getattr(self.provider, "worst_case", None)
        tokens, cost_usd = estimate(request) if estimate else (0, None)
        if cost_usd is None and self.limits.cost_usd is not None and not self._told_unpriced:
            self._told_unpriced = True
            self._say(
                f"llm: no price is known for {self._label}, so llm.limits.cost_usd cannot be watched; "
                "llm.usd_per_million_input and llm.usd_per_million_output set one"
            )
        return Cost(tokens, cost_usd)

    def _report(self, outcomes: dict[str, Answer | LLMError], asked: int) -> None:
        answers = [outcome for outcome in outcomes.values() if isinstance(outcome, Answer)]
        changed = sorted(place for place, o in outcomes.items() if isinstance(o, Answer) and o.prompt_changed)
        if changed:
            self._say(f"llm: answers to earlier wordings of the prompt: {', '.join(changed)}")
        if self._free or not asked:
            return
        spent = self.spent()
        price = f"{spent.cost_usd:.4f} USD" + (f" and {spent.unpriced} without a price" if spent.unpriced else "")
        self._say(
            f"llm: {len(answers)} of {len(outcomes)} answered; so far {spent.requests} requests, "
            f"{spent.tokens:,} tokens, {price}"
        )
