"""One job of a search, as the launcher runs it: check a candidate, train it a stage further, or report on it.

The job runs in a process of the launcher's and is trusted. It starts a confined child for whatever touches the
candidate's code, takes back data, and measures fitness itself. Each job leaves one result file in the candidate's
run folder, written last and at once; a job whose result is there does nothing.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from agents import checkpoint, run_folder
from agents.candidate_data import is_source, number, plain, problem_line, steps_so_far, take_back, useful_lines
from agents.candidate_evaluation import measure
from agents.confinement import DRY_RUN_LIMITS, Limits, run_confined
from configs.errors import UserError
from envs import physics, tasks
from envs.state import field_docs

ANSWER, CHECK, REPORT = "answer.md", "check.json", "report.json"
_REWARD_HEADER = '"""Written by {author} in the search {search}, candidate {candidate}; checked, not reviewed."""\n\n'


def rung_file(rung: int) -> str:
    return f"rung{rung}.json"


def run_job(path: Path) -> None:
    """Runs the job that a file describes. Raises UserError for what is wrong with the search, never the candidate."""
    job = run_folder.read_json(path)
    kinds = {"check": _check, "train": _train, "report": _report}
    if job.get("kind") not in kinds:
        raise UserError(f"{path} describes no job of a search")
    folder = Path(job["folder"])
    result = folder / job["result"]
    folder.mkdir(parents=True, exist_ok=True)
    # A killed search may have left a worker behind that still runs this very job: wait for its result.
    with run_folder_lock(folder):
        if not result.is_file():
            content = kinds[job["kind"]](job, folder)
            run_folder.write_atomically(result, json.dumps(content, indent=1, allow_nan=False) + "\n")


@contextmanager
def run_folder_lock(folder: Path) -> Iterator[None]:
    """Only one process at a time works in a folder; the kernel lets go of the lock when a process dies."""
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _check(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Checks an answer and dry-runs its code, both in the confined child."""
    _begin(job, folder)
    answer = (folder / ANSWER).read_text(encoding="utf-8")
    argument = {
        "answer": answer, "allowed_fields": list(field_docs()), "states": job["states"],
        "constants": ["joint_home", "joint_lower", "joint_upper"],
    }  # fmt: skip
    outcome = run_confined(
        "agents.reward_code:dry_run_job", argument, folder, DRY_RUN_LIMITS, readable=[job["states"]], trust=job["trust"]
    )
    result = outcome.result if outcome.ok and isinstance(outcome.result, dict) else None
    content: dict[str, Any]
    if result is None:
        content = {"ok": False, "stage": "dry_run", "source": None, "problems": [outcome.reason], "components": {}}
    else:
        report = result.get("report") or {}
        problems = [problem_line(p) for p in result.get("problems", [])]
        if result.get("ok") and not report.get("rows_independent", True):
            problems.append("note: a simulation's reward depends on the other simulations in the batch")
        content = {
            "ok": bool(result.get("ok")), "stage": str(result.get("stage")), "source": result.get("source"),
            "problems": problems, "components": plain(report.get("components") or {}),
        }  # fmt: skip
        if content["ok"] and not is_source(content["source"]):
            content |= {"ok": False, "source": None, "problems": ["the code contains characters that are not allowed"]}
    if content["ok"]:
        header = _REWARD_HEADER.format(
            author=job["author"].replace('"', "'").replace("\\", "/"), search=job["search"], candidate=job["candidate"]
        )
        source = f"{header}import math\n\nimport torch\n\n\n{content['source']}"
        run_folder.write_atomically(folder / "reward.py", source)
        _update(folder, {"state": "stopped", "error": "checked, not trained yet"})
    else:
        _update(folder, {"state": "failed", "error": "\n".join(content["problems"])[:2000]})
    return {**content, "seconds": round(outcome.wall_s, 3)}


