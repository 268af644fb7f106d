"""Reward code that a language model wrote: find it in the answer, check it, load it, try it.

1. `extract` finds the Python in an answer (prose around, several code blocks).
2. `check` keeps what is on a list and refuses the rest: each kind of syntax needs a `visit_` method in
   reward_check_statements.py or reward_check_expressions.py, and each function of torch, tensor method and
   keyword its place in reward_lists.py. What comes out is new source,
   written from the checked syntax tree. Imports, annotations, decorators, docstrings, `print` and `assert`
   are dropped, `r += x` becomes `r = r + x` (on tensors it would change the state in place), `_name` becomes
   `u_name`.
3. `load` runs that source with a handful of builtins and a `torch` that has only the listed functions.
4. `dry_run` calls the reward on recorded states, at several batch sizes.

The lists make accidents and cheap tricks impossible and give a model useful feedback; they are not the
boundary. That is `agents.confinement`: all of this, parsing included, runs in the confined child
(`dry_run_job`).
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from agents.reward_check import CheckedReward, check
from agents.reward_dry_run import dry_run
from agents.reward_extract import extract
from agents.reward_lists import BUILTINS, COMPONENT_NAME, CONSTANTS, FUNCTIONS, METHODS, PROPERTIES
from agents.reward_load import Reward, load
from agents.reward_problem import Problem, RewardCodeError, as_data

__all__ = [
    "BUILTINS", "COMPONENT_NAME", "CONSTANTS", "FUNCTIONS", "METHODS", "PROPERTIES", "CheckedReward", "Problem",
    "Reward", "RewardCodeError", "check", "check_job", "dry_run", "dry_run_job", "extract", "load",
]  # fmt: skip


def check_job(argument: Mapping[str, Any]) -> dict[str, Any]:
    """For `run_confined`: check an answer without running it (a tenth of a second: no torch is imported).

    Args:
        argument: ``answer`` (a model's answer, or bare code) and ``allowed_fields``.

    Returns:
        ``ok``, ``stage`` ("check"), ``source`` (cleaned; None if refused) and ``problems`` (line, text,
        message).
    """
    try:
        checked = check(extract(argument["answer"]), argument["allowed_fields"])
    except RewardCodeError as error:
        return {"ok": False, "stage": "check", "source": None, "problems": as_data(error.problems)}
    return {"ok": True, "stage": "check", "source": checked.source, "problems": []}


def dry_run_job(argument: Mapping[str, Any]) -> dict[str, Any]:
    """For `run_confined`: check an answer and try it on recorded states.

    Args:
        argument: as for `check_job`, and ``states`` (file with a dict of tensors, made readable for the
            child);
            optional: ``constants``, ``batch_sizes``, ``max_call_s`` as in `dry_run`, ``state_factory``
            ("module:function" that builds the state from such a dict).

    Returns:
        As `check_job`, with ``stage`` "dry_run" once the check passed, and ``report`` (see `dry_run`).
    """
    answer = check_job(argument)
    if not answer["ok"]:
        return answer
    import torch

    recorded = torch.load(argument["states"], map_location="cpu", weights_only=True)
    make_state = None
    if factory := argument.get("state_factory"):
        module, _, function = factory.partition(":")
        make_state = getattr(importlib.import_module(module), function)
    options = {key: argument[key] for key in ("constants", "batch_sizes", "max_call_s") if key in argument}
    try:
        reward = load(check(answer["source"], argument["allowed_fields"]))
        report = dry_run(reward, recorded, make_state=make_state, **options)
    except RewardCodeError as error:
        return {**answer, "ok": False, "stage": "dry_run", "problems": as_data(error.problems)}
    return {**answer, "stage": "dry_run", "report": report}
