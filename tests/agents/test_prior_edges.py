"""Scan and bisection against policies whose edges are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import prior_terms
from agents.prior_batch import Point
from agents.prior_edges import RESOLUTION, refine, scan
from configs.errors import UserError
from envs import tasks
from envs.randomization import TERMS

EPISODES = 20


def survives(edges: dict[str, tuple[float, float]]) -> Callable[[Sequence[Point]], list[int]]:
    """A policy that succeeds in every episode within the edges, and in none outside."""

    def run(points: Sequence[Point]) -> list[int]:
        return [EPISODES if edges[p.term][0] <= p.value <= edges[p.term][1] else 0 for p in points]

    return run


def find(terms: dict[str, tuple[float, float]], run: Callable[[Sequence[Point]], list[int]], needed: float = 0.5):
    grids = {name: (TERMS[name].neutral, prior_terms.grid(name)) for name in terms}
    curves = scan(grids, EPISODES, run)
    refine(curves, needed, EPISODES, run)
    return curves


@pytest.mark.parametrize("name", [n for n in TERMS if n != "push_interval"])
def test_a_grid_spans_the_bounds_and_holds_neutral(name):
    values = prior_terms.grid(name)
    low, high = prior_terms.bounds(name)
    assert len(values) == 11 and values == sorted(set(values))
    assert values[0] == low and values[-1] == high and TERMS[name].neutral in values


def test_known_edges_are_found_side_by_side():
    edges = {"friction": (0.31, 2.2), "base_mass": (-1.7, 6.3), "kp": (0.62, 1.9), "push_velocity": (0.0, 1.37)}
    curves = find(edges, survives(edges))
    for name, (low, high) in edges.items():
        found = curves[name].survived(0.5)
        width = found[1] - found[0]
        assert low <= found[0] and found[1] <= high, "the range is what survived, never beyond"
        assert found[0] - low <= RESOLUTION * width and high - found[1] <= RESOLUTION * width, name


@given(
    low=st.floats(0.0, 0.79), high=st.floats(0.81, 5.0), needed=st.sampled_from([0.1, 0.5, 1.0])
)  # friction: neutral 0.8, bounds 0 to 5
def test_any_edge_is_found_to_five_per_cent(low, high, needed):
    edges = {"friction": (low, high)}
    curve = find(edges, survives(edges), needed)["friction"]
    found = curve.survived(needed)
    assert found is not None and low <= found[0] <= 0.8 <= found[1] <= high
    first = min(abs(v - 0.8) for v in curve.scanned if v != 0.8)
    slack = RESOLUTION * max(found[1] - found[0], first)
    assert found[0] - low <= slack and high - found[1] <= slack


def test_success_up_to_the_bound_needs_no_bisection():
    edges = {"gravity": (-9.0, 20.0)}
    curve = find(edges, survives(edges))["gravity"]
    assert curve.survived(0.5) == (-9.0, 20.0) and len(curve.measured) == 11
    assert curve.bracket(1, 0.5)[1] is None


def test_failure_at_neutral_leaves_no_range():
    curve = find({"kp": (2.0, 3.0)}, survives({"kp": (2.0, 3.0)}))["kp"]
    assert curve.survived(0.5) is None


def test_a_hole_is_not_bridged():
    def run(points: Sequence[Point]) -> list[int]:
        return [EPISODES if p.value < 1.2 or p.value > 3.0 else 0 for p in points]

    low, high = find({"friction": (0, 0)}, run)["friction"].survived(0.5)
    assert low == 0.0 and 1.1 < high < 1.2


def test_a_share_has_its_interval():
    def run(points: Sequence[Point]) -> list[int]:
        return [15 for _ in points]

    measured = find({"kd": (0, 5)}, run)["kd"].values()[0]
    # Wilson 1927: (0.75 + z^2/40 +- z sqrt(0.75*0.25/20 + z^2/1600)) / (1 + z^2/20), z = 1.96
    assert measured.share == 0.75 and measured.interval == pytest.approx((0.5313, 0.8881), abs=1e-4)


def test_what_applies_to_a_task():
    cartpole, walk = (prior_terms.applicable(tasks.get(n)) for n in ("cartpole-swingup", "go2-walk"))
    assert "friction" not in cartpole and "push_velocity" not in cartpole and "gravity_bias" not in cartpole
    assert {"link_mass", "motor_strength", "gravity", "joint_position_noise"} <= set(cartpole)
    assert len(walk) >= 13 and "push_interval" not in walk and not any(n.startswith("ball") for n in walk)
    with pytest.raises(UserError, match="makes no difference to cartpole-swingup"):
        prior_terms.choose(tasks.get("cartpole-swingup"), ["friction"])
    with pytest.raises(UserError, match="did you mean 'friction'"):
        prior_terms.choose(tasks.get("go2-walk"), ["frction"])
    with pytest.raises(UserError, match="at least 3"):
        prior_terms.grid("kp", 2)
