"""The words in which a language model is asked for randomization ranges. What parameters mean comes from the code."""

from __future__ import annotations

from collections.abc import Mapping

from agents.llm_types import Message
from agents.reward_prompt import SAFETY, task_text
from envs.randomization import TERMS
from envs.tasks.task import Task

# After DrEureka (Ma, Liang et al. 2024, section 3.4), in our words.
_ROLE = """\
You choose domain randomization for reinforcement learning. A policy has been trained in simulation with physics that is
fixed or varies little. It is now trained further while every episode draws its physics from ranges that you choose, so
that it works on a real robot, whose physics nobody knows exactly. Its success is then measured on physics that neither
you nor the training has seen: in each episode a few parameters, not always the same, are further from the model than is
usual for such a robot."""

_SAFETY = SAFETY.split("Discourage", 1)[0].strip()
"""What of the safety instruction is not about reward terms."""

_TRADE_OFF = """\
Too much randomization makes the policy cautious, or it learns nothing. Too little leaves a policy that fails as soon as
reality differs. So randomize what is uncertain on the real robot or what the task is sensitive to, and leave out what
would not help. {bounds}
Numbers are drawn uniformly, anew for each episode unless the meaning says otherwise."""

_WITH_PRIOR = """\
The bounds below were measured: with one parameter at a time outside of them, and all others as modeled, the policy as
it is now fails. Choose within the bounds. A range may fill them or not; several parameters at their bounds at once are
much harder than one."""
_UNINFORMATIVE = """\
The bounds below are the widest that the simulation takes; they say nothing about this policy or robot. Choose within
them; a range may fill them or not."""
_WITHOUT = "No bounds are given: judge by what the parameters mean."

_FORM = """\
## What to write

Think briefly about what will differ on the real robot. Then write one YAML block with one line for each parameter that
you randomize, and say why in a comment on the same line:

```yaml
NAME: [low, high]  # reason
```

Use the names and units of the table, plain numbers, and low <= high. Leave out what is not to be randomized."""

_HOW = {"absolute": "the value itself", "scale": "factor on the model's value", "add": "added to the model's value"}
_WHEN = {"reset": "", "step": "; drawn anew at every step", "push": "; drawn anew for each push"}


def parameter_table(bounds: Mapping[str, tuple[float, float] | None]) -> str:
    """One line a parameter: what it means, in which unit, its nominal value and, where there are some, its bounds."""
    lines = []
    for name, limits in bounds.items():
        term = TERMS[name]
        unit = f" [{term.unit}]" if term.unit else ""
        line = f"- `{name}`{unit}: {term.meaning} ({_HOW[term.operation]}{_WHEN[term.when]}); nominal {term.neutral:g}"
        lines.append(line + (f"; bounds {limits[0]:.4g} to {limits[1]:.4g}" if limits else ""))
    return "\n".join(lines)


def range_messages(
    task: Task, bounds: Mapping[str, tuple[float, float] | None], *, measured: bool, safety: bool,
    push_interval_s: tuple[float, float] | None = None,
) -> tuple[Message, ...]:  # fmt: skip
    """The conversation that asks for ranges.

    Args:
        task: what the policy does.
        bounds: for each parameter on offer, the bounds to be told, or None for no bounds at all.
        measured: whether the bounds are a physics prior (else they are said to be uninformative).
        safety: include DrEureka's safety instruction.
        push_interval_s: when pushes come, where they are among the parameters.
    """
    known = any(limits is not None for limits in bounds.values())
    which = (_WITH_PRIOR if measured else _UNINFORMATIVE) if known else _WITHOUT
    parts = [task_text(task, 0.0), "## The trade-off\n\n" + _TRADE_OFF.format(bounds=which),
             "## The parameters\n\n" + parameter_table(bounds)]  # fmt: skip
    if push_interval_s is not None:
        parts[-1] += f"\n\nPushes come every {push_interval_s[0]:g} to {push_interval_s[1]:g} s."
    system = _ROLE + (f"\n\n{_SAFETY}" if safety else "")
    return Message("system", system), Message("user", "\n\n".join([*parts, _FORM]))
