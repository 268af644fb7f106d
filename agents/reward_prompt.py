"""The words in which a language model is asked for a reward. What they say about State comes from the code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agents.llm_types import Message
from envs import robots
from envs.state import field_docs
from envs.tasks.task import Task

# In substance the instruction of DrEureka (Ma, Liang et al. 2024, section 3.2), in our words.
SAFETY = """\
The policy will run on a real robot. Where speed and safety pull in different directions, choose safety: motions that
are smooth, robust and feasible for real motors are worth more than the last bit of performance. Discourage what is
unsafe or infeasible: jerky or needlessly large actions, violent joint motion, high torques, hard or slipping contacts,
postures near a fall or a joint's limit. Keep each of these regularizing terms small beside the terms that describe the
task, so that doing nothing is never the best choice."""

_ROLE = """\
You design rewards for reinforcement learning. For the task below, write the reward from which a policy is trained from
scratch by PPO in simulation. Its success is then measured by a fitness that you cannot see and that does not depend on
your reward: only what the policy really does counts."""

_FORM = """\
## What to write

One Python code block with

```python
def reward(s):
    ...
    return {"component_name": component, ...}
```

- `s` is the state of N simulations after a step; its fields are listed above. Each component is a float tensor of
  shape (N,). The reward is the sum of all components, so include each one's weight in its value.
- One simulation's reward must not depend on another's. The same state always gets the same reward; nothing is kept
  between calls, and the state must not be changed (no in-place operations: build new tensors).
- Numbers must be finite for every state: guard divisions, roots and logarithms, and bound exponents.
- `torch` and `math` are there: functions that compute new tensors (arithmetic, comparisons, trigonometry,
  exponentials, reductions, norms, sorting, `where`, `clamp`, `stack`, `cat`, the activations of
  `torch.nn.functional`), also as methods of tensors. Helper functions and constants at the top level and short
  loops over constants are fine. Not available: other imports, classes, `while`, `try`, `lambda` as a value, random
  numbers, assignments to a part of a tensor.
- Rewards are divided by the spread of returns before learning, so their overall scale does not matter, but the
  components' sizes relative to each other do. Prefer smooth, bounded terms that tell a policy at the start of its
  training which way is better. Where episodes can end by failure, keep the sum positive while things go well: else
  ending early pays."""


@dataclass(frozen=True)
class Example:
    """A past candidate, as it stands in the conversation."""

    source: str
    reflection: str


def told_fields(task: Task) -> dict[str, str]:
    """The fields of State that the task fills, with what they hold; the others would have a width of 0."""
    robot = robots.get(task.robot)
    empty = (() if robot.feet else ("foot_",)) + (() if task.ball else ("ball_",))
    empty += () if task.command else ("command",)
    return {name: text for name, text in field_docs().items() if not name.startswith(empty)}


def state_text(task: Task) -> str:
    """The fields of State with the sizes that they have for this task's robot."""
    robot = robots.get(task.robot)
    driven = robot.driven_joints
    all_driven = driven == robot.joint_names
    sizes = [
        "N simulations",
        f"J = {robot.num_joints} joints ({', '.join(robot.joint_names)})",
        f"A = {robot.num_actions} driven joint{'s' if robot.num_actions > 1 else ''} "
        f"({'the same, in the same order' if all_driven else ', '.join(driven)})",
    ]
    if robot.feet:
        sizes.append(f"F = {len(robot.feet)} feet ({', '.join(robot.feet)})")
    if task.command:
        sizes.append(f"C = {len(task.command.low)} numbers of the command")
    lines = [f"- `s.{name}`: {text}" for name, text in told_fields(task).items()]
    on_ground = robot.feet and not task.ball
    stance = f" Its base stands about {robot.home_base_height_m:g} m above the ground." if on_ground else ""
    frames = (
        "Suffix `_w`: world frame, z up. Suffix `_b`: frame of the robot's base, x forward, y left, z up. One step is "
        f"{robot.control_dt_s:g} s. All tensors are float32 unless stated." + stance
    )
    return "## The state\n\n" + "; ".join(sizes) + ".\n" + frames + "\n\n" + "\n".join(lines)


def task_text(task: Task, termination_penalty: float) -> str:
    """What the task is, apart from how its success is measured."""
    parts = [f"## The task: {task.name}\n\n{task.description}"]
    if task.command and task.command.fixed:
        asked = zip(task.command.fixed, task.command.units, strict=True)
        parts.append(f"The command is ({', '.join(f'{value:g} {unit}' for value, unit in asked)}).")
    elif task.command:
        ranges = ", ".join(
            f"{low:g} to {high:g} {unit}"
            for low, high, unit in zip(task.command.low, task.command.high, task.command.units, strict=True)
        )
        parts.append(f"Commands are drawn from {ranges}, anew every {task.command.resample_s:g} s.")
    parts.append(f"An episode lasts {task.episode_length_s:g} s.")
    if termination_penalty:
        parts.append(f"A failure additionally costs {termination_penalty:g} in units of your reward; do not add that.")
    return " ".join(parts)


def first_messages(task: Task, *, safety: bool, termination_penalty: float) -> list[Message]:
    """The beginning of every conversation."""
    system = _ROLE + (f"\n\n{SAFETY}" if safety else "")
    user = "\n\n".join([task_text(task, termination_penalty), state_text(task), _FORM])
    return [
        Message("system", system),
        Message("user", user + "\n\nThink about what the robot has to do, then write it."),
    ]


_IMPROVE = """\
Write a better reward. Decide from the figures what to change:
- A component that hardly varies, or that sits at an end of its range, guides nothing: rescale, reshape or drop it.
- A component whose share dwarfs the others hides them: make it smaller.
- If the reward rises while fitness does not, the reward pays for something that is not the task: find out what.
- If fitness is still low everywhere, try another shaping of the task's own terms rather than new weights alone.
Answer with one complete code block again, and say briefly before it what you changed and why."""


def conversation(
    first: Sequence[Message], best: Sequence[Example], failures: Mapping[str, str], outcomes: Sequence[str]
) -> tuple[Message, ...]:
    """The messages of a generation.

    Args:
        first: as `first_messages` makes them.
        best: past candidates that stay in the conversation, the best last.
        failures: what refused or failed code of the last generation was told, by what it concerns.
        outcomes: one line for each candidate of the last generation.
    """
    messages = list(first)
    notes = ""
    if outcomes:
        notes += "\n\nAll attempts of the last round:\n" + "\n".join(f"- {line}" for line in outcomes)
    if failures:
        notes += "\n\nCode that could not be used, and why:\n" + "\n".join(
            f"- {what}:\n{_indented(why)}" for what, why in failures.items()
        )
    for index, example in enumerate(best):
        last = index == len(best) - 1
        messages.append(Message("assistant", f"```python\n{example.source.strip()}\n```"))
        closing = f"{notes}\n\n{_IMPROVE}" if last else "\n\nWrite a better reward."
        messages.append(Message("user", f"A policy was trained with this reward.\n\n{example.reflection}{closing}"))
    if not best and notes:
        start = messages.pop()
        again = "Nothing could be trained so far. Write one complete code block that avoids these problems."
        messages.append(Message("user", f"{start.content}{notes}\n\n{again}"))
    return tuple(messages)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
