"""Evolving a library of reward terms: every genome is usable code, and the past decides what comes next."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from agents import mutation, reward_code, search_states
from agents.candidate_record import Candidate
from agents.mutation import Gene, MutationProposer, code, cross, first, library, mutate
from envs import tasks
from envs.state import field_docs

TASKS = ("cartpole-swingup", "go2-walk")


def settings(samples: int = 4, seed: int = 0) -> SimpleNamespace:
    task = tasks.get("cartpole-swingup")
    return SimpleNamespace(definition=task, samples=samples, seed=seed, memory=2)


def trained(name: str, generation: int, sample: int, fitness: float) -> Candidate:
    rung = {"select": {"fitness": {"mean": fitness}}, "course": []}
    return Candidate(name, "mutation", generation, sample, "", source="", rungs=[rung], complete=True)


@pytest.mark.parametrize("name", TASKS)
def test_every_term_passes_the_dry_run(name, tmp_path):
    task = tasks.get(name)
    states = torch.load(search_states.record(tmp_path / "states.pt", task), weights_only=True)
    for term in library(task).values():
        source = code((Gene(term.name, term.weight, term.scale), Gene("alive", 0.1, 1.0)), library(task))
        reward = reward_code.load(reward_code.check(source, field_docs()))
        components = reward(SimpleNamespace(**states))
        assert term.name in components
        assert all(torch.isfinite(value).all() for value in components.values()), term.name
        # The term's own sign: costs cost, rewards pay.
        if term.weight < 0:
            assert (components[term.name] <= 0).all(), term.name


def test_the_library_fits_the_robot():
    cartpole, go2 = library(tasks.get("cartpole-swingup")), library(tasks.get("go2-walk"))
    assert "hinge_cosine" in cartpole and "slip" not in cartpole and "velocity" not in cartpole
    assert {"slip", "velocity", "yaw_rate"} <= go2.keys() and "FR_hip_joint_cosine" not in go2


def test_weights_and_scales_stand_in_the_code():
    terms = library(tasks.get("go2-walk"))
    text = code((Gene("velocity", 1.25, 0.4), Gene("torque", -0.002, 1.0)), terms)
    assert '"velocity": 1.25 * (torch.exp(' in text and "/ 0.4 ** 2" in text
    assert '"torque": -0.002 * (s.joint_torque' in text


@pytest.mark.parametrize("name", TASKS)
def test_mutants_stay_usable(name):
    terms = library(tasks.get(name))
    chance = random.Random(3)
    genome = first(terms, chance)
    assert any(gene.weight > 0 for gene in genome)
    for _ in range(300):
        genome = mutate(genome, terms, chance)
        names = [gene.term for gene in genome]
        assert 1 <= len(genome) <= mutation.MAX_GENES and len(set(names)) == len(names)
        for gene in genome:
            assert gene.scale > 0 and (gene.weight > 0) == (terms[gene.term].weight > 0), "a cost stays a cost"
    reward_code.check(code(genome, terms), field_docs())


def test_crossing_takes_from_both():
    terms = library(tasks.get("go2-walk"))
    mother = (Gene("velocity", 1.0, 0.5), Gene("torque", -1e-3, 1.0))
    father = (Gene("velocity", 3.0, 0.2), Gene("slip", -0.1, 1.0))
    children = [cross(mother, father, random.Random(i)) for i in range(60)]
    assert all("velocity" in [g.term for g in child] for child in children), "what both have is kept"
    assert {g.weight for child in children for g in child if g.term == "velocity"} == {1.0, 3.0}
    assert {g.term for child in children for g in child} == {"velocity", "torque", "slip"}
    assert terms.keys() >= {g.term for child in children for g in child}


def test_the_same_settings_propose_the_same():
    one, two = MutationProposer(settings()).propose(0, []), MutationProposer(settings()).propose(0, [])
    assert [p.answer for p in one] == [p.answer for p in two]
    assert len({p.answer for p in one}) == 4
    assert [p.answer for p in MutationProposer(settings(seed=1)).propose(0, [])] != [p.answer for p in one]


def test_the_fittest_are_parents():
    past = [trained(f"mutation-g0s{i}", 0, i, fitness) for i, fitness in enumerate((0.1, 0.9, 0.2, 0.5))]
    proposer = MutationProposer(settings(samples=40))
    proposals = proposer.propose(1, past)
    mothers = [p.parents[0] for p in proposals]
    assert set(mothers) <= {"mutation-g0s1", "mutation-g0s3"}
    assert mothers.count("mutation-g0s1") > mothers.count("mutation-g0s3")
    assert any(len(p.parents) == 2 for p in proposals)
    # Another process, which made none of the first generation itself, proposes the same.
    assert [p.answer for p in MutationProposer(settings(samples=40)).propose(1, past)] == [p.answer for p in proposals]


def test_a_generation_that_all_failed_is_followed_by_a_new_start():
    failed = [Candidate("mutation-g0s0", "mutation", 0, 0, "", failed="boom")]
    [proposal] = MutationProposer(settings(samples=1)).propose(1, failed)
    assert proposal.parents == () and proposal.answer
