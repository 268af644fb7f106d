"""Export: from a run's torch policy to a bundle that has proved to be the same policy.

The graph is traced from the functions that training runs on (`envs.observations`), so there is nothing to
keep in step by hand.  Before a bundle is written it is compared, in onnxruntime, with the torch policy:

- on recorded, noisy readings of a randomized simulation, tick by tick over 20 s, each side carrying its own
  memory, and with the joint targets that the training environment itself computed;
- in fitness over separately simulated episodes, because tiny differences grow in a closed loop and only what
  they amount to counts there.

`gantry export RUN` writes RUN/bundle.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from agents.run_folder import git_commit, versions
from configs.errors import UserError
from envs.environment import Environment
from envs.observations import READING_UNITS, Observation, push_frame
from envs.physics import build
from envs.robots.spec import RobotSpec
from envs.state import State
from envs.tasks.task import Task
from sim2real import bundle
from sim2real.bundle import TOLERANCE, Bundle, BundleError, Policy, encode, open_session
from sim2real.limits import SafetyLimits

if TYPE_CHECKING:
    from agents.networks import ActorCritic

OPSET = 18
PARITY_TICKS = 1000
"""20 s at 50 Hz."""
GOLDEN_TICKS = 128
FITNESS_TOLERANCE = 0.02
"""Difference of the mean fitness (in 0..1) that is allowed beyond three standard errors of the difference."""
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


class LoadedPolicy(Protocol):
    """What `agents.checkpoint.load_policy` returns."""

    @property
    def task(self) -> Task: ...
    @property
    def robot(self) -> RobotSpec: ...
    @property
    def observation(self) -> Observation: ...
    @property
    def policy(self) -> ActorCritic: ...
    @property
    def config(self) -> dict[str, Any]: ...
    @property
    def run(self) -> Path: ...


class DeployedPolicy(nn.Module):
    """Everything from readings to joint targets as one module: what is exported."""

    home: Tensor
    scale: Tensor
    lower: Tensor
    upper: Tensor

    def __init__(self, loaded: LoadedPolicy, target_lower: Tensor, target_upper: Tensor) -> None:
        """`target_lower`, `target_upper` (A,) [rad]: soft limits of the driven joints."""
        super().__init__()
        robot, observation = loaded.robot, loaded.observation
        self.policy, self.observation = loaded.policy, observation
        self.reading_names = observation.readings
        self.memory: list[dict[str, Any]] = []
        if observation.history > 1:
            shape = [1, observation.history, observation.frame_size]
            self._remember("history", shape)
            self._remember("started", [1])
        if "previous_action" in observation.terms:
            self._remember("previous_action", [1, robot.num_actions])
        self.register_buffer("home", torch.tensor(robot.home_target, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(robot.action_scale, dtype=torch.float32))
        self.register_buffer("lower", target_lower)
        self.register_buffer("upper", target_upper)

    def _remember(self, name: str, shape: list[int]) -> None:
        self.memory.append({"input": name, "output": f"{name}_out", "shape": shape, "initial": 0.0})

    @property
    def input_names(self) -> list[str]:
        return [*self.reading_names, *(memory["input"] for memory in self.memory)]

    @property
    def output_names(self) -> list[str]:
        return ["joint_target", *(memory["output"] for memory in self.memory)]

    def first_memory(self) -> list[Tensor]:
        return [torch.full(memory["shape"], memory["initial"]) for memory in self.memory]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Readings (1, size) each and memory, in the order of `input_names`; returns `output_names`."""
        named = dict(zip(self.input_names, inputs, strict=True))
        # Only an observation that does not look at it can do without the previous action.
        previous = named.get("previous_action", self.home[None])
        frame = self.observation.frame(named, previous)
        memory: dict[str, Tensor] = {}
        if "history" in named:
            memory["history"] = push_frame(named["history"], frame, named["started"] > 0.5)
            memory["started"] = torch.ones_like(named["started"])
            frame = memory["history"].flatten(1)
        action = self.policy.mean_action(frame).clamp(-1.0, 1.0)
        memory["previous_action"] = action
        target = torch.addcmul(self.home, self.scale, action).clamp(self.lower, self.upper)
        return target, *(memory[spec["input"]] for spec in self.memory)


