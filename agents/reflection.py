"""What a model is told about a candidate that was trained: components, fitness, and how the policy fails.

Component figures come from the candidate's own process and are feedback only. Fitness, falls and slip were measured
outside it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from envs.tasks.task import Task

# A reward that games its own components, as it shows in the figures.
GAMING_FITNESS_SHARE = 0.6
"""Of the threshold that the task counts as done from: below it, a reward that rose is suspect."""
GAMING_CORRELATION = 0.5
GAMING_GAIN = 1.0
"""Rise of the mean reward over the training, in units of its spread between points of the course."""


def correlation(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Pearson's coefficient; None where one of them does not vary or there are fewer than three points."""
    if len(x) < 3:
        return None
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    dx, dy = [v - mean_x for v in x], [v - mean_y for v in y]
    norm = math.sqrt(sum(v * v for v in dx) * sum(v * v for v in dy))
    return sum(a * b for a, b in zip(dx, dy, strict=True)) / norm if norm > 1e-12 else None


def gaming(course: Sequence[Mapping[str, Any]], fitness: float, threshold: float) -> dict[str, Any] | None:
    """Whether the reward rose without the fitness: high reward, low fitness, and how they correlate.

    Args:
        course: entries with ``reward`` and ``fitness``, over the training.
        fitness: the policy's, measured outside.
        threshold: fitness from which the task counts as done.

    Returns:
        ``suspected``, ``correlation`` of reward and fitness over the training (None: one of them stood still),
        ``reward_gain`` (rise of the reward in units of its spread), ``fitness_share`` of the threshold; or None for a
        course too short to tell.
    """
    points = [(_get(e, "reward"), _get(e, "fitness")) for e in course]
    known = [(r, f) for r, f in points if r is not None and f is not None]
    if len(known) < 3:
        return None
    rewards, fitnesses = [r for r, _ in known], [f for _, f in known]
    mean = sum(rewards) / len(rewards)
    spread = math.sqrt(sum((r - mean) ** 2 for r in rewards) / len(rewards))
    gain = (rewards[-1] - rewards[0]) / spread if spread > 1e-12 else 0.0
    related = correlation(rewards, fitnesses)
    share = fitness / threshold
    suspected = (
        gain > GAMING_GAIN and share < GAMING_FITNESS_SHARE and (related is None or related < GAMING_CORRELATION)
    )
    return {"suspected": suspected, "correlation": related, "reward_gain": gain, "fitness_share": share}


def _get(entry: Mapping[str, Any], name: str) -> float | None:
    value = entry.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def reflect(
    task: Task, course: Sequence[Mapping[str, Any]], rungs: Sequence[Mapping[str, Any]], stopped: str | None
) -> str:
    """The reflection as text.

    Args:
        course: entries of components.jsonl, evenly spread over the training.
        rungs: each stage's ``env_steps``, ``select`` and ``failure``, as agents/candidate_evaluation.py gives them.
        stopped: why the training was not completed, or None.
    """
    last = rungs[-1]
    fitness = last["select"]["fitness"]["mean"]
    lines = [
        f"Fitness, measured apart from the reward on physics it was not trained on: {_join(rungs)}. 1 is perfect; the "
        f"task counts as done from {task.fitness_threshold:g}."
    ]
    if stopped:
        lines.append(f"{stopped}")
    parts = [component_lines(course), _course_line(course), failure_text(task, last["select"], last["failure"])]
    lines += [part for part in parts if part]
    found = gaming(course, fitness, task.fitness_threshold)
    if found and found["suspected"]:
        related = found["correlation"]
        told = "did not follow it" if related is None else f"correlates with it by {related:.2f} only"
        lines.append(
            f"Warning: the reward rose during the training while fitness stayed low, and fitness {told}. This reward "
            "pays for something other than the task."
        )
    return "\n\n".join(lines)


def _short(value: float | None) -> str:
    """Three digits; what is as good as nothing is 0, and what is unknown a dash."""
    return "–" if value is None else "0" if abs(value) < 1e-7 else f"{value:.3g}"


def _join(rungs: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{r['select']['fitness']['mean']:.3f} after {r['env_steps']:,} steps" for r in rungs)


def component_lines(course: Sequence[Mapping[str, Any]]) -> str:
    """Each component's course: mean over the training; at its end the spread, share of the total and saturation."""
    if not course:
        return ""
    final = course[-1].get("components", {})
    names = list(dict.fromkeys(n for entry in course for n in entry.get("components", {})))
    total = sum(abs(_get(c, "mean") or 0.0) for c in final.values()) or 1.0
    lines = ["Components (mean over the training; then, at its end, spread over states, share of the total, range):"]
    for name in names:
        means = [_get(entry.get("components", {}).get(name, {}), "mean") for entry in course]
        path = " ".join(_short(m) for m in means)
        now = final.get(name, {})
        mean, std = _get(now, "mean") or 0.0, _get(now, "std") or 0.0
        low, high = _get(now, "low") or 0.0, _get(now, "high") or 0.0
        lines.append(
            f"- {name}: {path}; spread {_short(std)}, share {abs(mean) / total:.0%}, "
            f"range {_short(low)} to {_short(high)}{_saturation(now, std)}"
        )
    return "\n".join(lines)


def _saturation(now: Mapping[str, Any], std: float) -> str:
    if std < 1e-6:
        return "; constant: it guides nothing"
    at_low, at_high = _get(now, "at_low") or 0.0, _get(now, "at_high") or 0.0
    if max(at_low, at_high) < 0.5:
        return ""
    end, share = ("highest", at_high) if at_high >= at_low else ("lowest", at_low)
    return f"; saturated: at its {end} value in {share:.0%} of the states"


def _course_line(course: Sequence[Mapping[str, Any]]) -> str:
    """Reward and fitness side by side, over the training."""
    if not course:
        return ""
    show = lambda name: " ".join(_short(_get(entry, name)) for entry in course)  # noqa: E731
    return f"Over the training, at evenly spread moments:\n- reward: {show('reward')}\n- fitness: {show('fitness')}"


_WHEN = ("in its first quarter", "in its second quarter", "in its third quarter", "in its last quarter")


def failure_text(task: Task, select: Mapping[str, Any], failure: Mapping[str, Any]) -> str:
    """How the policy behaves and fails: falls and when, fitness over the episode, jitter, the task's own measures."""
    lines = ["The trained policy:"]
    if failure["fall_rate"] > 0:
        falls = failure["falls_by_quarter"]
        worst = max(range(len(falls)), key=falls.__getitem__)
        lines.append(f"- falls in {failure['fall_rate']:.0%} of the episodes, most often {_WHEN[worst]}")
    elif task.robot and select["fall_rate"]["mean"] == 0:
        lines.append("- never fails before the episode's end")
    quarters = " ".join(f"{f:.2f}" for f in failure["fitness_by_quarter"])
    lines.append(f"- fitness in the four quarters of an episode: {quarters}")
    change = failure["action_change"]
    jitter = " (jittery)" if change > 0.3 else " (smooth)" if change < 0.05 else ""
    lines.append(f"- its actions (range -1 to 1) change by {change:.2f} from step to step on average{jitter}")
    for name, value in select["measures"].items():
        unit = f" {value['unit']}" if value.get("unit") else ""
        lines.append(f"- {name.replace('_', ' ')}: {value['mean']:.3g}{unit}")
    if select.get("diverged"):
        lines.append(f"- {select['diverged']} simulations diverged")
    return "\n".join(lines)