def _train(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Trains up to the job's target in the confined child, then measures the policy on the select physics."""
    _begin(job, folder)
    _update(folder, {"state": "running", "error": None})
    argument = {"source": job["source"], "config": job["config"], "ranges": job["ranges"], "target": job["target"],
                "initial": job.get("initial")}  # fmt: skip
    limits = Limits(wall_s=job["wall_s"], resident_bytes=int(job["memory_gb"] * 1e9))
    outcome = run_confined(
        "agents.candidate_training:train_job", argument, folder, limits,
        readable=[job["initial"]] if job.get("initial") else [], threads=job["config"]["threads"], trust=job["trust"],
    )  # fmt: skip
    content: dict[str, Any] = {
        "ok": False, "problem": None, "env_steps": 0, "seconds": round(outcome.wall_s, 3), "course": [],
        "select": None, "failure": None,
    }  # fmt: skip
    if not outcome.ok or not isinstance(outcome.result, dict):
        content["problem"] = useful_lines(outcome)
        content["env_steps"] = steps_so_far(folder)
    else:
        content["env_steps"] = int(number(outcome.result.get("env_steps")) or 0)
        content["seconds"] = number(outcome.result.get("seconds")) or 0.0
        course = outcome.result.get("course")
        content["course"] = plain(course) if isinstance(course, list) else []
        try:
            take_back(folder)
            loaded = checkpoint.load_policy(folder)
            evaluation = job["evaluation"]
            content["select"], content["failure"] = measure(
                loaded, "select", episodes=evaluation["episodes"], seeds=evaluation["seeds"],
                threads=job["config"]["threads"],
            )  # fmt: skip
            _write_evaluation(folder, "select", content["select"], job)
            content["ok"] = True
        except UserError as problem:
            content["problem"] = str(problem)
    done = content["ok"] and job["target"] >= job["config"]["env_steps"]
    _update(folder, {
        "state": "finished" if done else "stopped" if content["ok"] else "failed",
        "error": content["problem"] if not content["ok"] else None if done else "short training of a search",
        "env_steps": content["env_steps"], "seconds": content["seconds"],
        "env_steps_per_s": round(content["env_steps"] / max(content["seconds"], 1e-9), 1),
        "peak_memory_gb": round(outcome.peak_resident_bytes / 1e9, 3),
    })  # fmt: skip
    return content


def _report(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Measures a winner's policy on the report physics, which nothing else of a search reads."""
    loaded = checkpoint.load_policy(folder)
    evaluation = job["evaluation"]
    report, failure = measure(
        loaded, "report", episodes=evaluation["episodes"], seeds=evaluation["seeds"], threads=job["threads"]
    )
    return {"report": report, "failure": failure}


def _begin(job: Mapping[str, Any], folder: Path) -> None:
    """What every run folder holds; written once."""
    if "answer" in job and not (folder / ANSWER).is_file():
        run_folder.write_atomically(folder / ANSWER, job["answer"])
    run_folder.write_atomically(folder / "config.yaml", yaml.safe_dump(job["config"], sort_keys=False))
    ranges = yaml.safe_dump(job["ranges"], sort_keys=False, default_flow_style=None)
    run_folder.write_atomically(folder / "randomization.yaml", job.get("randomization") or ranges)
    if "reward" in job:
        run_folder.write_atomically(folder / "reward.py", job["reward"])
    if (folder / "run.json").is_file():
        record = run_folder.RunRecord.load(folder)
    else:
        config = job["config"]
        record = run_folder.RunRecord.begin(folder, job["run_kind"], config["task"], config["name"], config["threads"])
    record.update({key: job[key] for key in ("search", "candidate", "arm", "model_cost_usd") if key in job})


def _update(folder: Path, values: Mapping[str, Any]) -> None:
    run_folder.RunRecord.load(folder).update(values)


def _write_evaluation(folder: Path, name: str, figures: Mapping[str, Any], job: Mapping[str, Any]) -> None:
    task = tasks.get(job["config"]["task"])
    content = {
        "task": task.name, "physics_hash": physics.digest(task), "episodes": job["evaluation"]["episodes"],
        "seeds": list(job["evaluation"]["seeds"]), "fitness_threshold": task.fitness_threshold,
        "sets": {name: figures},
    }  # fmt: skip
    run_folder.write_atomically(folder / "evaluation.json", json.dumps(content, indent=1) + "\n")