def to_onnx(module: DeployedPolicy, reading_sizes: dict[str, int]) -> bytes:
    """The module as ONNX file content, weights inside.  Raises BundleError if torch cannot export it."""
    example = [torch.zeros(1, reading_sizes[name]) for name in module.reading_names]
    noisy = logging.getLogger("torch.onnx"), logging.getLogger("onnxscript"), logging.getLogger("onnx_ir")
    levels = [logger.level for logger in noisy]
    for logger in noisy:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple([*example, *module.first_memory()]),
                dynamo=True,
                external_data=False,
                input_names=module.input_names,
                output_names=module.output_names,
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        graph: bytes = program.model_proto.SerializeToString()
    except Exception as error:
        raise BundleError(f"torch cannot export this policy: {type(error).__name__}: {error}") from error
    finally:
        for logger, level in zip(noisy, levels, strict=True):
            logger.setLevel(level)
    return graph


@dataclass(frozen=True)
class Recording:
    """T consecutive ticks of one randomized simulation under the torch policy."""

    readings: dict[str, np.ndarray]
    """(T, size) float32 each, with sensor noise and biases."""
    joint_target: np.ndarray
    """(T, A) what the environment computed; NaN at the last tick of an episode."""
    fresh: np.ndarray
    """(T,) bool: the first tick of an episode."""


def record(loaded: LoadedPolicy, ticks: int, seed: int) -> Recording:
    """Drive the task's randomized simulation with the torch policy and keep what it was given."""
    env = _environment(loaded, 1, seed)
    names = loaded.observation.readings
    rows: dict[str, list[np.ndarray]] = {name: [] for name in names}
    targets, fresh, starts = [], [], True
    observation, _ = env.reset()
    with torch.no_grad():
        for _ in range(ticks):
            for name, value in _readings(env).items():
                if name in rows:
                    rows[name].append(value[0].numpy().copy())
            step = env.step(loaded.policy.mean_action(observation))
            fresh.append(starts)
            starts = len(step.ended) > 0
            targets.append(np.full(env.num_actions, np.nan) if starts else env.state.joint_target[0].numpy().copy())
            observation = step.observation
    return Recording({n: np.stack(r) for n, r in rows.items()}, np.stack(targets), np.array(fresh))


def parity(module: DeployedPolicy, policy: Policy, recording: Recording) -> tuple[float, float]:
    """Largest differences [rad] of onnxruntime's targets, over all ticks of a recording.

    From the torch module, both running through without a restart; and from the targets that the training
    environment computed, with the memory cleared where an episode began.  Infinite where one is not finite.
    """
    ticks = len(recording.fresh)
    names = list(module.reading_names)
    memory, through = module.first_memory(), []
    policy.reset()
    with torch.no_grad():
        for t in range(ticks):
            row = {name: recording.readings[name][t] for name in names}
            target, *memory = module(*(torch.from_numpy(row[name])[None] for name in names), *memory)
            through.append(np.abs(policy(row) - target[0].numpy()))
    policy.reset()
    restarted = []
    for t in range(ticks):
        if recording.fresh[t]:
            policy.reset()
        target32 = policy({name: recording.readings[name][t] for name in names})
        if not np.isnan(recording.joint_target[t]).any():
            restarted.append(np.abs(target32 - recording.joint_target[t]))
    return _largest(through), _largest(restarted)


@dataclass(frozen=True)
class Rollouts:
    """One episode in each of N simulations."""

    fitness: np.ndarray
    """(N,) in 0..1; what is cut off by a failure counts 0."""
    target_rate: np.ndarray
    """(A,) [rad/s] fastest change of each target from one tick to the next."""


