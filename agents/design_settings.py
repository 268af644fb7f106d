"""The settings of a design of ranges, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from agents import physics_prior, prior_terms, train
from agents.confinement import require_confinement
from agents.curriculum import Curriculum
from agents.design_arms import ARMS
from agents.search_settings import Settings
from configs import randomize_schema, schema
from configs.errors import UserError, unknown
from envs import rewards, tasks
from envs.randomization import TERMS
from envs.tasks.task import Task


def settings_of(config: Mapping[str, Any]) -> Settings:
    """Raises UserError for what makes no sense, and where code cannot be confined and trust does not accept that."""
    content = dict(config)
    task = tasks.get(content["task"])
    schema.require_known(content, randomize_schema.Randomize)
    train.check(content)
    _check(content)
    rewards.path_of(content["reward"], task)
    prior_terms.choose(task, content["prior_terms"])
    prior_settings(content).check()
    missing = require_confinement(content["trust"])
    ranges = train.resolve_ranges(content["randomization"], task)
    Curriculum(content["curriculum"], base_ranges(content, task))
    content["threads"] = train.count_threads(content["threads"])
    content["choose_env_steps"] = content["choose_env_steps"] or content["tune_env_steps"]
    names = [field.name for field in fields(schema.Train) if field.name != "resume"]
    single = {name: content[name] for name in names}
    single |= {"evaluate": False, "video": False, "reward": "reward.py", "runs": "."}
    return Settings(content, single, ranges, missing)


def base_ranges(config: Mapping[str, Any], task: Task) -> dict[str, tuple[float, float]]:
    """What the policy that all begin from is trained with. Raises UserError for what makes no sense."""
    choice = config["base_randomization"]
    if choice != "noise":
        return train.resolve_ranges(choice, task)
    ranges = train.resolve_ranges(config["randomization"], task)
    return {name: span for name, span in ranges.items() if TERMS[name].when == "step"}


def prior_settings(config: Mapping[str, Any]) -> physics_prior.Settings:
    """How the design's prior is measured."""
    return physics_prior.Settings(
        terms=tuple(config["prior_terms"]), values=config["prior_values"], episodes=config["prior_episodes"],
        seconds=config["prior_seconds"], threshold=config["success"], needed_share=config["prior_share"],
        threads=config["threads"],
    )  # fmt: skip


def _check(config: Mapping[str, Any]) -> None:
    if not config["arms"]:
        raise UserError("arms is empty; valid: some of " + ", ".join(ARMS))
    for arm in config["arms"]:
        if arm not in ARMS:
            raise unknown("arm", arm, ARMS)
    if len(set(config["arms"])) < len(config["arms"]):
        raise UserError(f"arms={list(config['arms'])} names one twice")
    least = {"samples": 1, "final_seeds": 1, "tune_env_steps": 1, "episodes": 1, "evaluation_seeds": 1,
             "report_episodes": 1, "report_seeds": 1, "prior_values": 3, "choose_env_steps": 0}  # fmt: skip
    for name, bound in least.items():
        if config[name] < bound:
            raise UserError(f"{name}={config[name]}; at least {bound} is needed")
    if not 0 <= config["widen"] <= 1:
        raise UserError(
            f"widen={config['widen']}; valid: 0 (ranges as wide as they are at once) to 1, a share of a training"
        )
    falls = config["widen_falls_per_minute"]
    if falls is not None and not falls > 0:
        raise UserError(f"widen_falls_per_minute={falls}; valid: a number above 0, or null to widen regardless")
    if falls is not None and not config["widen"]:
        raise UserError(f"widen_falls_per_minute={falls} says when ranges narrow again, but with widen=0 they never do")
    if config["wall_s"] <= 0 or config["memory_gb"] <= 0:
        raise UserError(f"wall_s={config['wall_s']} and memory_gb={config['memory_gb']} must be positive")
