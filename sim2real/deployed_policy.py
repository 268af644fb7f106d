"""The torch policy with everything around it as one module, and that module as an ONNX graph.

The graph is traced from the functions that training runs on (`envs.observations`), so there is nothing to
keep in step by hand.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from envs.observations import Observation, push_frame
from envs.robots.spec import RobotSpec
from envs.tasks.task import Task
from sim2real.contract import BundleError, Memory, Signal
from sim2real.policy import Policy

if TYPE_CHECKING:
    from agents.networks import ActorCritic

OPSET = 18


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


def module_policy(session: Any, module: DeployedPolicy) -> Policy:
    """A Policy before there is a contract."""
    signals = {node.name: node.shape[1] for node in session.get_inputs() if node.name in module.reading_names}
    memory = tuple(Memory(m["input"], m["output"], tuple(m["shape"]), m["initial"]) for m in module.memory)
    return Policy(
        session,
        [Signal(name, signals[name], "") for name in module.reading_names],
        memory,
        "joint_target",
    )