def rollouts(loaded: LoadedPolicy, num_sims: int, seed: int, policies: Sequence[Policy] | None = None) -> Rollouts:
    """Episodes on the task's randomized physics, driven by torch, or by `policies`, one a simulation."""
    env = _environment(loaded, num_sims, seed)
    robot, rate = loaded.robot, np.zeros(loaded.robot.num_actions)
    home = torch.tensor(robot.home_target, dtype=torch.float32)
    scale = torch.tensor(robot.action_scale, dtype=torch.float32)
    alive, total = torch.ones(num_sims), torch.zeros(num_sims)
    before: Tensor | None = None
    score = _Score(env.task)
    env.reward = score
    observation, _ = env.reset()
    with torch.no_grad():
        for _ in range(env.episodes.max_steps):
            if policies:
                rows = {name: value.numpy() for name, value in _readings(env).items()}
                target = torch.from_numpy(
                    np.stack([p({n: r[i] for n, r in rows.items()}) for i, p in enumerate(policies)])
                )
                action = (target - home) / scale  # what the environment turns into the same target
            else:
                action = loaded.policy.mean_action(observation)
                target = home + scale * action.clamp(-1.0, 1.0)
            if before is not None:
                moved = ((target - before).abs() * alive[:, None]).max(0).values.numpy()
                rate = np.maximum(rate, moved / robot.control_dt_s)
            before = target
            step = env.step(action)
            alive = alive * (~score.terminated).float()
            total += score.rate * alive
            alive[step.ended] = 0.0
            if not alive.any():
                break
            observation = step.observation
    return Rollouts((total / env.episodes.max_steps).numpy(), rate)


