"""The settings of a transfer, checked, and those of its stages, made from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents import design_settings, search_settings, train
from agents.search_settings import Settings
from configs import randomize_schema, schema, search_schema
from configs.errors import UserError, unknown
from configs.transfer_schema import SHARED, Transfer
from envs import physics, rewards, tasks

SEARCH, RANGES = "search", "ranges"
"""The stages with settings of their own; also the names of their folders and of a transcript's parts."""


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Raises UserError for what makes no sense in any stage, before the first begins."""
    content = dict(config)
    task = tasks.get(content["task"])
    schema.require_known(content, Transfer)
    if content["tour_physics"] not in physics.SETS:
        raise unknown("physics set", content["tour_physics"], physics.SETS)
    if content["tours"] < 0:
        raise UserError(f"tours={content['tours']}; valid: 0 (none) or more")
    content["threads"] = train.count_threads(content["threads"])
    if content["reward"] == "search":
        search_settings.settings_of(search_config(content, Path(content["runs"]), ""))
    else:
        rewards.path_of(content["reward"], task)
    human = "human" if content["reward"] == "search" else content["reward"]
    ranges = design_settings.settings_of(ranges_config(content, Path(content["runs"]), "", human))
    return Settings(content, ranges.train, {}, ranges.missing)


def search_config(config: Mapping[str, Any], runs: Path, name: str) -> dict[str, Any]:
    """Of the search for the reward, without randomization: no range is known yet."""
    shared = _shared(config, runs, name) | {"reward": "human", "randomization": "none"}
    return _merged(search_schema.Search, shared, config[SEARCH], SEARCH) | {"llm": _llm(config, SEARCH)}


def ranges_config(config: Mapping[str, Any], runs: Path, name: str, reward: str) -> dict[str, Any]:
    """Of the design of ranges. reward: the file of the reward that the search found."""
    shared = _shared(config, runs, name) | {"reward": reward, "randomization": "task"}
    return _merged(randomize_schema.Randomize, shared, config[RANGES], RANGES) | {"llm": _llm(config, RANGES)}


def _shared(config: Mapping[str, Any], runs: Path, name: str) -> dict[str, Any]:
    names = [field.name for field in fields(schema.Train)]
    return {key: config[key] for key in (*names, *SHARED)} | {
        "name": name, "runs": str(runs), "resume": False, "evaluate": False, "video": False,
    }  # fmt: skip


def _merged(kind: type, shared: Mapping[str, Any], given: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The defaults of a stage's schema, what it shares with the others, and what was given for it."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(kind), dict(shared), dict(given))
        content = OmegaConf.to_container(merged, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"{what}: {' '.join(str(error).split())}") from error
    assert isinstance(content, dict)
    return content  # type: ignore[return-value]


def _llm(config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """A transcript of a transfer has one folder for each conversation, `search` and `ranges`."""
    llm = dict(config["llm"])
    if llm.get("kind") == "transcript" and (Path(str(llm["transcript"])) / part).is_dir():
        llm["transcript"] = str(Path(str(llm["transcript"])) / part)
    return llm
