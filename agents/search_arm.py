"""One arm of a search: generation after generation is proposed, checked, trained in stages and reflected upon."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from agents import run_folder
from agents.candidate import ANSWER
from agents.candidate_record import Candidate, ranked
from agents.reflection import gaming, reflect
from agents.search_approval import Approve
from agents.search_folder import SearchFolder
from agents.search_jobs import Jobs
from agents.search_proposer import Exhausted, Proposer

_FACTS: dict[str, Any] = {
    "provider": None, "model": None, "input_tokens": None, "output_tokens": None, "cost_usd": None, "seconds": None,
    "replayed": False, "recorded": "", "prompt_changed": False,
}  # fmt: skip
REFLECTION = "reflection.md"


class Arm:
    """Runs the generations of one proposer. Everything it does is on disk; running it again does what is missing."""

    def __init__(
        self, name: str, folder: SearchFolder, proposer: Proposer, jobs: Jobs, approve: Approve,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.name, self.folder, self.proposer, self.jobs = name, folder, proposer, jobs
        self._approve, self._say = approve, say
        self._settings, self._ledger = folder.settings, folder.ledger
        self.candidates: list[Candidate] = []

    def run(self) -> list[Candidate]:
        """All generations; returns every candidate."""
        for generation in range(self._settings.generations):
            try:
                candidates = self._propose(generation)
            except Exhausted as reason:
                self._ledger.add("exhausted", self._key(generation), arm=self.name, reason=str(reason))
                self._say(f"{self.name}: no further generation: {reason}")
                break
            if not candidates:
                break
            self._check(candidates)
            runnable = self._approved(generation, [c for c in candidates if c.source is not None])
            self._train(generation, runnable)
            for candidate in candidates:
                self._reflect(candidate)
            self.candidates += candidates
            self._rank(generation)
        return self.candidates

    def _key(self, generation: int) -> str:
        return f"{self.name}-g{generation}"

    def _propose(self, generation: int) -> list[Candidate]:
        """This generation's candidates, from the ledger where they were proposed before."""
        names = [f"{self._key(generation)}s{sample}" for sample in range(self._settings.samples)]
        if not all(self._ledger.get("proposal", name) for name in names):
            if self._ledger.get("winner", self.name):
                return []  # a limit ended the generations, and the finals have begun since
            prompt = self.proposer.prompt(generation, self.candidates)
            self._say(f"{self.name}: generation {generation}: asking for {len(names)} candidates")
            proposals = self.proposer.propose(generation, self.candidates)
            file = self._write_prompt(generation, prompt) if prompt else None
            parents = sorted({parent for proposal in proposals for parent in proposal.parents})
            self._ledger.add(
                "generation", self._key(generation), arm=self.name, generation=generation, prompt=file, parents=parents
            )
            for sample, (name, proposal) in enumerate(zip(names, proposals, strict=True)):
                run = self.folder.candidate(name)
                run.mkdir(parents=True, exist_ok=True)
                if proposal.answer is not None:
                    run_folder.write_atomically(run / ANSWER, proposal.answer)
                self._ledger.add(
                    "proposal", name, arm=self.name, generation=generation, sample=sample,
                    folder=self.folder.relative(run), parents=list(proposal.parents), error=proposal.error,
                    **{**_FACTS, **proposal.facts},
                )  # fmt: skip
        return [self._candidate(generation, sample, name) for sample, name in enumerate(names)]

    def _write_prompt(self, generation: int, prompt: Sequence[Any]) -> str:
        name = f"prompts/{self._key(generation)}.json"
        (self.folder.path / "prompts").mkdir(exist_ok=True)
        content = [{"role": message.role, "content": message.content} for message in prompt]
        run_folder.write_atomically(self.folder.path / name, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
        return name

    def _candidate(self, generation: int, sample: int, name: str) -> Candidate:
        proposal = self._ledger.get("proposal", name)
        assert proposal is not None
        error = proposal["error"]
        answer = None if error is not None else (self.folder.candidate(name) / ANSWER).read_text(encoding="utf-8")
        problems = [] if error is None else [f"no answer: {error}"]
        return Candidate(name, self.name, generation, sample, answer, problems=problems)

    def _check(self, candidates: Sequence[Candidate]) -> None:
        answered = [c for c in candidates if c.answer is not None]
        jobs = []
        for candidate in answered:
            facts = self._ledger.get("proposal", candidate.name) or {}
            author = str(facts.get("model") or facts.get("provider") or self.name)
            jobs.append(
                self.jobs.check(candidate.name, self.name, candidate.answer or "", author, facts.get("cost_usd"))
            )
        for candidate, result in zip(answered, self.jobs.run(jobs), strict=True):
            candidate.problems = list(result["problems"])
            candidate.source = result["source"] if result["ok"] else None
            self._ledger.add(
                "checked", candidate.name, ok=result["ok"], stage=result["stage"], problems=result["problems"],
                components=result["components"], seconds=result["seconds"],
            )  # fmt: skip
        usable = sum(c.source is not None for c in candidates)
        self._say(f"{self.name}: {usable} of {len(candidates)} candidates run")

    def _approved(self, generation: int, runnable: list[Candidate]) -> list[Candidate]:
        """Those that a person lets run, with approve=ask; asked once a generation."""
        if self._settings.approve != "ask" or self.name != "model" or not runnable:
            return runnable
        event = self._ledger.get("approval", self._key(generation))
        if event is None:
            parent = next(iter(ranked(self.candidates)), None)
            approved = self._approve(self._key(generation), runnable, parent)
            event = self._ledger.add(
                "approval", self._key(generation), approved=[c.name for c in runnable if c.name in approved],
                rejected=[c.name for c in runnable if c.name not in approved],
            )  # fmt: skip
        for candidate in runnable:
            if candidate.name in event["rejected"]:
                candidate.source, candidate.problems = None, ["a person did not approve of this code"]
        return [c for c in runnable if c.source is not None]

    def _train(self, generation: int, candidates: list[Candidate]) -> None:
        """Successive halving (Jamieson and Talwalkar 2016): each rung is one launch, the fitter part goes on."""
        targets = self._settings.targets
        alive = candidates
        for rung, target in enumerate(targets):
            if not alive:
                return
            jobs = [self.jobs.train(c.name, c.source or "", rung) for c in alive]
            for candidate, result in zip(alive, self.jobs.run(jobs), strict=True):
                self._note(candidate, rung, result)
            alive = [c for c in alive if c.failed is None]
            best = max((c.fitness for c in alive), default=float("nan"))
            self._say(
                f"{self._key(generation)}: {len(alive)} trained to {target:,} steps, best fitness {best:.3f}"
                if alive else f"{self._key(generation)}: no training came as far as {target:,} steps"
            )  # fmt: skip
            if rung < len(targets) - 1:
                alive = self._halve(alive, rung)
        for candidate in alive:
            candidate.complete = True

    def _note(self, candidate: Candidate, rung: int, result: dict[str, Any]) -> None:
        """What a stage of the training brought."""
        candidate.used_env_steps = max(candidate.used_env_steps, result["env_steps"])
        if result["ok"]:
            candidate.rungs.append(result)
        else:
            candidate.failed = result["problem"]
        select = result["select"]
        self._ledger.add(
            "trained", f"{candidate.name}/{rung}", candidate=candidate.name, rung=rung, ok=result["ok"],
            env_steps=result["env_steps"], seconds=result["seconds"], problem=result["problem"],
            fitness=select and select["fitness"], fall_rate=select and select["fall_rate"]["mean"],
        )  # fmt: skip

    def _halve(self, alive: list[Candidate], rung: int) -> list[Candidate]:
        order = sorted(alive, key=lambda c: (-c.fitness, c.sample))
        kept = order[: self._settings.kept(len(order))]
        for candidate in order[len(kept) :]:
            steps = candidate.rungs[-1]["env_steps"]
            candidate.stopped = (
                f"Its training was stopped after {steps:,} of {self._settings.env_steps:,} steps, because others of "
                "its round had a higher fitness by then."
            )
            self._ledger.add(
                "stopped", candidate.name, candidate=candidate.name, rung=rung, env_steps=steps,
                fitness_mean=candidate.fitness, bar=kept[-1].fitness,
            )  # fmt: skip
        return kept

    def _reflect(self, candidate: Candidate) -> None:
        if not candidate.rungs:
            return
        task = self._settings.definition
        candidate.gaming = gaming(candidate.course, candidate.fitness, task.fitness_threshold)
        candidate.reflection = reflect(task, candidate.course, candidate.rungs, candidate.stopped)
        path = self.folder.candidate(candidate.name) / REFLECTION
        if not path.is_file():
            run_folder.write_atomically(path, candidate.reflection + "\n")
        self._ledger.add(
            "reflected", candidate.name, candidate=candidate.name, fitness_mean=candidate.fitness,
            gaming=candidate.gaming,
        )  # fmt: skip

    def _rank(self, generation: int) -> None:
        order = ranked(self.candidates)
        self._ledger.add(
            "ranked", self._key(generation), arm=self.name, generation=generation,
            ranking=[[c.name, c.fitness] for c in order], best=order[0].name if order else None,
        )  # fmt: skip
        if order:
            self._say(f"{self._key(generation)}: best so far {order[0].name}, fitness {order[0].fitness:.3f} on select")