class _Score:
    """Stands where a reward does, to read the state after the physics and before restarts; rewards nothing."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def __call__(self, s: State) -> dict[str, Tensor]:
        self.rate, self.terminated = self._task.fitness_rate(s), s.terminated
        return {"none": torch.zeros_like(self.rate)}


def export(loaded: LoadedPolicy, folder: Path | None = None, *, seed: int = 0, num_sims: int = 16) -> Bundle:
    """Write the bundle of a policy to `folder` (its run's `bundle`), after comparing it with the policy.

    Raises BundleError, and leaves no bundle behind, if the exported graph is not the same policy.
    """
    folder = loaded.run / "bundle" if folder is None else folder
    bundle.remove(folder)
    env = _environment(loaded, 1, seed)
    driven = torch.from_numpy(loaded.robot.driven_index)
    module = DeployedPolicy(loaded, env.joint_lower[driven], env.joint_upper[driven])
    recording = record(loaded, PARITY_TICKS, seed)
    sizes = {name: rows.shape[1] for name, rows in recording.readings.items()}
    graph = to_onnx(module, sizes)
    session = open_session(graph)
    verified, rate = _verify(loaded, module, session, recording, seed, num_sims)

    content = contract_content(loaded, env, module, sizes, rate)
    content["golden"] = _golden(module, recording)
    content["provenance"] = provenance(loaded) | {"verification": verified}
    bundle.save(folder, graph, content)
    try:
        return Bundle.load(folder, robot=loaded.robot.name)
    except BundleError:
        bundle.remove(folder)
        raise


def _verify(
    loaded: LoadedPolicy,
    module: DeployedPolicy,
    session: Any,
    recording: Recording,
    seed: int,
    num_sims: int,
) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of the comparison, and the fastest target changes (A,) [rad/s].  Raises BundleError."""
    runner = _module_policy(session, module)
    of_module, of_training = parity(module, runner, recording)
    for difference, other in ((of_module, "the torch policy"), (of_training, "the training environment")):
        if not difference <= TOLERANCE:
            raise BundleError(
                f"no bundle was written: joint targets in onnxruntime differ by up to {difference:.3g} rad from "
                f"{other} over {len(recording.fresh)} recorded ticks (allowed {TOLERANCE:g})"
            )
    ours = rollouts(loaded, num_sims, seed + 1)
    runners = [_module_policy(session, module) for _ in range(num_sims)]
    theirs = rollouts(loaded, num_sims, seed + 1, runners)
    # A rounding error can decide whether an unsteady policy falls, so single episodes may differ by chance.
    paired = theirs.fitness - ours.fitness
    allowed = FITNESS_TOLERANCE + 3.0 * float(paired.std(ddof=1)) / num_sims**0.5
    if not abs(float(paired.mean())) <= allowed:
        raise BundleError(
            f"no bundle was written: mean fitness over {num_sims} episodes is {theirs.fitness.mean():.4f} in "
            f"onnxruntime and {ours.fitness.mean():.4f} in torch (allowed difference {allowed:.4f})"
        )
    figures = {
        "ticks": len(recording.fresh),
        "largest_difference_rad": of_module,
        "largest_difference_from_training_rad": of_training,
        "episodes": num_sims,
        "fitness_torch": float(ours.fitness.mean()),
        "fitness_onnxruntime": float(theirs.fitness.mean()),
    }
    return figures, np.maximum(ours.target_rate, theirs.target_rate)


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
        "schema": bundle.SCHEMA,
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


def _environment(loaded: LoadedPolicy, num_sims: int, seed: int) -> Environment:
    return build(loaded.task, "randomized", num_sims, seed, num_threads=1)


def _readings(env: Environment) -> dict[str, Tensor]:
    """(N, size) each: what the latest observation was made of, noise included (its draws are keyed)."""
    s, episodes = env.state, env.episodes
    exact = torch.cat([s.joint_position, s.joint_velocity, s.base_angular_velocity_b, s.gravity_b], 1)
    return env.sensing.readings(env.sensing.noisy(exact, episodes.episode, episodes.step), s.command)


def _module_policy(session: Any, module: DeployedPolicy) -> Policy:
    """A Policy before there is a contract."""
    signals = {node.name: node.shape[1] for node in session.get_inputs() if node.name in module.reading_names}
    memory = tuple(bundle.Memory(m["input"], m["output"], tuple(m["shape"]), m["initial"]) for m in module.memory)
    return Policy(
        session,
        [bundle.Signal(name, signals[name], "") for name in module.reading_names],
        memory,
        "joint_target",
    )


def _golden(module: DeployedPolicy, recording: Recording) -> dict[str, Any]:
    """The first ticks of the recording and torch's targets for them."""
    memory, targets = module.first_memory(), []
    with torch.no_grad():
        for t in range(GOLDEN_TICKS):
            row = [torch.from_numpy(recording.readings[name][t])[None] for name in module.reading_names]
            target, *memory = module(*row, *memory)
            targets.append(target[0].numpy())
    return {
        "ticks": GOLDEN_TICKS,
        "encoding": "base64 of float32, little-endian, one tick after the other",
        "inputs": {name: encode(rows[:GOLDEN_TICKS]) for name, rows in recording.readings.items()},
        "joint_target": encode(np.stack(targets)),
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


def _largest(differences: list[np.ndarray]) -> float:
    largest = float(np.max(differences)) if differences else float("inf")
    return largest if np.isfinite(largest) else float("inf")


def main() -> int:
    """`gantry export RUN`: writes the bundle and says where it is and how well it agrees."""
    parser = argparse.ArgumentParser(
        prog="gantry export",
        description="Write a run's policy as a bundle: one ONNX file and one contract, checked against torch.",
    )
    parser.add_argument("run", type=Path, help="run folder")
    parser.add_argument("--out", type=Path, help="where to write it (default: RUN/bundle)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the recorded and compared episodes")
    parser.add_argument("--episodes", type=int, default=16, help="episodes to compare in fitness (default 16)")
    options = parser.parse_args()
    if options.episodes < 2:
        raise UserError(f"--episodes {options.episodes}: at least 2 are needed")

    from agents.checkpoint import load_policy  # not before the arguments are known to be good

    torch.set_num_threads(1)
    made = export(load_policy(options.run), options.out, seed=options.seed, num_sims=options.episodes)
    figures = made.contract.provenance["verification"]
    print(
        f"targets agree within {figures['largest_difference_rad']:.2g} rad over {figures['ticks']} ticks; "
        f"fitness {figures['fitness_onnxruntime']:.3f} (torch {figures['fitness_torch']:.3f}) over "
        f"{figures['episodes']} episodes\nbundle: {made.path}"
    )
    return 0
