"""The contract of an exported policy: from robot description, task and run folder."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any

import numpy as np

from agents.run_folder import git_commit, versions
from envs.environment import Environment
from envs.observations import READING_UNITS
from envs.robots.spec import RobotSpec
from sim2real.contract import SCHEMA
from sim2real.deployed_policy import OPSET, DeployedPolicy, LoadedPolicy
from sim2real.limits import SafetyLimits

UNLIMITED = 1e6
"""[rad] stands for "no position limit" where a finite number is needed."""
UNDRIVEN_SPEED = 100.0
"""[rad/s] no joint without a motor moves this fast."""
RATE_MARGIN = 1.5
"""Targets may move this much faster than in the compared episodes before the supervisor slows them."""

# Unitree's quadrupeds lie with folded legs; standing up from there goes through this pose [rad].
_FOLDED = {"hip_joint": 0.0, "thigh_joint": 1.36, "calf_joint": -2.65}
_TRAINED = ("kind", "name", "created", "command", "versions", "git_commit", "machine", "threads")
"""What of run.json goes along."""
_FOLD_S, _RISE_S = 1.5, 2.0
_STAND_KP, _STAND_KD = 1.7, 2.5
"""Stand-up gains as multiples of the policy's: rising from the ground takes more than walking."""


def contract_content(
    loaded: LoadedPolicy,
    env: Environment,
    module: DeployedPolicy,
    sizes: dict[str, int],
    target_rate: np.ndarray,
) -> dict[str, Any]:
    """The contract, except for `golden`, `provenance` and the checksums."""
    robot, task = loaded.robot, loaded.task
    lower, upper = env.joint_lower.double().numpy(), env.joint_upper.double().numpy()
    stand_kp, stand_kd = robot.kp, robot.kd
    if robot.feet:
        stand_kp, stand_kd = robot.kp * _STAND_KP, robot.kd * _STAND_KD
    safety = safety_limits(robot, lower, upper, stand_kp, stand_kd, target_rate)
    model, ids = env.sim.model, env.sim.joint_ids
    hard = np.where(model.jnt_limited[ids].astype(bool)[:, None], model.jnt_range[ids], np.nan)
    units = dict(READING_UNITS)
    commands: list[dict[str, Any]] = []
    if task.command is not None:
        units["command"] = ", ".join(task.command.units)
        names = ("forward", "left", "turn left") if len(task.command.low) == 3 else ()
        for i, (low, high, unit) in enumerate(
            zip(task.command.low, task.command.high, task.command.units, strict=True)
        ):
            name = names[i] if names else f"command {i}"
            commands.append({"name": name, "unit": unit, "low": low, "high": high})
    return {
        "schema": SCHEMA,
        "robot": robot.name,
        "task": task.name,
        "joint_names": list(robot.joint_names),
        "driven_joints": list(robot.driven_joints),
        "readings": [{"name": name, "size": sizes[name], "unit": units[name]} for name in module.reading_names],
        "memory": module.memory,
        "output": {"name": "joint_target", "size": robot.num_actions, "unit": "rad"},
        "control_dt_s": robot.control_dt_s,
        "kp": robot.kp.tolist(),
        "kd": robot.kd.tolist(),
        "home_joint_position": robot.home_joint_position.tolist(),
        "joint_limits": {
            "position_hard": [_range(*row) for row in hard],
            "position_soft": [_range(*row) for row in zip(lower, upper, strict=True)],
            "velocity": list(safety.velocity_rad_s),
            "torque": list(safety.torque_nm),
        },
        "stand_up": {
            "keyframes": _stand_up(robot, lower, upper),
            "kp": stand_kp.tolist(),
            "kd": stand_kd.tolist(),
        },
        "commands": commands,
        "safety": safety.to_dict(),
    }


def safety_limits(
    robot: RobotSpec,
    lower: np.ndarray,
    upper: np.ndarray,
    stand_kp: np.ndarray,
    stand_kd: np.ndarray,
    target_rate: np.ndarray,
) -> SafetyLimits:
    """What the supervisor enforces; `lower`, `upper` (J,) soft limits, the rest (A,).

    Targets may move half as fast again as in the compared episodes, at least at the joint's own top speed,
    at most through the whole action range within one tick.
    """
    driven = robot.driven_index

    def spread(values: np.ndarray, other: float) -> tuple[float, ...]:
        full = np.full(robot.num_joints, other)
        full[driven] = values
        return tuple(full.tolist())

    fastest = np.maximum(2.0 * robot.action_scale / robot.control_dt_s, robot.velocity_limit)
    rate = np.clip(RATE_MARGIN * target_rate, robot.velocity_limit, fastest)
    return SafetyLimits(
        joint_names=robot.joint_names,
        position_lower_rad=tuple(lower.tolist()),
        position_upper_rad=tuple(upper.tolist()),
        velocity_rad_s=spread(robot.velocity_limit, UNDRIVEN_SPEED),
        torque_nm=spread(robot.torque_limit, 0.0),
        target_rate_rad_s=spread(rate, 0.0),
        kp_max=spread(np.maximum(robot.kp, stand_kp), 0.0),
        kd_max=spread(np.maximum(robot.kd, stand_kd), 0.0),
        control_dt_s=robot.control_dt_s,
    )


def provenance(loaded: LoadedPolicy) -> dict[str, Any]:
    """Where the policy comes from, as far as its run folder says."""
    run = loaded.run
    reward, ranges, evaluation = run / "reward.py", run / "randomization.yaml", run / "evaluation.json"
    trained = json.loads((run / "run.json").read_text()) if (run / "run.json").is_file() else {}
    return {
        "run": run.resolve().name,
        "task": loaded.task.name,
        "reward_sha256": hashlib.sha256(reward.read_bytes()).hexdigest() if reward.is_file() else None,
        "ranges": ranges.read_text() if ranges.is_file() else None,
        "evaluation": _summary(json.loads(evaluation.read_text())) if evaluation.is_file() else None,
        "trained": {key: trained[key] for key in _TRAINED if key in trained},
        "exported": {
            "git_commit": git_commit(),
            "versions": versions() | {name: version(name) for name in ("onnx", "onnxscript", "onnxruntime")},
            "opset": OPSET,
        },
        "config": loaded.config,
    }


def _stand_up(robot: RobotSpec, lower: np.ndarray, upper: np.ndarray) -> list[dict[str, Any]]:
    home = {"name": "home", "joint_position": robot.home_joint_position.tolist(), "duration_s": _RISE_S}
    folded = [
        next((angle for suffix, angle in _FOLDED.items() if name.endswith(suffix)), None) for name in robot.joint_names
    ]
    if not robot.feet or None in folded:
        return [home]
    pose = np.clip(np.array(folded, np.float64), lower, upper).tolist()
    return [{"name": "folded", "joint_position": pose, "duration_s": _FOLD_S}, home]


def _range(low: float, high: float) -> list[float] | None:
    unlimited = not np.isfinite([low, high]).all() or max(abs(low), abs(high)) >= UNLIMITED
    return None if unlimited else [float(low), float(high)]


def _summary(evaluation: Any) -> Any:
    """An evaluation without its long lists: figures, texts and what holds them."""
    if isinstance(evaluation, dict):
        return {
            key: _summary(value) for key, value in evaluation.items() if not isinstance(value, list) or len(value) <= 4
        }
    return evaluation
