"""Answers of no model: written by hand, so that tests of the design of ranges need no network."""

from __future__ import annotations

from pathlib import Path

from agents.llm import Answer, LLMError, Request
from tests.agents.kill_search import GOOD

NARROW = """The cart's mass and the motor's strength are what a real rig differs in.

```yaml
link_mass: [0.9, 1.1]  # scales weigh to a few per cent
motor_strength: [0.95, 1.05]  # warm motors are weaker
joint_damping: [0.8, 1.3]
```
"""
WIDE = """```yaml
link_mass: [0.5, 2.0]   # unknown payload
base_mass: [-0.1, 0.2]
action_delay: [0.0, 0.01]  # one control step of a slow bus
horsepower: [1, 2]
```"""
USELESS = "I would rather not say."
BY_PURPOSE = {"reward": (GOOD,), "designed": (NARROW, WIDE, USELESS), "no-prior": (WIDE, NARROW, USELESS),
              "uninformative": (WIDE, WIDE, USELESS)}  # fmt: skip


class Written:
    """Answers by purpose and sample; every question that reaches it is noted in a file."""

    free = True

    def __init__(self, log: Path, answers: dict[str, tuple[str, ...]] | None = None) -> None:
        self.log, self.answers = log, BY_PURPOSE if answers is None else answers
        self.requests: list[Request] = []

    async def ask(self, request: Request) -> Answer:
        with self.log.open("a") as file:
            file.write(f"{request.place}\n")
        self.requests.append(request)
        answers = self.answers.get(request.purpose)
        if not answers:
            raise LLMError("nothing written here")
        return Answer(answers[request.sample % len(answers)], "by hand", "fixture", None, None, None, 0.0)
