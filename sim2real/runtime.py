"""The runtime: one fixed-rate loop that takes a bundle to a robot, through the supervisor, and logs every tick.

    limp --stand--> stand up --(pose reached)--> ready --run--> running --hold--> stand up
      any --damp, quit--> damping          any --stop, or any doubt--> damping, latched --clear--> limp

Ticks lie on absolute deadlines t0 + k * control_dt_s of a monotonic clock, so lateness never adds up.  A
command that leaves later than one period after its deadline is a missed deadline.  Late ticks are caught up
one after the other; only after a pause longer than the supervisor forgives does the schedule start anew, and
the ticks that fell out are counted and logged.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from sim2real.bundle import Bundle, Keyframe
from sim2real.commands import (
    Action,
    CommandSource,
    ProgramSource,
    Request,
    Situation,
    State,
    StepResult,
    close_all,
)
from sim2real.limits import SafetyLimits
from sim2real.links.link import Command, FloatArray, Link, LinkError, LinkHealth, Reading
from sim2real.log import LogWriter, Message, flat, texts
from sim2real.safety import ClearRefused, Decision, Supervisor

HOLD_S = 1.0
"""Time to go back from running to the standing pose."""
FAREWELL_S = 1.0
"""Damping before the runtime leaves."""
CLEAR_S = 1.0
"""So long a clear is tried before it counts as refused."""
STAND_ERROR_RAD = 0.6
"""Largest deviation of a joint from the standing pose at the end of standing up."""
FIRST_READING_S = 2.0
"""So long the robot may take to say something after the link is open."""
LINK_CHECK_S = 1.0
"""How often the link's counters are looked at, so that a bad network is named in the log."""
_ROUNDING_S = 1e-9
SWITCH_INTERVAL_S = 0.0005
"""How long another Python thread may keep the loop waiting (CPython's default is 5 ms)."""


class Clock(Protocol):
    """Where time comes from: the machine, or a simulation in lock step."""

    def now_s(self) -> float:
        """Seconds; never runs backward by itself."""
        ...

    def wait_until(self, time_s: float) -> None:
        """Return at `time_s`, or at once if it has passed."""
        ...


class MonotonicClock:
    """`time.monotonic()`.  The last `spin_s` of a wait are spent polling, for a sharper wake-up."""

    def __init__(self, spin_s: float = 0.0) -> None:
        self._spin_s = spin_s

    def now_s(self) -> float:
        return time.monotonic()

    def wait_until(self, time_s: float) -> None:
        pause_s = time_s - time.monotonic() - self._spin_s
        if pause_s > 0.0:
            time.sleep(pause_s)
        while self._spin_s and time.monotonic() < time_s:
            pass


@dataclass
class Timing:
    """Per tick, in seconds."""

    wake_late_s: list[float] = field(default_factory=list)
    """Wake-up after the deadline."""
    sent_late_s: list[float] = field(default_factory=list)
    """Command sent after the deadline."""
    tick_s: list[float] = field(default_factory=list)
    """From wake-up to command sent."""
    policy_s: list[float] = field(default_factory=list)
    """Inference, of running ticks only."""
    missed: int = 0
    """Commands sent later than one period after their deadline."""
    skipped: int = 0
    """Ticks that fell out because the schedule had to start anew."""

    def percentiles_ms(self, name: str) -> dict[str, float]:
        """p50, p99 and maximum of one of the lists [ms]; empty if there is nothing."""
        values = np.array(getattr(self, name)) * 1e3
        if not len(values):
            return {}
        p50, p99 = np.percentile(values, [50, 99])
        return {"p50": float(p50), "p99": float(p99), "max": float(values.max())}


@dataclass(frozen=True)
class Summary:
    """How a deployment went."""

    ticks: int
    seconds: float
    missed_deadlines: int
    skipped_ticks: int
    tick_ms: dict[str, float]
    policy_ms: dict[str, float]
    wake_late_ms: dict[str, float]
    state: str
    """The state at the end."""
    reasons: tuple[str, ...]
    """Everything that ever latched damping, oldest first."""
    limited_ticks: int
    """Ticks whose command the supervisor had to bring inside the limits."""
    link: dict[str, Any]
    """The link's counters and notes."""
    log: Path | None
    log_dropped: int
    """Log messages dropped because the disk was too slow."""
    steps: tuple[StepResult, ...] = ()
    """Of the script, if one ran."""


