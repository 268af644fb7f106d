"""How ranges are come by without a model, and what a model is told."""

from __future__ import annotations

import numpy as np
import pytest

from agents import design_arms
from agents.design_arms import at_random, cem_next, cem_rounds, fixed, inside, messages, offered, purpose
from agents.llm import Request, prompt_sha256
from envs import tasks
from envs.randomization import TERMS, validate

WALK = tasks.get("go2-walk")
_TERM = {"neutral": 1.0, "values": [], "symmetric": False}
PRIOR = {
    "terms": {
        "friction": {**_TERM, "range": [0.25, 2.0]}, "kp": {**_TERM, "range": [0.6, 1.7]},
        "push_velocity": {**_TERM, "range": [0.0, 1.2], "symmetric": True},
    }
}  # fmt: skip
INSIDE = {"friction": (0.25, 2.0), "kp": (0.6, 1.7), "push_velocity": (-1.2, 1.2)}


def test_arms_without_choice():
    assert fixed(WALK, "none", {}, None).ranges == {}
    assert fixed(WALK, "human", {"kp": (0.9, 1.1)}, None).ranges == {"kp": (0.9, 1.1)}
    whole = fixed(WALK, "prior", {}, PRIOR).ranges
    assert whole == {**INSIDE, "push_interval": WALK.randomization["push_interval"]}
    validate(whole)


def test_random_ranges_lie_inside_the_prior_and_are_drawn_by_number():
    drawn = [at_random(WALK, PRIOR, 0, "random", sample) for sample in range(200)]
    for shares in drawn:
        ranges = inside(WALK, PRIOR, shares, "").ranges
        for name, (low, high) in INSIDE.items():
            assert low <= ranges[name][0] <= ranges[name][1] <= high
        assert ranges["push_velocity"][0] == -ranges["push_velocity"][1]
    assert np.array_equal(drawn[7], at_random(WALK, PRIOR, 0, "random", 7))
    assert not np.array_equal(drawn[7], at_random(WALK, PRIOR, 1, "random", 7))
    assert not np.array_equal(drawn[7], at_random(WALK, PRIOR, 0, "cem", 7))
    # The ends of two sorted uniform numbers have means of one and two thirds.
    assert np.stack(drawn).mean((0, 1)) == pytest.approx([1 / 3, 2 / 3], abs=0.04)


def test_the_cross_entropy_method_goes_where_it_is_better():
    assert cem_rounds(8) == [4, 4] and cem_rounds(5) == [3, 2] and cem_rounds(1) == [1]
    target = np.array([[0.1, 0.3], [0.6, 0.9], [0.4, 0.5]])
    start = [at_random(WALK, PRIOR, 0, "cem", sample) for sample in range(40)]
    distance = lambda shares: float(np.abs(shares - target).mean())  # noqa: E731
    fitness = [-distance(shares) for shares in start]
    following = [cem_next(start, fitness, 0, sample) for sample in range(40, 80)]
    assert np.mean([distance(s) for s in following]) < 0.8 * np.mean([distance(s) for s in start])
    assert all((s >= 0).all() and (s <= 1).all() and (np.diff(s) >= 0).all() for s in following)
    assert np.array_equal(following[3], cem_next(start, fitness, 0, 43))


def test_what_a_model_may_choose():
    assert offered(WALK, "designed", (), PRIOR) == INSIDE
    free = offered(WALK, "no_prior", (), None)
    assert set(free.values()) == {None} and {"friction", "gravity"} <= set(free) and "push_interval" not in free
    wide = offered(WALK, "uninformative", ("friction", "push_velocity"), None)
    assert wide == {"friction": (0.0, 5.0), "push_velocity": (-10.0, 10.0)}


def test_the_prompt_says_what_the_code_says():
    system, user = messages(WALK, "designed", INSIDE, safety=True)
    assert "real robot" in system.content and "choose safety" in system.content
    assert "choose safety" not in messages(WALK, "designed", INSIDE, safety=False)[0].content
    assert WALK.description in user.content
    for name, (low, high) in INSIDE.items():
        line = next(line for line in user.content.splitlines() if line.startswith(f"- `{name}`"))
        assert TERMS[name].meaning in line and f"bounds {low:.4g} to {high:.4g}" in line
    assert "may fill them" in user.content and "were measured" in user.content
    assert "further from the model" in system.content
    assert "Pushes come every 5 to 15 s" in user.content


def test_arms_of_models_differ_only_in_what_they_are_told_of_bounds():
    of = {arm: messages(WALK, arm, offered(WALK, arm, (), PRIOR), True)[1].content for arm in design_arms.OF_MODELS}
    assert "bounds" not in of["no_prior"].partition("## The parameters")[2].partition("## What to write")[0]
    assert "say nothing about this policy" in of["uninformative"] and "were measured" not in of["uninformative"]
    asked = [Request(messages(WALK, arm, INSIDE, True), 0, 1, purpose=purpose(arm)) for arm in design_arms.OF_MODELS]
    assert [r.place for r in asked] == ["g0s1.designed", "g0s1.no-prior", "g0s1.uninformative"]


def test_the_same_question_has_the_same_words():
    a, b = (Request(messages(WALK, "designed", INSIDE, True), 0, 0, purpose="designed") for _ in range(2))
    assert prompt_sha256(a) == prompt_sha256(b)
