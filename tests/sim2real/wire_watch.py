"""A subscriber of its own on a robot's topics: what was really commanded, judged against a contract's limits.

It shares nothing with the processes that it watches but the description of the messages; the rules are written
out here once more, in plain NumPy, and not taken from `sim2real.limits`.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim2real.contract import Contract
from sim2real.links.unitree_commands import motor_indices
from sim2real.links.unitree_dds import LOW_CMD_TOPIC, LOW_STATE_TOPIC, encoded_type, make_participant, make_topic
from sim2real.links.unitree_types import LowCmd_, LowState_
from sim2real.links.unitree_wire import LOW_CMD, LOW_STATE, MOTOR_MODE_SERVO, Message, WireError, decode

QUEUE = 4000
SLACK = 1e-3
"""Relative and absolute: commands are float32 on the wire."""
TORQUE_SLACK = 0.05
"""Of the torque limit: encoders are read again in every message, so the supervisor's reading is known up to noise."""


@dataclass(frozen=True)
class Seen:
    """One command on the wire; arrays (12,) in policy order, SI units."""

    time_s: float
    """When it was published, on `time.monotonic()`."""
    writer: int
    """Which writer published it."""
    q: np.ndarray
    dq: np.ndarray
    tau: np.ndarray
    kp: np.ndarray
    kd: np.ndarray
    message: Message

    def same(self, other: Seen) -> bool:
        """Whether both say the same: the guard repeats each command until the next."""
        return all(np.array_equal(getattr(self, part), getattr(other, part)) for part in ("q", "dq", "tau", "kp", "kd"))