class Runtime:
    """Drives one robot with one bundle.  `run` is called once, from one thread; `stop` and `commands` from any."""

    def __init__(
        self,
        bundle: Bundle,
        link: Link,
        sources: Sequence[CommandSource] = (),
        *,
        log: Path | None = None,
        operator: str = "operator",
        clock: Clock | None = None,
        fifo_priority: int | None = None,
        limits: SafetyLimits | None = None,
    ) -> None:
        """`operator` is the name under which damping is cleared.  `clock` defaults to the link's own `clock`,
        if it has one, else the machine's.  `fifo_priority` asks Linux for real-time scheduling.  `limits`
        replaces the contract's, for a stricter supervisor.

        Raises BundleError if the link's joints are not the bundle's.
        """
        self.bundle, self.link = bundle, link
        contract = self.contract = bundle.contract
        contract.check_robot(contract.robot, tuple(link.joint_names))
        self.commands = ProgramSource()
        self._sources: list[CommandSource] = [*sources, self.commands]
        self._log_path, self._operator, self._fifo = log, operator, fifo_priority
        link_clock: Clock | None = getattr(link, "clock", None)
        self._clock: Clock = clock or link_clock or MonotonicClock()
        self._truth = getattr(link, "truth", None)
        self.supervisor = Supervisor(limits or contract.safety)
        self.timing = Timing()
        self.state = State.LIMP
        self.command = np.zeros(len(contract.commands))
        """Values of the reading `command` now."""
        self.reading: Reading | None = None
        self.decision: Decision | None = None
        self._policy = bundle.policy()
        self._driven = contract.driven_index
        self._low = np.array([entry.low for entry in contract.commands])
        self._high = np.array([entry.high for entry in contract.commands])
        self._kp, self._kd = self._full(contract.kp), self._full(contract.kd)
        self._stand_kp, self._stand_kd = self._full(contract.stand_kp), self._full(contract.stand_kd)
        self._unseen: Reading | None = None  # what came before the first tick
        self._poses: list[Keyframe] = []
        self._pose_from: FloatArray = contract.home_joint_position
        self._pose_began_s = 0.0
        self._clearing_until_s: float | None = None
        self._leaving_s: float | None = None
        self._policy_target: FloatArray | None = None
        self._missed_before = False
        self._limited = 0
        self._reasons: list[str] = []
        self._log: LogWriter | None = None
        self._link_errors: set[str] = set()
        self._link_before = LinkHealth()
        self._link_check_s = -math.inf

    def stop(self, source: str) -> None:
        """Emergency stop, from any thread: damping from the next tick on, latched."""
        self.supervisor.stop(source)

    def run(self, duration_s: float | None = None) -> Summary:
        """Open the link, loop until a source quits or `duration_s` has passed, damp, close everything.

        Raises LinkError if the robot cannot be reached; whatever is raised, the link is closed, damped.
        """
        contract, clock = self.contract, self._clock
        restore = _enter_realtime(self._fifo)
        began_s = ended_s = 0.0
        try:
            if self._log_path is not None:
                patient = not isinstance(clock, MonotonicClock)
                self._log = LogWriter(self._log_path, contract.content, self._metadata(), patient=patient)
            self.link.open()
            for note in self.link.health.notes:
                self._event(note)
            self._unseen = self.link.read(FIRST_READING_S)
            if self._unseen is None:
                raise LinkError(f"the robot said nothing for {FIRST_READING_S} s after it was connected")
            gc.collect()
            gc.freeze()
            gc.disable()
            began_s = ended_s = anchor_s = clock.now_s()
            tick = due = 0
            while True:
                deadline_s = anchor_s + due * contract.control_dt_s
                clock.wait_until(deadline_s)
                ended_s = self._tick(tick, deadline_s)
                tick, due = tick + 1, due + 1
                if duration_s is not None and ended_s - began_s >= duration_s and self._leaving_s is None:
                    self._leave(ended_s, "the time is over")
                if self._leaving_s is not None and ended_s >= self._leaving_s:
                    break
                behind = ended_s - (anchor_s + due * contract.control_dt_s)
                if behind > self.supervisor.limits.stale_s:
                    # The supervisor has latched damping for this gap: a burst of old ticks would help nobody.
                    lost = int(behind / contract.control_dt_s)
                    self.timing.skipped += lost
                    due += lost
                    self._event(f"{behind:.3f} s behind: {lost} ticks fell out")
            self._watch_link(ended_s)
        finally:
            gc.enable()
            gc.unfreeze()
            try:
                self.link.close()
            finally:
                restore()
                close_all(self._sources)
                summary = self._summary(ended_s - began_s)
                if self._log is not None:
                    self._log.close(texts(summary))
        return summary

    def _tick(self, tick: int, deadline_s: float) -> float:
        """One turn of the loop; returns when its command was sent."""
        clock, dt_s = self._clock, self.contract.control_dt_s
        woke_s, woke = clock.now_s(), time.perf_counter()
        reading, self._unseen = self.link.read() or self._unseen, None
        if reading is not None:
            self.reading = reading
        now_s = clock.now_s()
        truth = self._truth() if self._truth is not None else None
        situation = Situation(now_s, self.state, self.reading, truth, self.supervisor.latched)
        self._take(situation)
        before_policy = time.perf_counter()
        proposed = self._propose(now_s)
        policy_s = time.perf_counter() - before_policy
        foreign, doubts = self.link.foreign_publishers(), self.link.doubts()
        decision = self.supervisor.check(
            reading,
            proposed,
            now_s,
            deadline_missed=self._missed_before,
            foreign_publishers=foreign,
            link_doubts=doubts,
        )
        with self._reported():
            self.link.send(decision.command)
        sent_s, sent = clock.now_s(), time.perf_counter()
        self._missed_before = sent_s > deadline_s + dt_s + _ROUNDING_S
        self.timing.missed += self._missed_before
        self.timing.wake_late_s.append(woke_s - deadline_s)
        self.timing.sent_late_s.append(sent_s - deadline_s)
        self.timing.tick_s.append(sent - woke)
        if self.state is State.RUNNING:
            self.timing.policy_s.append(policy_s)
        self._follow(decision, now_s)
        if now_s >= self._link_check_s:
            self._watch_link(now_s)
        if self._log is not None:
            self._write(tick, deadline_s, woke_s, sent_s, policy_s, reading, decision, truth)
        return sent_s

    def _take(self, situation: Situation) -> None:
        """Ask the sources; act on what they want."""
        chosen: FloatArray | None = None
        for source in self._sources:
            request = source.poll(situation)
            if request.action is not None:
                self._act(request, situation.time_s)
            if chosen is None and request.command is not None:
                chosen = request.command
        if chosen is not None and chosen.shape == self.command.shape:
            self.command = np.clip(np.nan_to_num(chosen), self._low, self._high)

    def _act(self, request: Request, now_s: float) -> None:
        action, state, latched = request.action, self.state, self.supervisor.latched
        if action is Action.STOP:
            self.stop(request.source)
        elif action is Action.QUIT:
            self._leave(now_s, f"{request.source} quits")
        elif action is Action.DAMP:
            self._enter(State.DAMPING, f"{request.source} asks for it")
        elif action is Action.CLEAR and state is State.DAMPING:
            self._begin_clear(now_s, request.source)
        elif action is Action.STAND and (state is State.LIMP or (state is State.DAMPING and not latched)):
            if self.reading is None:
                self._event("cannot stand up: nothing has been read from the robot")
                return
            self._poses = list(self.contract.stand_up)
            self._start_pose(now_s, self.reading.joint_position)
            self._enter(State.STAND_UP, f"{request.source} asks for it")
        elif action is Action.RUN and state is State.READY:
            self._policy.reset()
            self._enter(State.RUNNING, f"{request.source} asks for it")
        elif action is Action.HOLD and state is State.RUNNING and self.reading is not None:
            last = self.contract.stand_up[-1]
            self._poses = [Keyframe(last.name, last.joint_position, HOLD_S)]
            self._start_pose(now_s, self.reading.joint_position)
            self._enter(State.STAND_UP, f"{request.source} asks to hold")
        else:
            self._event(f"{request.source}: {action} is not possible while {state}")

    def _start_pose(self, now_s: float, position: FloatArray) -> None:
        self._pose_from, self._pose_began_s = np.array(position, np.float64), now_s

    def _begin_clear(self, now_s: float, source: str) -> None:
        if not self.supervisor.latched:
            self._enter(State.LIMP, f"{source} asks for it")
            return
        with self._reported():
            # The link first: the supervisor refuses while the link still damps.
            self.link.clear(self._operator)
        self._clearing_until_s = now_s + CLEAR_S

    def _propose(self, now_s: float) -> Command | None:
        """What this state wants to send; None if it cannot say."""
        position = self.reading.joint_position if self.reading is not None else self._pose_from
        self._policy_target = None
        if self.state is State.STAND_UP:
            return self._stand_up(now_s)
        if self.state is State.READY:
            return Command.position(self._pose_from, self._stand_kp, self._stand_kd)
        if self.state is State.RUNNING and self.reading is not None:
            return self._run_policy(self.reading)
        if self.state is State.LIMP:
            return Command.limp(position)
        return Command.damping(position, self.supervisor.limits.damping_kd)

    def _stand_up(self, now_s: float) -> Command:
        pose = self._poses[0]
        share = min((now_s - self._pose_began_s) / pose.duration_s, 1.0)
        smooth = share * share * (3.0 - 2.0 * share)  # starts and ends at rest
        target = self._pose_from + smooth * (pose.joint_position - self._pose_from)
        if share >= 1.0:
            self._poses.pop(0)
            self._start_pose(now_s, pose.joint_position)
            if not self._poses:
                self._arrive(pose)
        return Command.position(target, self._stand_kp, self._stand_kd)

    def _arrive(self, pose: Keyframe) -> None:
        assert self.reading is not None
        error = np.abs(self.reading.joint_position - pose.joint_position)[self._driven]
        if not error.max() <= STAND_ERROR_RAD:
            name = self.contract.driven_joints[int(np.nan_to_num(error, nan=np.inf).argmax())]
            self.stop(f"the runtime: {name} is {error.max():.2f} rad from where standing puts it")
            return
        self._enter(State.READY, f"stands: pose {pose.name!r}")

    def _run_policy(self, reading: Reading) -> Command | None:
        try:
            values = {
                signal.name: self.command if signal.name == "command" else getattr(reading, signal.name)
                for signal in self.contract.readings
            }
            target = self._policy(values).astype(np.float64)
        except Exception as error:  # the supervisor damps for want of a command; the loop goes on
            self._event(f"the policy failed: {type(error).__name__}: {error}")
            return None
        self._policy_target = target
        full = np.array(reading.joint_position, np.float64)
        full[self._driven] = target
        return Command.position(full, self._kp, self._kd)

    def _follow(self, decision: Decision, now_s: float) -> None:
        """Let the supervisor's decision change the state."""
        self._limited += decision.state == "limited"
        before = self.decision
        self.decision = decision
        if decision.state == "damping":
            known = before.reasons if before is not None and before.state == "damping" else ()
            new = [reason for reason in decision.reasons if reason not in known]
            self._reasons += new
            if self.state is not State.DAMPING:
                self._enter(State.DAMPING, "; ".join(decision.reasons))
            elif new:
                self._event("; ".join(new))
        if self._clearing_until_s is None:
            return
        try:
            self.supervisor.clear(self._operator)
        except ClearRefused as refused:
            if now_s > self._clearing_until_s:
                self._clearing_until_s = None
                self._event(str(refused))
        else:
            self._clearing_until_s = None
            self._link_errors.clear()
            self._enter(State.LIMP, f"cleared by {self._operator}")

    def _leave(self, now_s: float, why: str) -> None:
        if self._leaving_s is None:
            self._leaving_s = now_s + (FAREWELL_S if self.state is not State.DAMPING else 0.2)
            self._enter(State.DAMPING, why)

    def _enter(self, state: State, why: str) -> None:
        self.state = state
        self._event(why)

    def _event(self, text: str) -> None:
        if self._log is not None:
            self._log.put(("/event", self._clock.now_s(), {"state": str(self.state), "text": text}))

    @contextlib.contextmanager
    def _reported(self) -> Any:
        """A link that fails is logged; its `doubts` tell the supervisor at the next tick."""
        try:
            yield
        except LinkError as error:
            text = str(error)
            if text not in self._link_errors:  # once, not at every tick
                self._link_errors.add(text)
                self._event(text)

    def _watch_link(self, now_s: float) -> None:
        """Say in the log what went wrong on the way from the robot since the last look."""
        before, now = self._link_before, self.link.health
        received, lost = now.received - before.received, now.lost - before.lost
        damaged, unordered = now.damaged - before.damaged, now.out_of_order - before.out_of_order
        faults = (
            (lost > 0, f"{lost} of {received + lost} messages were lost"),
            (damaged > 0, f"{damaged} of {received} messages were damaged and dropped"),
            (unordered > 0, f"{unordered} of {received} messages came out of order and were dropped"),
            (now.late_s > self.contract.control_dt_s, f"messages come {now.late_s * 1e3:.0f} ms late"),
        )
        if self._link_check_s > -math.inf and (found := [text for wrong, text in faults if wrong]):
            self._event("link: " + "; ".join(found))
        self._link_before, self._link_check_s = replace(now), now_s + LINK_CHECK_S

    def _full(self, driven: FloatArray) -> FloatArray:
        """(J,) with 0 for joints without a motor."""
        full = np.zeros(len(self.contract.joint_names))
        full[self._driven] = driven
        return full

    def _write(
        self,
        tick: int,
        deadline_s: float,
        woke_s: float,
        sent_s: float,
        policy_s: float,
        reading: Reading | None,
        decision: Decision,
        truth: Any,
    ) -> None:
        assert self._log is not None
        sent = flat(decision.command) | {"policy_target": self._policy_target}
        judged = {
            "state": str(self.state),
            "supervisor": decision.state,
            "reasons": decision.reasons,
            "present": self.supervisor.present,
        }
        timing = {
            "tick": tick,
            "deadline_s": deadline_s,
            "woke_s": woke_s,
            "sent_s": sent_s,
            "policy_s": policy_s,
            "late_s": sent_s - deadline_s,
            "missed": self._missed_before,
        }
        messages: list[Message] = [
            ("/target", sent_s, sent),
            ("/decision", sent_s, judged),
            ("/command", sent_s, {"command": self.command}),
            ("/timing", sent_s, timing),
        ]
        if reading is not None:
            content = flat(reading)
            if reading.remote is not None:
                content["remote"] = flat(reading.remote)
            messages.append(("/reading", woke_s, content))
        if truth is not None:
            messages.append(("/truth", woke_s, flat(truth)))
        self._log.put(*messages)

    def _metadata(self) -> dict[str, str]:
        return {
            "robot": self.contract.robot,
            "task": self.contract.task,
            "bundle": str(self.bundle.path),
            "contract_sha256": self.contract.sha256,
            "link": type(self.link).__name__,
            "command_line": " ".join(sys.argv),
            "started_unix_s": str(time.time()),
            "started_clock_s": str(self._clock.now_s()),
        }

    def _summary(self, seconds: float) -> Summary:
        timing = self.timing
        results = [r for source in self._sources for r in getattr(source, "results", ())]
        return Summary(
            ticks=len(timing.tick_s),
            seconds=seconds,
            missed_deadlines=timing.missed,
            skipped_ticks=timing.skipped,
            tick_ms=timing.percentiles_ms("tick_s"),
            policy_ms=timing.percentiles_ms("policy_s"),
            wake_late_ms=timing.percentiles_ms("wake_late_s"),
            state=str(self.state),
            reasons=tuple(self._reasons),
            limited_ticks=self._limited,
            link=flat(self.link.health),
            log=self._log.path if self._log is not None else None,
            log_dropped=self._log.dropped if self._log is not None else 0,
            steps=tuple(results),
        )


def _enter_realtime(fifo_priority: int | None) -> Any:
    """Shorten thread switches and, if asked for and allowed, schedule in real time; returns what undoes it."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    before = None
    if fifo_priority is not None and hasattr(os, "sched_setscheduler"):
        with contextlib.suppress(OSError):  # without the permission the loop runs as any other process
            before = os.sched_getscheduler(0), os.sched_getparam(0)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(fifo_priority))

    def restore() -> None:
        sys.setswitchinterval(interval_s)
        if before is not None:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, *before)

    return restore
