"""Simulations with physics of their own, and simulations that stand still: what the physics prior is built on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from configs.errors import UserError
from envs import tasks
from envs.environment import Environment
from envs.physics import no_reward

WALK = tasks.get("go2-walk")
NAN = float("nan")


def make(ranges: dict[str, tuple[float, float]], n: int = 4) -> Environment:
    return Environment(WALK, n, reward=no_reward, seed=1, randomization=ranges, num_threads=1)


def test_each_simulation_gets_its_own_value_and_nan_none():
    environment = make({"friction": (0.8, 0.8), "base_mass": (0.0, 0.0), "motor_offset": (0.0, 0.0)})
    environment.randomizer.fix("friction", np.array([0.1, NAN, NAN, 2.0]))
    environment.randomizer.fix("base_mass", np.array([NAN, 3.0, NAN, NAN]))
    environment.randomizer.fix("motor_offset", np.array([NAN, NAN, 0.2, NAN]))
    environment.reset()
    sim, fields = environment.sim, environment.randomizer.fields
    friction, mass = sim.expanded["geom_friction"][:, fields.touching, 0], sim.expanded["body_mass"][:, fields.base]
    usual = sim.model.geom_friction[fields.touching, 0]
    assert (friction[0] == 0.1).all() and (friction[3] == 2.0).all()
    assert (friction[1] == usual).all() and (friction[2] == usual).all(), (
        "the model's own, not the term's neutral value"
    )
    assert mass - sim.model.body_mass[fields.base] == pytest.approx([0, 3, 0, 0])
    offset = environment.randomizer.values["motor_offset"]
    assert (offset[2] == np.float32(0.2)).all() and not offset[[0, 1, 3]].any()
    environment.reset()
    assert mass - sim.model.body_mass[fields.base] == pytest.approx([0, 3, 0, 0]), "nothing accumulates"
    assert environment.randomizer.describe(0, 1)["friction"] == [0.1]


def test_a_term_that_is_not_drawn_cannot_be_fixed():
    with pytest.raises(UserError, match="kp"):
        make({"kp": (1, 1)}).randomizer.fix("kd", np.ones(4))


def test_noise_of_each_simulation():
    environment = make({})
    environment.sensing.fix_noise("joint_position", np.array([0.0, 0.01, 0.5, 0.0]))
    exact = torch.zeros(4, 30)
    rows = torch.stack([environment.sensing.noisy(exact, np.zeros(4, int), np.full(4, k)) for k in range(200)])
    positions, others = rows[:, :, :12].abs().amax((0, 2)), rows[:, :, 12:]
    assert positions[0] == positions[3] == 0 and not others.any()
    assert 0.0099 < positions[1] <= 0.01 and 0.49 < positions[2] <= 0.5
    some = environment.sensing.noisy(exact[[2]], np.zeros(1, int), np.array([7]), np.array([2]))
    assert torch.equal(some[0], rows[7, 2]), "a part of the rows gets what all of them get"


def test_what_is_not_active_stands_still():
    environment = make({})
    environment.reset()
    environment.sim.active = np.array([True, False, True, False])
    before = environment.sim.qpos.copy()
    environment.step(torch.zeros(4, 12))
    moved = (environment.sim.qpos != before).any(1)
    assert moved.tolist() == [True, False, True, False]
    environment.sim.active = None
    environment.step(torch.zeros(4, 12))
    assert (environment.sim.qpos != before).any(1).all()


def test_equal_identities_give_equal_episodes():
    environment = make({})
    environment.episodes.identity[:] = [5, 5, 6, 5]
    environment.reset()
    start, command = environment.sim.qpos, environment.state.command
    assert (start[0] == start[1]).all() and (start[0] == start[3]).all() and (start[0] != start[2]).any()
    assert torch.equal(command[0], command[3]) and not torch.equal(command[0], command[2])