@dataclass
class WireWatch:
    """Takes everything from `rt/lowcmd` and `rt/lowstate` of a domain, from the moment it is made."""

    contract: Contract = field(repr=False)
    domain: int
    damaged: int = 0
    """Commands whose checksum, length or encoding was wrong."""
    # Left out of `repr`: writing thousands of messages out takes minutes when a test fails.
    commands: list[Seen] = field(default_factory=list, repr=False)
    states: list[tuple[float, Message]] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        from cyclonedds.qos import Policy, Qos
        from cyclonedds.sub import DataReader

        self.participant = make_participant("lo", self.domain)
        self._motors = motor_indices(self.contract.joint_names)
        self._others = np.setdiff1d(np.arange(20), self._motors)
        self._readers: list[Any] = [
            DataReader(
                self.participant,
                make_topic(self.participant, topic, encoded_type(kind)),
                Qos(Policy.History.KeepLast(QUEUE)),
            )
            for topic, kind in ((LOW_CMD_TOPIC, LowCmd_), (LOW_STATE_TOPIC, LowState_))
        ]
        self._times = np.zeros(0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="wire", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; what was seen stays."""
        self._ended.set()
        self._thread.join()

    def now(self) -> Seen | None:
        """The newest command."""
        return self.commands[-1] if self.commands else None

    def damping(self) -> bool:
        """Whether the newest command is the contract's damping."""
        last = self.now()
        return last is not None and is_damping(last, self.contract)

    def running(self) -> bool:
        """Whether the newest command has the policy's gains.

        The supervisor may take a torque's excess off a joint's gains, so most joints decide.
        """
        last = self.now()
        return last is not None and float(np.median(np.abs(last.kp - self.contract.kp))) < 1e-3

    def damped_since(self) -> float:
        """Time of the first command of the unbroken damping at the end."""
        at = len(self.commands)
        while at and is_damping(self.commands[at - 1], self.contract):
            at -= 1
        assert at < len(self.commands), "the last command is not damping"
        return self.commands[at].time_s

    def check(self, writers: set[int] | None = None) -> int:
        """Judge every command (of these writers); returns how many there were.

        Raises AssertionError naming the first one that was damaged or outside the limits.
        """
        assert self.damaged == 0, f"{self.damaged} damaged commands on the wire"
        self._times = np.array([when_s for when_s, _ in self.states])
        count = 0
        for writer in {seen.writer for seen in self.commands} if writers is None else writers:
            before: Seen | None = None
            for seen in [seen for seen in self.commands if seen.writer == writer]:
                count += 1
                if before is not None and before.same(seen):
                    before = seen
                    continue
                self._judge(seen, before)
                before = seen
        return count

    def _judge(self, seen: Seen, before: Seen | None) -> None:
        limits = self.contract.safety
        low, high = np.array(limits.position_lower_rad), np.array(limits.position_upper_rad)
        speed, torque = np.array(limits.velocity_rad_s), np.array(limits.torque_nm)
        kp_max, kd_max = np.array(limits.kp_max), np.array(limits.kd_max)
        rate = np.array(limits.target_rate_rad_s)
        soft = seen.kp == 0.0
        inside = {
            "finite": np.isfinite([seen.q, seen.dq, seen.tau, seen.kp, seen.kd]).all(0),
            "position": (seen.q >= low - SLACK) & (seen.q <= high + SLACK),
            "velocity": np.abs(seen.dq) <= speed * (1 + SLACK),
            "feed-forward torque": np.abs(seen.tau) <= torque * (1 + SLACK),
            "kp": (seen.kp >= 0.0) & (seen.kp <= kp_max * (1 + SLACK)),
            "kd": (seen.kd >= 0.0)
            & (seen.kd <= np.where(soft, np.maximum(kd_max, limits.damping_kd), kd_max) * (1 + SLACK)),
        }
        if before is not None:
            # A command that never reached the guard leaves a gap; the next may have moved for both.
            periods = max(1, round((seen.time_s - before.time_s) / limits.control_dt_s) + 1)
            inside["rate"] = soft | (np.abs(seen.q - before.q) <= rate * limits.control_dt_s * periods + SLACK)
        asked = self._torque(seen)
        if asked is not None:
            inside["torque"] = soft | (asked <= torque * (1 + TORQUE_SLACK))
        for what, good in inside.items():
            assert good.all(), (
                f"{what}: {np.array(limits.joint_names)[~good]} at {seen.time_s:.3f} s: q {seen.q}, dq {seen.dq}, "
                f"tau {seen.tau}, kp {seen.kp}, kd {seen.kd}, torque {asked}"
            )
        motors = seen.message["motor_cmd"]
        assert (motors["mode"] == MOTOR_MODE_SERVO).all()
        for part in ("tau", "kp", "kd"):
            assert not motors[part][self._others].any(), f"{part} of a motor that the robot does not have"

    def _torque(self, seen: Seen) -> np.ndarray | None:
        """(12,) [N·m] what each motor was asked for: by the state of the last control period that asks for least.

        Which state the supervisor had read is not on the wire.  None if there was no usable one.
        """
        period_s = 2 * self.contract.control_dt_s
        first, last = np.searchsorted(self._times, [seen.time_s - period_s, seen.time_s])
        recent = [state for _, state in self.states[first:last]]
        q = np.array([s["motor_state"]["q"][self._motors] for s in recent], np.float64).reshape(-1, 12)
        dq = np.array([s["motor_state"]["dq"][self._motors] for s in recent], np.float64).reshape(-1, 12)
        good = np.isfinite(q).all(1) & np.isfinite(dq).all(1)
        if not good.any():
            return None
        least: np.ndarray = np.abs(seen.kp * (seen.q - q[good]) + seen.kd * (seen.dq - dq[good]) + seen.tau).min(0)
        return least

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self._take()
        self._take()

    def _take(self) -> None:
        # Writers stamp messages with the machine's wall clock.
        to_monotonic_s = time.monotonic() - time.time()
        for sample in self._readers[1].take(QUEUE):
            if hasattr(sample, "data"):
                try:
                    state = decode(sample.data, LOW_STATE)
                except WireError:
                    continue  # the robot's own faults are what the tests ask for
                self.states.append((sample.sample_info.source_timestamp * 1e-9 + to_monotonic_s, state))
        for sample in self._readers[0].take(QUEUE):
            if not hasattr(sample, "data"):
                continue  # a writer that left
            try:
                message = decode(sample.data, LOW_CMD)
            except WireError:
                self.damaged += 1
                continue
            motors = message["motor_cmd"][self._motors]
            parts = (motors[name].astype(np.float64) for name in ("q", "dq", "tau", "kp", "kd"))
            info = sample.sample_info
            when_s = info.source_timestamp * 1e-9 + to_monotonic_s
            self.commands.append(Seen(when_s, int(info.publication_handle), *parts, message))


def is_damping(seen: Seen, contract: Contract) -> bool:
    """No stiffness, no torque, the contract's damping gain on every joint."""
    soft = not seen.kp.any() and not seen.tau.any() and not seen.dq.any()
    return bool(soft and np.allclose(seen.kd, contract.safety.damping_kd))
