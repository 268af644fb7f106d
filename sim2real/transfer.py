"""`gantry transfer`: from a task's description to a deployable bundle, without a person in the loop.

1. **search** the reward, with the safety instruction and without randomization (`gantry search`);
2. **ranges** (`gantry randomize`): train without randomization, measure which physics the policy survives (`gantry
   prior`), ask the model for ranges inside of that, train with each proposal, choose on the held-out `select` physics,
   train the choice again with several seeds;
3. **export** the best of these on `select` (`gantry export`);
4. **tour** the simulated robot with the bundle (`gantry robot`, `gantry deploy`);
5. **report**.

On disk (TRANSFER = runs/sweeps/TIME-NAME):

    TRANSFER/transfer.json    settings, written once    TRANSFER/transfer.jsonl   ledger: a `stage` event a stage
    TRANSFER/reward.py        what the search found     TRANSFER/bundle/          the bundle
    TRANSFER/tours/N/         log and record of a tour  TRANSFER/tours.json       their rows
    TRANSFER/result.json      all of it in short        TRANSFER/report.html      the page
    runs/sweeps/TIME-ID-search/, runs/sweeps/TIME-ID-ranges/   the folders of the stages (ID is this transfer's)

Each stage looks for its result first, so a transfer that was killed is resumed by running it again; it repeats no
finished training and no answered question, and ends in the same bundle.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from agents import randomization_design, reward_search, run_folder, search_folder, work_folder
from agents.checkpoint import load_policy
from agents.design_jobs import run_job
from agents.llm import Provider
from agents.randomization_design import Design
from agents.search_folder import SWEEPS, SearchFolder
from agents.search_jobs import Launch
from agents.video import film
from agents.work_folder import FORMAT, Kind, WorkFolder, find_or_start
from configs import llm_schema, schema, transfer_schema
from configs.errors import UserError, leave
from envs import gl, physics, rewards
from sim2real import transfer_tour
from sim2real.bundle import Bundle
from sim2real.export import export
from sim2real.transfer_settings import RANGES, SEARCH, ranges_config, search_config, settings_of

schema.register()
llm_schema.register()
transfer_schema.register()

RESULT = "result.json"
KIND = Kind("transfer", settings_of, RESULT)
STAGES = (SEARCH, RANGES, "export", "tour", "report")
MakeLaunch = Callable[[SearchFolder], Launch]


def _say(line: str) -> None:
    print(line, flush=True)


class Transfer:
    """One transfer. Every stage looks for its result on disk first."""

    def __init__(
        self, folder: WorkFolder, launch: MakeLaunch, provider: Provider | None = None,
        say: Callable[[str], None] = _say,
    ) -> None:  # fmt: skip
        """launch: makes what runs the job files of a stage's folder. provider: who answers, instead of `llm`."""
        self.folder, self._launch, self._provider, self._say = folder, launch, provider, say
        self._settings, self._ledger = folder.settings, folder.ledger
        self._config = folder.settings.config

    def run(self) -> dict[str, Any]:
        """The whole way; returns the content of result.json.

        Raises:
            UserError: no model can be asked, the policy fails on nominal physics, or a stage cannot be done.
        """
        with self.folder.locked():
            s = self._settings
            self._ledger.add(
                "transfer", "transfer", format=FORMAT, id=self.folder.id, task=s.task, seed=s.seed,
                stages=list(STAGES), physics_hash=physics.digest(s.definition), trust=s.trust, missing=s.missing,
                safety_instruction=s.safety_instruction,
            )  # fmt: skip
            reward = self._stage(SEARCH, self._search)
            ranges = self._stage(RANGES, lambda: self._ranges(self.folder.path / "reward.py"))
            exported = self._stage("export", lambda: self._export(self.folder.runs / ranges["run"]))
            toured = self._stage("tour", self._tour)
            result = {
                "task": s.task, "id": self.folder.id, "reward": reward, "ranges": ranges, "bundle": exported,
                "tour": toured, "versions": run_folder.versions(), "git_commit": run_folder.git_commit(),
            }  # fmt: skip
            run_folder.write_atomically(self.folder.path / RESULT, json.dumps(result, indent=1) + "\n")
            self._stage("report", self._report)
        return result

    def _stage(self, name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What the ledger says about the stage, once it is done; it is done once."""
        done = self._ledger.get("stage", name)
        if done is None:
            self._say(f"== {name}")
            done = self._ledger.add("stage", name, content=work())
        return dict(done["content"])

    def _sub_folder(self, part: str, file: str) -> Path | None:
        """The folder of a stage that was begun before."""
        found = sorted((self.folder.runs / SWEEPS).glob(f"*-{self.folder.id}-{part}/{file}"))
        return found[0].parent if found else None

    def _search(self) -> dict[str, Any]:
        """The reward, as TRANSFER/reward.py."""
        kept = self.folder.path / "reward.py"
        given = self._settings.reward
        if given != "search":
            path = rewards.path_of(given, self._settings.definition)
            run_folder.write_atomically(kept, path.read_text(encoding="utf-8"))
            return {"folder": None, "candidate": given, "fitness": None, "replayed": False}
        config = search_config(self._config, self.folder.runs, f"{self.folder.id}-{SEARCH}")
        known = self._sub_folder(SEARCH, search_folder.SEARCH)
        folder = reward_search.find_or_start(config | {"resume": str(known) if known else False}, new_llm=True)
        table = reward_search.search(folder, self._launch(folder), provider=self._provider, say=self._say)
        winner = table["arms"].get(table["main"])
        if winner is None:
            raise UserError(f"the search {folder.path} found no reward that could be trained; look at its ledger")
        text = (folder.candidate(winner["candidate"]) / "reward.py").read_text(encoding="utf-8")
        run_folder.write_atomically(kept, text)
        return {
            "folder": folder.path.name, "candidate": winner["candidate"], "fitness": winner["mean"],
            "replayed": table["replayed"],
        }  # fmt: skip

    def _ranges(self, reward: Path) -> dict[str, Any]:
        config = ranges_config(self._config, self.folder.runs, f"{self.folder.id}-{RANGES}", str(reward))
        kind = randomization_design.KIND
        known = self._sub_folder(RANGES, kind.file)
        folder = work_folder.find_or_start(kind, config | {"resume": str(known) if known else False}, new_llm=True)
        table = Design(folder, self._launch(folder), self._provider, self._say).run()
        if table["best_run"] is None:
            raise UserError(f"the design {folder.path} found no ranges that could be trained; look at its ledger")
        main = table["arms"][table["main"]]
        return {
            "folder": folder.path.name, "run": table["best_run"], "proposal": main["proposal"],
            "ranges": main["ranges"], "fitness": main["fitness"], "mean": main["mean"], "low": main["low"],
            "high": main["high"], "fall_rate": main["fall_rate"], "replayed": table["replayed"],
        }  # fmt: skip

    def _export(self, run: Path) -> dict[str, Any]:
        """RUN/bundle and, whole or not at all, a copy as TRANSFER/bundle."""
        export(load_policy(run))
        target, partial = self.folder.path / "bundle", self.folder.path / f".bundle.{os.getpid()}.partial"
        for leftover in self.folder.path.glob(".bundle.*.partial"):
            shutil.rmtree(leftover)
        shutil.copytree(run / "bundle", partial)
        if target.exists():
            shutil.rmtree(target)
        os.rename(partial, target)
        contract = Bundle.load(target).contract
        return {"run": self.folder.relative(run), "sha256": contract.sha256}

    def _tour(self) -> dict[str, Any]:
        """Each tour's row is on disk before the next begins."""
        path = self.folder.path / "tours.json"
        rows = run_folder.read_json(path)["tours"] if path.is_file() else []
        for number in range(len(rows), self._settings.tours):
            seed, keep = self._settings.tour_seed + number, self.folder.path / "tours" / str(number)
            shutil.rmtree(keep, ignore_errors=True)  # of a tour that was killed
            row = transfer_tour.tour(
                self.folder.path / "bundle", self._settings.tour_physics, seed, keep,
                video=number == 0 and self._settings.video,
            )  # fmt: skip
            rows.append(row)
            run_folder.write_atomically(path, json.dumps({"tours": rows}, indent=1) + "\n")
            self._say(f"tour {number}: {'done' if row['ok'] else row['damped_for'] or row['undone']}")
        return {"tours": len(rows), "ok": sum(bool(row["ok"]) for row in rows)}

    def _report(self) -> dict[str, Any]:
        """The film of the final policy, and the pages."""
        stage = self._ledger.get("stage", RANGES)
        assert stage is not None
        run = self.folder.runs / stage["content"]["run"]
        if self._settings.video and not (run / "video.mp4").is_file():
            film(run, fps=25)
        if find_spec("watch.transfer_report") is None:  # a robot's installation may lack it
            return {"page": None}
        import_module("watch.report").write_report(run)
        # By name: watch stands above sim2real.
        return {"page": import_module("watch.transfer_report").write_transfer_report(self.folder.path).name}


def run_transfer(config: dict[str, Any], launch: MakeLaunch, *, new_llm: bool = False) -> Path:
    """For the sweeper: a transfer from its configuration to the page. Returns its folder."""
    if config["video"] and not config["resume"]:
        gl.back_end()  # a machine that cannot draw should say so before the trainings, not after
    folder = find_or_start(KIND, config, new_llm=new_llm)
    _say(f"transfer folder: {folder.path}")
    try:
        result = Transfer(folder, launch).run()
    except (KeyboardInterrupt, UserError):
        _say(f"continue with: gantry transfer resume={os.path.relpath(folder.path)}")
        raise
    ranges, tour = result["ranges"], result["tour"]
    _say(f"fitness on report physics {ranges['mean']:.3f}; {tour['ok']} of {tour['tours']} tours done")
    _say(f"bundle: {folder.path / 'bundle'}\nreport: {folder.path / 'report.html'}")
    return folder.path


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="transfer")
def main(config: DictConfig) -> None:
    """Started by the sweeper for each job of a transfer; without a job, the settings ask for no transfer at all."""
    if config.job:
        run_job(Path(config.job))
        return
    if HydraConfig.initialized():
        leave(UserError("gantry transfer runs as a sweep; leave hydra.mode and hydra/sweeper as they are"))


if __name__ == "__main__":
    main()
