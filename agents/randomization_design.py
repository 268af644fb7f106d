"""`gantry randomize`: let a language model choose randomization ranges, train with each proposal, compare, choose.

After DrEureka (Ma, Liang et al. 2024): a policy trained without randomization says, by the physics that it survives
(agents/physics_prior.py), within which bounds a model may choose; every proposal continues the training of that policy
for the same number of steps; the best on the held-out `select` physics is trained again with new seeds. Other ways to
come by ranges (agents/design_arms.py) go the same way, with the same budget and the same seeds. What a model answers is
read as data (agents/range_answer.py).

On disk (DESIGN = runs/sweeps/TIME-NAME, where TIME-NAME is also the design's id):

    DESIGN/randomize.json     settings, written once        DESIGN/randomize.jsonl   ledger, append-only
    DESIGN/ranges/NAME.yaml   each proposal, with reasons   DESIGN/llm/, inbox/      what was asked and answered
    DESIGN/table.json         the table                     runs/TASK/ID-NAME/       each training, an ordinary run

A proposal is named ARM-sS, or just ARM where there is but one; its retrainings ARM-seedN. Events of the ledger, each
with `event`, `key` and `time`: `randomize` (settings), `reward` (checked), `base` SEED, `prior`, `proposal` NAME,
`tuned` NAME, `chosen` ARM, `final` ARM-seedN, `reported` ARM-seedN, `table`. A design that was killed is resumed by
running it again: it repeats no finished training and no answered question, and ends in the same table.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from agents import design_table, physics_prior, run_folder, search_states
from agents.checkpoint import load_policy
from agents.design_arms import FROM_PRIOR, OF_MODELS, cem_rounds
from agents.design_jobs import DesignJobs, run_job, width_of
from agents.design_proposals import Proposals
from agents.design_settings import prior_settings, settings_of
from agents.llm import Asked, Provider, make_provider
from agents.reward_search import llm_settings
from agents.search_jobs import Job, Launch
from agents.work_folder import FORMAT, Kind, WorkFolder, find_or_start
from configs import llm_schema, randomize_schema, schema
from configs.errors import UserError, leave
from envs import physics, rewards

schema.register()
llm_schema.register()
randomize_schema.register()

TABLE = "table.json"
KIND = Kind("randomize", settings_of, TABLE)


def _say(line: str) -> None:
    print(line, flush=True)


class Design:
    """One design. Every step looks for its result on disk first."""

    def __init__(
        self, folder: WorkFolder, launch: Launch, provider: Provider | None = None,
        say: Callable[[str], None] = _say,
    ) -> None:  # fmt: skip
        """launch: runs job files. provider: who answers, instead of the configured one."""
        self.folder, self._provider, self._say = folder, provider, say
        self._settings, self._ledger = folder.settings, folder.ledger
        self._task = folder.settings.definition
        self._launch = launch

    def run(self) -> dict[str, Any]:
        """The whole design; returns the table.

        Raises:
            UserError: no model can be asked, the policy fails on nominal physics, or a job was lost.
        """
        with self.folder.locked():
            self._begin()
            states = search_states.record(self.folder.path / "states.pt", self._task)
            self._jobs = DesignJobs(self.folder, states, self._launch)
            reward, source = self._reward()
            bases = self._bases(reward, source)
            prior = self._prior(bases[self._settings.seed])
            self._proposals = Proposals(self.folder, self._asked(), prior)
            chosen = {arm: self._best(arm, reward, source, bases) for arm in self._settings.arms}
            finals = self._finals({a: n for a, n in chosen.items() if n is not None}, reward, source, bases)
            table = design_table.make(self.folder, finals)
            self._ledger.add("table", "table", content=table)
            run_folder.write_atomically(self.folder.path / TABLE, json.dumps(table, indent=1) + "\n")
        return table

    def _begin(self) -> None:
        s = self._settings
        self._ledger.add(
            "randomize", "randomize", format=FORMAT, id=self.folder.id, task=s.task, arms=list(s.arms),
            samples=s.samples, env_steps=s.env_steps, tune_env_steps=s.tune_env_steps,
            choose_env_steps=s.choose_env_steps, seed=s.seed,
            final_seeds=s.final_seed_list, own_bases=s.own_bases, physics_hash=physics.digest(self._task),
            fitness_threshold=self._task.fitness_threshold, safety_instruction=s.safety_instruction,
            trust=s.trust, missing=s.missing,
        )  # fmt: skip

    def _reward(self) -> tuple[str, str]:
        """(text of the reward's file, its checked source)."""
        given = self._settings.run
        path = Path(given) / "reward.py" if given else rewards.path_of(self._settings.reward, self._task)
        kept = self.folder.path / "reward.py"
        if not kept.is_file():
            run_folder.write_atomically(kept, path.read_text(encoding="utf-8"))
        text = kept.read_text(encoding="utf-8")
        [result] = self._jobs.run([self._jobs.check_reward(text)])
        if not result["ok"]:
            raise UserError(f"the reward {path} cannot be used: {'; '.join(result['problems'])}")
        self._ledger.add("reward", "reward", path=str(path), components=list(result["components"]))
        return text, result["source"]

    def _bases(self, reward: str, source: str) -> dict[int, Path]:
        """Policies without randomization: run folder by seed, the design's own seed first."""
        s = self._settings
        seeds = [s.seed, *(s.final_seed_list if s.own_bases else ())]
        if s.run:
            run_folder.require(Path(s.run), "checkpoint.pt")
            bases = {s.seed: Path(s.run).absolute()}
            seeds = seeds[1:]
        else:
            bases = {}
        names = {seed: f"base-seed{seed}" for seed in seeds}
        self._say(f"base: {len(seeds)} trainings, randomization {s.base_randomization}")
        jobs = [self._jobs.base(name, source, reward, seed) for seed, name in names.items()]
        for (seed, name), result in zip(names.items(), self._jobs.run(jobs), strict=True):
            self._good(name, result)
            bases[seed] = self.folder.candidate(name)
        for seed, run in bases.items():
            self._ledger.add("base", str(seed), run=run.name, seed=seed)
        if not s.own_bases:
            bases |= dict.fromkeys(s.final_seed_list, bases[s.seed])
        return bases

    def _good(self, name: str, result: dict[str, Any]) -> None:
        if not result["ok"]:
            raise UserError(f"training {name} failed: {result['problem']}")

    def _prior(self, base: Path) -> dict[str, Any] | None:
        """The physics that the base policy survives, where an arm needs it."""
        if not set(FROM_PRIOR) & set(self._settings.arms):
            return None
        path = self.folder.path
        if not (path / physics_prior.FILE).is_file() and (base / physics_prior.FILE).is_file():
            known = physics_prior.read(base)
            if physics_prior.answers(known, prior_settings(self._settings.config), load_policy(base)):
                physics_prior.write(path, known)
        if not (path / physics_prior.FILE).is_file():
            self._say("prior: which physics the policy survives")
        self._jobs.run([self._jobs.prior(base)])
        content = physics_prior.read(path)
        ranges = physics_prior.surviving_ranges(content)
        self._ledger.add(
            "prior", "prior", run=base.name, digest=content["digest"], parameters=len(ranges),
            scan_seconds=content["scan_seconds"], bisection_seconds=content["bisection_seconds"],
        )  # fmt: skip
        return content

    def _asked(self) -> Callable[..., Any] | None:
        if not set(OF_MODELS) & set(self._settings.arms):
            return None
        settings = llm_settings(self._settings.llm)
        provider = self._provider or make_provider(settings, self.folder.path)
        return Asked(self.folder.path, provider, settings.limits).ask

    def _best(self, arm: str, reward: str, source: str, bases: dict[int, Path]) -> str | None:
        """The arm's proposal with the highest fitness on select, after training with each of several."""
        fitness: dict[str, float] = {}
        if arm == "cem":
            latest: list[float] = []
            for index in range(len(cem_rounds(self._settings.samples))):
                of_round = self._tune(arm, self._proposals.of_cem(index, latest), reward, source, bases)
                latest = list(of_round.values())
                fitness |= of_round
        else:
            usable = [name for name in self._proposals.of(arm) if self._proposals.usable(name)]
            if len(usable) == 1:  # nothing to choose from: the finals train it
                self._ledger.add("chosen", arm, proposal=usable[0], select={})
                return usable[0]
            fitness = self._tune(arm, usable, reward, source, bases)
        if not fitness:
            self._say(f"{arm}: no proposal could be used")
            return None
        best = max(fitness, key=lambda name: fitness[name])  # the first among equals
        self._ledger.add("chosen", arm, proposal=best, select=fitness)
        self._say(f"{arm}: {best}, fitness {fitness[best]:.3f} on select")
        return best

    def _tune(
        self, arm: str, names: Sequence[str], reward: str, source: str, bases: dict[int, Path]
    ) -> dict[str, float]:
        """Fitness on select by proposal; failed trainings have -1."""
        seed = self._settings.seed
        steps = self._settings.choose_env_steps
        jobs = [self._tuning(name, arm, name, reward, source, bases[seed], seed, steps) for name in names]
        fitness = {}
        for name, result in zip(names, self._jobs.run(jobs), strict=True):
            select = result["select"]
            fitness[name] = select["fitness"]["mean"] if result["ok"] else -1.0
            self._ledger.add(
                "tuned", name, arm=arm, ok=result["ok"], env_steps=result["env_steps"], seconds=result["seconds"],
                fitness=select and select["fitness"], fall_rate=select and select["fall_rate"]["mean"],
                folder=self.folder.relative(self.folder.candidate(name)), problem=result["problem"],
                width=width_of(result),
            )  # fmt: skip
        return fitness

    def _tuning(
        self, run: str, arm: str, proposal: str, reward: str, source: str, base: Path, seed: int, env_steps: int
    ) -> Job:
        ranges, text = self._proposals.ranges(proposal), self._proposals.text(proposal)
        return self._jobs.tune(run, arm, source, reward, ranges, text, base, seed, env_steps)

    def _finals(
        self, chosen: dict[str, str], reward: str, source: str, bases: dict[int, Path]
    ) -> dict[str, list[dict[str, Any]]]:
        """Each arm's choice with every final seed: rows of select and report figures, by arm."""
        seeds = self._settings.final_seed_list
        runs = [(arm, name, seed, f"{arm}-seed{seed}") for arm, name in chosen.items() for seed in seeds]
        self._say(f"finals: {len(chosen)} arms with {len(seeds)} new seeds each")
        steps = self._settings.tune_env_steps
        jobs = [self._tuning(run, arm, name, reward, source, bases[seed], seed, steps) for arm, name, seed, run in runs]
        rows: dict[str, list[dict[str, Any]]] = {arm: [] for arm in chosen}
        for (arm, name, seed, run), result in zip(runs, self._jobs.run(jobs), strict=True):
            select = result["select"]
            row = self._ledger.add(
                "final", run, arm=arm, proposal=name, seed=seed, ok=result["ok"], problem=result["problem"],
                folder=self.folder.relative(self.folder.candidate(run)), env_steps=result["env_steps"],
                select=select["fitness"]["mean"] if result["ok"] else 0.0, width=width_of(result),
            )  # fmt: skip
            rows[arm].append(dict(row))
        good = [row for of_arm in rows.values() for row in of_arm if row["ok"]]
        results = self._jobs.run([self._jobs.figures(row["key"]) for row in good])
        for row, result in zip(good, results, strict=True):
            report = result["report"]
            row["report"] = report
            self._ledger.add(
                "reported", row["key"], arm=row["arm"], seed=row["seed"], fitness=report["fitness"],
                fall_rate=report["fall_rate"]["mean"],
                measures={name: value["mean"] for name, value in report["measures"].items()},
            )  # fmt: skip
        return rows


def run_design(config: dict[str, Any], launch: Callable[[WorkFolder], Launch], *, new_llm: bool = False) -> Path:
    """For the sweeper: a design from its configuration to the table on the terminal. Returns its folder."""
    from rich.console import Console

    folder = find_or_start(KIND, config, new_llm=new_llm)
    _say(f"design folder: {folder.path}")
    try:
        table = Design(folder, launch(folder)).run()
    except (KeyboardInterrupt, UserError):
        _say(f"continue with: gantry randomize resume={os.path.relpath(folder.path)}")
        raise
    console = Console()
    console.print(design_table.show(table))
    console.print(f"written to {folder.path / TABLE}", highlight=False, soft_wrap=True)
    return folder.path


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="randomize")
def main(config: DictConfig) -> None:
    """Started by the sweeper for each job of a design; without a job, the settings ask for no design at all."""
    if config.job:
        run_job(Path(config.job))
        return
    if HydraConfig.initialized():
        leave(UserError("gantry randomize runs as a sweep; leave hydra.mode and hydra/sweeper as they are"))


if __name__ == "__main__":
    main()
