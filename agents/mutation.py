"""Rewards without a model: a library of reward terms, evolved by mutation and crossing.

The control arm of a search: it goes through the same stages, with as many candidates, and shows what a language model
adds. It knows nothing of the task but its robot and whether there is a command; the library holds the usual terms of
the literature, each with a weight and a scale.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.candidate_record import Candidate, Proposal, ranked
from agents.search_settings import Settings
from envs import robots
from envs.tasks.task import Task


@dataclass(frozen=True)
class Term:
    """A kind of component: an expression of the state, with {scale} in it."""

    name: str
    expression: str
    weight: float
    """Where a weight of it starts; negative for costs."""
    scale: float = 1.0


@dataclass(frozen=True)
class Gene:
    """A term with its own weight and scale."""

    term: str
    weight: float
    scale: float


Genome = tuple[Gene, ...]
MAX_GENES, FIRST_GENES = 14, (3, 7)


def library(task: Task) -> dict[str, Term]:
    """The terms that make sense for the task's robot, by name."""
    robot = robots.get(task.robot)
    terms = [
        Term("action_rate", "(s.action - s.previous_action).square().sum(1)", -0.05),
        Term("action_size", "s.action.square().sum(1)", -0.02),
        Term("torque", "s.joint_torque.square().sum(1)", -1e-3),
        Term("power", "s.joint_power.abs().sum(1)", -1e-3),
        Term("joint_speed", "s.joint_velocity.square().clamp(max=400.0).sum(1)", -1e-3),
        Term("joint_acceleration", "s.joint_acceleration.square().clamp(max=1e5).sum(1)", -1e-6),
        Term("alive", "(~s.terminated).float()", 0.3),
        Term("near_limits", "((s.joint_position - s.joint_upper).clamp(min=0.0) + "
             "(s.joint_lower - s.joint_position).clamp(min=0.0)).sum(1)", -1.0),
    ]  # fmt: skip
    terms += _walking() if robot.feet else _joints(robot.joint_names)
    if task.command and len(task.command.low) == 3:
        terms += _commanded()
    return {term.name: term for term in terms}


def _joints(names: Sequence[str]) -> list[Term]:
    """For mechanisms: each joint near home, either way round, and slow."""
    terms = []
    for index, name in enumerate(names):
        position, velocity = f"s.joint_position[:, {index}]", f"s.joint_velocity[:, {index}]"
        home = f"s.joint_home[{index}]"
        terms += [
            Term(f"{name}_cosine", f"(1.0 + {position}.cos()) / 2", 1.0),
            Term(f"{name}_sine", f"{position}.sin().square()", -0.3),
            Term(f"{name}_near_home", f"torch.exp(-((({position} - {home}) / {{scale}}) ** 2))", 0.5, 0.5),
            Term(f"{name}_slow", f"torch.exp(-(({velocity} / {{scale}}) ** 2))", 0.2, 2.0),
            Term(f"{name}_fast", f"({velocity} / {{scale}}).tanh().abs()", 0.2, 5.0),
        ]  # fmt: skip
    return terms


def _walking() -> list[Term]:
    """For robots with feet."""
    return [
        Term("tilt", "s.gravity_b[:, :2].square().sum(1)", -1.0),
        Term("height", "torch.exp(-(((s.base_height - {scale}) / 0.1) ** 2))", 0.3, 0.3),
        Term("bounce", "s.base_linear_velocity_b[:, 2].square()", -0.5),
        Term("roll_pitch_rate", "s.base_angular_velocity_b[:, :2].square().sum(1)", -0.03),
        Term("pose", "(s.joint_position - s.joint_home).square().sum(1)", -0.05),
        Term("slip", "(s.foot_velocity_w[..., :2].norm(dim=-1) * s.foot_contact).sum(1)", -0.1),
        Term("air_time", "((s.foot_air_time - {scale}).clamp(max=0.1) * s.foot_touchdown).sum(1)", 0.5, 0.25),
        Term("foot_height", "((s.foot_height - {scale}).square() * s.foot_velocity_w[..., :2].norm(dim=-1)).sum(1)",
             -0.5, 0.07),
        Term("contact_force", "(s.foot_contact_force - 80.0).clamp(min=0.0, max=300.0).sum(1)", -1e-3),
    ]  # fmt: skip


def _commanded() -> list[Term]:
    """For tasks that follow a velocity command."""
    velocity = "(s.command[:, :2] - s.base_linear_velocity_b[:, :2])"
    yaw = "(s.command[:, 2] - s.base_angular_velocity_b[:, 2])"
    return [
        Term("velocity", f"torch.exp(-{velocity}.square().sum(1) / {{scale}} ** 2)", 1.0, 0.5),
        Term("velocity_fine", f"torch.exp(-{velocity}.square().sum(1) / {{scale}} ** 2)", 0.5, 0.2),
        Term("velocity_error", f"{velocity}.norm(dim=1)", -0.5),
        Term("yaw_rate", f"torch.exp(-{yaw}.square() / {{scale}} ** 2)", 0.5, 0.5),
        Term("yaw_rate_error", f"{yaw}.abs()", -0.3),
    ]


