"""Running a bundle's graph with onnxruntime: sessions, and the policy with its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sim2real.contract import BundleError, Contract, Memory, Signal
from sim2real.numbers32 import Array32, decode


class Policy:
    """One run of a bundle's graph: named readings in, joint targets out, memory kept in between.

    For one thread; `reset` before each start.
    """

    def __init__(self, session: Any, readings: Sequence[Signal], memory: Sequence[Memory], output: str) -> None:
        self._session = session
        self._inputs = {signal.name: np.zeros((1, signal.size), np.float32) for signal in readings}
        self._memory = tuple(memory)
        self._outputs = [output, *(spec.output for spec in memory)]
        self._feed: dict[str, Array32] = dict(self._inputs)
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next tick is the first."""
        for memory in self._memory:
            self._feed[memory.input] = np.full(memory.shape, memory.initial, np.float32)

    def __call__(self, readings: Mapping[str, ArrayLike]) -> Array32:
        """(A,) [rad] target of the driven joints for one tick.

        `readings` holds at least the contract's readings, each (size,).  Raises KeyError or ValueError for a
        missing one or a wrong shape.
        """
        for name, array in self._inputs.items():
            array[0] = readings[name]
        target, *memory = self._session.run(self._outputs, self._feed)
        for spec, value in zip(self._memory, memory, strict=True):
            self._feed[spec.input] = value
        return target[0]  # type: ignore[no-any-return]


def open_session(graph: bytes) -> Any:
    """An onnxruntime session on one thread.  Raises BundleError if the bytes are no usable graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen exception types without a common base
        raise BundleError(f"onnxruntime cannot open the policy: {str(error).splitlines()[0]}") from error


def golden_error(session: Any, contract: Contract) -> float:
    """Largest difference [rad] between the graph's targets and the golden ones; infinite for NaN."""
    golden = contract.content["golden"]
    readings = {s.name: decode(golden["inputs"][s.name]).reshape(-1, s.size) for s in contract.readings}
    expected = decode(golden["joint_target"]).reshape(-1, contract.output.size)
    policy = policy_of(session, contract)
    error = 0.0
    for tick, target in enumerate(expected):
        difference = np.abs(policy({name: rows[tick] for name, rows in readings.items()}) - target).max()
        error = max(error, float(difference)) if np.isfinite(difference) else float("inf")
    return error


def policy_of(session: Any, contract: Contract) -> Policy:
    """A fresh run of the graph that `contract` describes."""
    return Policy(session, contract.readings, contract.memory, contract.output.name)
