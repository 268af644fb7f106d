"""The arms of a design: who proposes randomization ranges, and from what.

=============  ======================================================================================================
designed       a language model, within the physics prior: DrEureka's way
none           no randomization
human          the ranges that people chose (the task's own, or `randomization`)
prior          the whole prior, without a model
no_prior       a language model that is told what the parameters mean and no bounds
uninformative  a language model that is told the widest bounds that the simulation takes, as if they were a prior
random         ranges at random inside the prior
cem            the cross-entropy method inside the prior: half of the samples at random, each further round around the
               better half of the round before (Rubinstein 1999)
=============  ======================================================================================================

Random draws depend on the design's seed, the arm and the sample, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agents import prior_terms
from agents.llm_types import Message
from agents.physics_prior import PUSH_INTERVAL_S, surviving_ranges, with_push_interval
from agents.range_prompt import range_messages
from envs import draws
from envs.tasks.task import Task

ARMS = ("designed", "none", "human", "prior", "no_prior", "uninformative", "random", "cem")
OF_MODELS = ("designed", "no_prior", "uninformative")
FROM_PRIOR = ("designed", "prior", "random", "cem")
CEM_ROUNDS = 2
CEM_LEAST_SPREAD = 0.05

Ranges = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class RangeProposal:
    """Ranges to train with, or the reason why there are none."""

    ranges: Ranges
    reasons: Mapping[str, str] = field(default_factory=dict)
    note: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Who answered and what it cost, as the ledger names them."""
    usable: bool = True


def offered(task: Task, arm: str, terms: Sequence[str], prior: Mapping[str, Any] | None) -> dict[str, Any]:
    """The parameters that an arm of a model may choose, each with the bounds that it is told, or None."""
    if arm == "designed":
        assert prior is not None
        return dict(surviving_ranges(prior))
    names = prior_terms.choose(task, terms)
    if arm == "no_prior":
        return dict.fromkeys(names)
    found = {}
    for name in names:
        low, high = prior_terms.bounds(name)
        found[name] = (-high, high) if prior_terms.symmetric(name) else (low, high)
    return found


def messages(task: Task, arm: str, bounds: Mapping[str, Any], safety: bool) -> tuple[Message, ...]:
    """What a model is asked for the arm."""
    pushes = any(name.endswith("push_velocity") for name in bounds)
    interval = task.randomization.get("push_interval", PUSH_INTERVAL_S) if pushes else None
    return range_messages(task, bounds, measured=arm == "designed", safety=safety, push_interval_s=interval)


def purpose(arm: str) -> str:
    """The arm in the names of prompts and answers, such as g0s1.no-prior."""
    return arm.replace("_", "-")


def fixed(task: Task, arm: str, human: Ranges, prior: Mapping[str, Any] | None) -> RangeProposal:
    """The one proposal of an arm without choice."""
    if arm == "none":
        return RangeProposal({}, note=("No randomization.",))
    if arm == "human":
        return RangeProposal(dict(human), note=("Chosen by people.",))
    assert prior is not None
    ranges = with_push_interval(surviving_ranges(prior), task)
    return RangeProposal(ranges, note=("The whole physics prior, without a model.",))


def at_random(task: Task, prior: Mapping[str, Any], seed: int, arm: str, sample: int) -> np.ndarray:
    """(terms, 2) a range inside each parameter's part of the prior, as shares of it, lower end first."""
    count = len(surviving_ranges(prior))
    key = draws.stream(seed, f"ranges {arm}")
    u = draws.uniform(key, np.full(count, sample), np.arange(count), size=2)
    return np.sort(u, axis=1)


def inside(task: Task, prior: Mapping[str, Any], shares: np.ndarray, note: str) -> RangeProposal:
    """Ranges from shares (terms, 2) of the prior's parts; noise and pushes stay symmetric, as in the prior."""
    found: Ranges = {}
    for (name, (low, high)), (a, b) in zip(surviving_ranges(prior).items(), np.sort(shares.clip(0, 1), 1), strict=True):
        if prior_terms.symmetric(name):
            found[name] = (low * float(b), high * float(b))
        else:
            found[name] = (low + (high - low) * float(a), low + (high - low) * float(b))
    return RangeProposal(with_push_interval(found, task), note=(note,))


def cem_rounds(samples: int) -> list[int]:
    """How many samples each round of the cross-entropy method has."""
    first = -(-samples // CEM_ROUNDS)
    return [size for size in (first, samples - first) if size]


def cem_next(parents: Sequence[np.ndarray], fitness: Sequence[float], seed: int, sample: int) -> np.ndarray:
    """(terms, 2) shares drawn about the better half of a round, (terms, 2) each."""
    order = np.argsort([-f for f in fitness], kind="stable")
    elite = np.stack([parents[i] for i in order[: max(1, len(parents) // 2)]])
    mean, spread = elite.mean(0), np.maximum(elite.std(0), CEM_LEAST_SPREAD)
    key = draws.stream(seed, "ranges cem normal")
    u = draws.uniform(key, np.full(len(mean), sample), np.arange(len(mean)), size=4)
    # Box and Muller (1958), two normal numbers from two uniform ones, for each end of each range.
    normal = np.sqrt(-2 * np.log1p(-u[:, :2])) * np.cos(2 * np.pi * u[:, 2:])
    return np.sort((mean + spread * normal).clip(0, 1), axis=1)