def code(genome: Genome, terms: dict[str, Term]) -> str:
    """The genome as reward code."""
    lines = ["def reward(s):", "    return {"]
    for gene in genome:
        expression = terms[gene.term].expression.replace("{scale}", f"{gene.scale:.6g}")
        lines.append(f'        "{gene.term}": {gene.weight:.6g} * ({expression}),')
    return "\n".join([*lines, "    }"]) + "\n"


def first(terms: dict[str, Term], chance: random.Random) -> Genome:
    """A genome of random terms, at least one of which pays, since costs alone teach to end the episode."""
    count = min(len(terms), chance.randint(*FIRST_GENES))
    earning = chance.choice([t.name for t in terms.values() if t.weight > 0 and t.name != "alive"])
    names = chance.sample([name for name in terms if name != earning], count - 1)
    return tuple(_gene(terms[name], chance) for name in (earning, *names))


def _gene(term: Term, chance: random.Random) -> Gene:
    """A term with a weight and a scale about where they start, within a factor of about 2."""
    return Gene(term.name, term.weight * chance.lognormvariate(0.0, 0.7), term.scale * chance.lognormvariate(0.0, 0.4))


def mutate(genome: Genome, terms: dict[str, Term], chance: random.Random) -> Genome:
    """One to three changes: a weight, a scale, a term more, less or replaced."""
    genes = list(genome)
    for _ in range(chance.randint(1, 3)):
        unused = [name for name in terms if name not in [g.term for g in genes]]
        kind = chance.choice(("weight", "weight", "scale", "add", "drop", "replace"))
        index = chance.randrange(len(genes))
        if kind == "weight":
            genes[index] = replace(genes[index], weight=genes[index].weight * chance.lognormvariate(0.0, 0.8))
        elif kind == "scale":
            genes[index] = replace(genes[index], scale=genes[index].scale * chance.lognormvariate(0.0, 0.5))
        elif kind == "add" and unused and len(genes) < MAX_GENES:
            genes.append(_gene(terms[chance.choice(unused)], chance))
        elif kind == "drop" and len(genes) > 1:
            del genes[index]
        elif kind == "replace" and unused:
            genes[index] = _gene(terms[chance.choice(unused)], chance)
    return tuple(genes)


def cross(mother: Genome, father: Genome, chance: random.Random) -> Genome:
    """Each term of either parent with even chance, from one of those that have it; never empty."""
    by_term: dict[str, list[Gene]] = {}
    for gene in (*mother, *father):
        by_term.setdefault(gene.term, []).append(gene)
    kept = [chance.choice(genes) for genes in by_term.values() if len(genes) == 2 or chance.random() < 0.5]
    return tuple(kept[:MAX_GENES]) or mother


class MutationProposer:
    """Evolves genomes. What it proposes depends on the settings' seed and the fitness of the past alone."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._terms = library(settings.definition)
        self._genomes: dict[str, Genome] = {}

    def prompt(self, generation: int, past: Sequence[Candidate]) -> None:
        return None

    def propose(self, generation: int, past: Sequence[Candidate]) -> list[Proposal]:
        proposals = []
        for sample in range(self._settings.samples):
            genome, parents = self._genome(generation, sample, past)
            facts = {"provider": "mutation", "cost_usd": 0.0, "seconds": 0.0}
            proposals.append(Proposal(f"```python\n{code(genome, self._terms)}```\n", parents, None, facts))
        return proposals

    def _genome(self, generation: int, sample: int, past: Sequence[Candidate]) -> tuple[Genome, tuple[str, ...]]:
        """One genome and the names of its parents. A pure function, so a resumed search finds the same."""
        chance = random.Random(f"{self._settings.seed}/{generation}/{sample}")
        before = [c for c in past if c.generation < generation]
        parents = ranked(before)[: max(2, self._settings.memory)]
        if not parents:
            return first(self._terms, chance), ()
        mother = parents[min(int(chance.expovariate(1.0)), len(parents) - 1)]
        genome = self._of(mother, past)
        names: tuple[str, ...] = (mother.name,)
        father = chance.choice(parents)
        if father is not mother and chance.random() < 0.3:
            genome, names = cross(genome, self._of(father, past), chance), (mother.name, father.name)
        return mutate(genome, self._terms, chance), names

    def _of(self, candidate: Candidate, past: Sequence[Candidate]) -> Genome:
        """A past candidate's genome, made again where another process proposed it."""
        if candidate.name not in self._genomes:
            genome, _ = self._genome(candidate.generation, candidate.sample, past)
            self._genomes[candidate.name] = genome
        return self._genomes[candidate.name]
