"""`gantry search`: propose rewards, train with them, compare, reflect, again; then finals and the table.

The search is a function of its settings and of what stands on disk: each step looks for its result first. So a search
that was killed is resumed by running it again on the same folder; it repeats no finished training and no answered
question. agents/search_ledger.py describes the folder.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from agents import run_folder, search_folder, search_states, search_table
from agents.candidate import run_job
from agents.candidate_record import Candidate
from agents.llm import Asked, Provider, make_provider
from agents.mutation import MutationProposer
from agents.search_approval import Approve, ask_on_terminal
from agents.search_arm import Arm
from agents.search_finals import Finals
from agents.search_folder import TABLE, SearchFolder
from agents.search_jobs import Jobs, Launch
from agents.search_ledger import FORMAT, LEDGER
from agents.search_proposer import ModelProposer, Proposer
from agents.video import film
from configs import llm_schema, schema, search_schema
from configs.errors import UserError, leave
from envs import gl, physics

schema.register()
llm_schema.register()
search_schema.register()


def _say(line: str) -> None:
    print(line, flush=True)


def find_or_start(config: Mapping[str, Any], *, new_llm: bool = False) -> SearchFolder:
    """The search's folder, made anew or, with `resume`, found again. Raises UserError for bad settings."""
    return search_folder.resume(config, new_llm=new_llm) if config["resume"] else search_folder.start(config)


def search(
    folder: SearchFolder,
    launch: Launch,
    *,
    provider: Provider | None = None,
    approve: Approve = ask_on_terminal,
    say: Callable[[str], None] = _say,
) -> dict[str, Any]:
    """A whole search; returns the table, which also stands in table.json.

    Args:
        folder: as `find_or_start` returns it.
        launch: runs job files.
        provider: who answers, instead of the configured one.
        approve: asked about each generation's code, with approve=ask.
        say: told one line at a time what happens.

    Raises:
        UserError: no model can be asked, or a job was lost; the search can be resumed.
    """
    with folder.locked():
        return _search(folder, launch, _proposers(folder, provider), approve, say)


def _search(
    folder: SearchFolder,
    launch: Launch,
    proposers: Mapping[str, Proposer],
    approve: Approve,
    say: Callable[[str], None],
) -> dict[str, Any]:
    settings, ledger = folder.settings, folder.ledger
    _begin(folder)
    for feature in settings.missing:
        say(f"trust=unconfined: missing here: {feature}")
    states = search_states.record(folder.path / "states.pt", settings.definition)
    jobs = Jobs(folder, states, launch)
    arms: dict[str, list[Candidate]] = {}
    for name, proposer in proposers.items():
        arms[name] = Arm(name, folder, proposer, jobs, approve, say).run()
    winners = Finals(folder, jobs, say).run(arms)
    table = search_table.make(folder, arms, winners)
    ledger.add("table", "table", content=table)
    run_folder.write_atomically(folder.path / TABLE, json.dumps(table, indent=1) + "\n")
    return table


def _proposers(folder: SearchFolder, provider: Provider | None) -> dict[str, Proposer]:
    """Who proposes, by arm, the main one first. Raises LLMError where the model cannot be asked."""
    settings = folder.settings
    found: dict[str, Proposer] = {}
    if settings.proposer == "model":
        llm = llm_settings(settings.llm)
        asked = Asked(folder.path, provider or make_provider(llm, folder.path), llm.limits)
        found["model"] = ModelProposer(settings, asked.ask)
    if "mutation" in (settings.proposer, *settings.other_arms):
        found["mutation"] = MutationProposer(settings)
    return found


def llm_settings(content: Mapping[str, Any]) -> llm_schema.LLM:
    merged = OmegaConf.merge(OmegaConf.structured(llm_schema.LLM), OmegaConf.create(dict(content)))
    if OmegaConf.is_missing(merged, "kind"):
        merged.kind = "transcript"  # a provider of the caller's answers; only the limits count
    found = OmegaConf.to_object(merged)
    assert isinstance(found, llm_schema.LLM)
    return found


def _begin(folder: SearchFolder) -> None:
    """The ledger's first line."""
    s = folder.settings
    folder.ledger.add(
        "search", "search", format=FORMAT, id=folder.id, task=s.task, proposer=s.proposer,
        arms=[s.main_arm, *s.other_arms], generations=s.generations, samples=s.samples, env_steps=s.env_steps,
        rungs=s.targets, seed=s.seed, final_seeds=s.final_seed_list, physics_hash=physics.digest(s.definition),
        fitness_threshold=s.definition.fitness_threshold, trust=s.trust, missing=s.missing,
        safety_instruction=s.safety_instruction,
    )  # fmt: skip


def run_search(config: dict[str, Any], launch: Callable[[SearchFolder], Launch], *, new_llm: bool = False) -> Path:
    """For the sweeper: a search from its configuration to the table on the terminal. Returns its folder."""
    from rich.console import Console

    if config["video"]:
        gl.back_end()  # a machine that cannot draw should say so before the search, not after
    if not config["resume"] and config["proposer"] == "model":
        make_provider(llm_settings(config["llm"]), Path())  # a missing key should say so before a folder is made
    folder = find_or_start(config, new_llm=new_llm)
    _say(f"search folder: {folder.path}")
    try:
        table = search(folder, launch(folder))
    except (KeyboardInterrupt, UserError):
        if (folder.path / LEDGER).is_file():
            _say(f"continue with: gantry search resume={os.path.relpath(folder.path)}")
        else:
            shutil.rmtree(folder.path)  # it never began
        raise
    if folder.settings.video:
        _film(folder, table)
    _report("watch.search_report:write_search_report", folder.path)
    console = Console()
    console.print(search_table.show(table))
    for line in search_table.notes(table):
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"written to {folder.path / TABLE}", highlight=False, soft_wrap=True)
    return folder.path


def _film(folder: SearchFolder, table: Mapping[str, Any]) -> None:
    """Video and report of the winner's first retraining. The policy runs here; its reward does not."""
    main_arm = table["arms"].get(table["main"])
    if main_arm is None or main_arm["failed"]:
        return
    run = folder.candidate(f"{main_arm['candidate']}-seed{folder.settings.final_seed_list[0]}")
    if not (run / "video.mp4").is_file():
        film(run, fps=25)
    _report("watch.report:write_report", run)
    _say(f"video: {run / 'video.mp4'}")


def _report(writer: str, folder: Path) -> None:
    """Calls a function of watch, which is given by name because it stands above agents; not every copy has it."""
    module, _, function = writer.partition(":")
    if find_spec("watch") is None or find_spec(module) is None:
        return
    try:
        _say(f"report: {getattr(import_module(module), function)(folder)}")
    except UserError as problem:
        _say(f"no report: {problem}")  # the search itself is done


@hydra.main(version_base="1.3", config_path="pkg://configs", config_name="search")
def main(config: DictConfig) -> None:
    """Started by the sweeper for each job of a search; without a job, the settings ask for no search at all."""
    if config.job:
        run_job(Path(config.job))
        return
    if HydraConfig.initialized():
        leave(UserError("gantry search runs as a sweep; leave hydra.mode and hydra/sweeper as they are"))


if __name__ == "__main__":
    main()
