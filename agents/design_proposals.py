"""Proposals of an arm: asked for, written down, and read back the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents import design_arms, run_folder
from agents.design_arms import OF_MODELS, RangeProposal
from agents.llm_types import Answer, LLMError, Request
from agents.physics_prior import with_push_interval
from agents.range_answer import as_yaml, read_answer
from agents.work_folder import WorkFolder

Ask = Callable[[Sequence[Request]], list[Answer | LLMError]]
RANGES = "ranges"
"""Folder of the proposals' YAML files."""
_FACTS = ("provider", "model", "input_tokens", "output_tokens", "cost_usd", "replayed", "recorded", "prompt_changed")


class Proposals:
    """Makes each arm's proposals; those that stand in the ledger are read from there."""

    def __init__(self, folder: WorkFolder, ask: Ask | None, prior: Mapping[str, Any] | None) -> None:
        self._folder, self._ask, self._prior = folder, ask, prior
        self._settings, self._ledger = folder.settings, folder.ledger
        self._task = folder.settings.definition

    def of(self, arm: str) -> list[str]:
        """Names of the arm's proposals, all of them made; not of `cem`, whose later ones depend on trainings."""
        if arm in OF_MODELS:
            return self._of_model(arm)
        if arm == "random":
            names = self._names(arm, self._settings.samples)
            for sample, name in enumerate(names):
                shares = design_arms.at_random(self._task, self._some_prior, self._settings.seed, arm, sample)
                self._keep(name, arm, sample, self._inside(shares, "At random inside the physics prior."))
            return names
        proposal = design_arms.fixed(self._task, arm, self._settings.ranges, self._prior)
        self._keep(arm, arm, 0, proposal)
        return [arm]

    def of_cem(self, round_index: int, fitness: Sequence[float]) -> list[str]:
        """The names of a round of `cem`; fitness: of the samples of the round before, in their order."""
        sizes = design_arms.cem_rounds(self._settings.samples)
        first = sum(sizes[:round_index])
        names = self._names("cem", self._settings.samples)[first : first + sizes[round_index]]
        seed, prior = self._settings.seed, self._some_prior
        start = [design_arms.at_random(self._task, prior, seed, "cem", sample) for sample in range(sizes[0])]
        for sample, name in enumerate(names, first):
            shares = start[sample] if round_index == 0 else design_arms.cem_next(start, fitness, seed, sample)
            self._keep(name, "cem", sample, self._inside(shares, f"Cross-entropy method, round {round_index + 1}."))
        return names

    def ranges(self, name: str) -> dict[str, tuple[float, float]]:
        """Of a proposal."""
        event = self._ledger.get("proposal", name)
        assert event is not None
        return {term: (low, high) for term, (low, high) in event["ranges"].items()}

    def text(self, name: str) -> str:
        """Its YAML, with comments."""
        return (self._folder.path / RANGES / f"{name}.yaml").read_text(encoding="utf-8")

    def usable(self, name: str) -> bool:
        event = self._ledger.get("proposal", name)
        return event is not None and bool(event["usable"])

    @property
    def _some_prior(self) -> Mapping[str, Any]:
        assert self._prior is not None
        return self._prior

    def _names(self, arm: str, count: int) -> list[str]:
        return [f"{arm}-s{sample}" for sample in range(count)]

    def _inside(self, shares: Any, note: str) -> RangeProposal:
        return design_arms.inside(self._task, self._some_prior, shares, note)

    def _of_model(self, arm: str) -> list[str]:
        names = self._names(arm, self._settings.samples)
        if not all(self._ledger.get("proposal", name) for name in names):
            bounds = design_arms.offered(self._task, arm, self._settings.prior_terms, self._prior)
            asked = design_arms.messages(self._task, arm, bounds, self._settings.safety_instruction)
            assert self._ask is not None
            purpose = design_arms.purpose(arm)
            found = self._ask([Request(asked, 0, sample, purpose=purpose) for sample in range(len(names))])
            errors = [outcome for outcome in found if isinstance(outcome, LLMError)]
            if len(errors) == len(found):
                raise errors[0]
            for sample, (name, outcome) in enumerate(zip(names, found, strict=True)):
                self._keep(name, arm, sample, self._read(outcome, bounds))
        return names

    def _read(self, outcome: Answer | LLMError, bounds: Mapping[str, Any]) -> RangeProposal:
        if isinstance(outcome, LLMError):
            return RangeProposal({}, problems=(f"no answer: {outcome}",), usable=False)
        answer = read_answer(outcome.text, bounds)
        who = f"Proposed by {outcome.model or outcome.provider}{', replayed' if outcome.replayed else ''}. Its words:"
        return RangeProposal(
            with_push_interval(answer.ranges, self._task), answer.reasons, (who, *answer.note), answer.problems,
            {name: getattr(outcome, name) for name in _FACTS}, usable=bool(answer.ranges),
        )  # fmt: skip

    def _keep(self, name: str, arm: str, sample: int, proposal: RangeProposal) -> None:
        """Its YAML first, the line in the ledger then: what stands there has its file."""
        if self._ledger.get("proposal", name):
            return
        path = self._folder.path / RANGES / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        header = (f"{name} of the design {self._folder.id}", *proposal.note, *(f"! {p}" for p in proposal.problems))
        run_folder.write_atomically(path, as_yaml(proposal.ranges, proposal.reasons, header))
        facts = {**dict.fromkeys(_FACTS), "replayed": False, **proposal.facts}
        self._ledger.add(
            "proposal", name, arm=arm, sample=sample, file=f"{RANGES}/{name}.yaml", usable=proposal.usable,
            ranges={term: list(span) for term, span in proposal.ranges.items()}, reasons=dict(proposal.reasons),
            note=list(proposal.note), problems=list(proposal.problems), **facts,
        )  # fmt: skip
