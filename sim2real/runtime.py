"""The runtime: one fixed-rate loop that takes a bundle to a robot, through the supervisor, and logs every tick.

Ticks lie on absolute deadlines t0 + k * control_dt_s of a monotonic clock, so lateness never adds up.  A
command that leaves later than one period after its deadline is a missed deadline.  Late ticks are caught up
one after the other; only after a pause longer than the supervisor forgives does the schedule start anew, and
the ticks that fell out are counted and logged.  What is sent in which state says `sim2real.states`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim2real.bundle import Bundle
from sim2real.clock import Clock, MonotonicClock
from sim2real.commands import CommandSource, ProgramSource, Situation, State, close_all
from sim2real.limits import SafetyLimits
from sim2real.links.link import FloatArray, Link, LinkError, Reading
from sim2real.log import LogWriter, flat, texts
from sim2real.realtime import PRIORITY, no_garbage_collection, real_time
from sim2real.runtime_log import LinkWatch, Tick, open_log
from sim2real.safety import Decision, Supervisor
from sim2real.states import States
from sim2real.timing import Summary, Timing

FIRST_READING_S = 2.0
"""So long the robot may take to say something after the link is open."""
_ROUNDING_S = 1e-9


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
        fifo_priority: int = PRIORITY,
        limits: SafetyLimits | None = None,
    ) -> None:
        """`operator` is the name under which damping is cleared.  `clock` defaults to the link's own `clock`,
        if it has one, else the machine's.  `fifo_priority` is asked of Linux for the machine's clock, 0 for
        none.  `limits` replaces the contract's, for a stricter supervisor.

        Raises BundleError if the link's joints are not the bundle's.
        """
        self.bundle, self.link = bundle, link
        contract = self.contract = bundle.contract
        contract.check_robot(contract.robot, tuple(link.joint_names))
        self.commands = ProgramSource()
        self._sources: list[CommandSource] = [*sources, self.commands]
        self._log_path = log
        link_clock: Clock | None = getattr(link, "clock", None)
        self._clock: Clock = clock or link_clock or MonotonicClock()
        self._simulated_time = not isinstance(self._clock, MonotonicClock)
        self._priority, self._scheduling = fifo_priority, ""
        self._truth = getattr(link, "truth", None)
        self.supervisor = Supervisor(limits or contract.safety)
        self.states = States(bundle, link, self.supervisor, operator, self._event)
        self.timing = Timing()
        self.decision: Decision | None = None
        self._low = np.array([entry.low for entry in contract.commands])
        self._high = np.array([entry.high for entry in contract.commands])
        self._unseen: Reading | None = None  # what came before the first tick
        self._missed_before = False
        self._limited = 0
        self._log: LogWriter | None = None
        self._link_watch = LinkWatch(link, contract.control_dt_s, self._event)

    @property
    def state(self) -> State:
        """The state now."""
        return self.states.now

    @property
    def command(self) -> FloatArray:
        """Values of the reading `command` now."""
        return self.states.command

    @property
    def reading(self) -> Reading | None:
        """The newest reading."""
        return self.states.reading

    def stop(self, source: str) -> None:
        """Emergency stop, from any thread: damping from the next tick on, latched."""
        self.supervisor.stop(source)

    def run(self, duration_s: float | None = None) -> Summary:
        """Open the link, loop until a source quits or `duration_s` has passed, damp, close everything.

        Raises LinkError if the robot cannot be reached; whatever is raised, the link is closed, damped.
        """
        seconds = 0.0
        with contextlib.ExitStack() as ending:
            ending.callback(close_all, self._sources)
            if not self._simulated_time:
                self._scheduling = ending.enter_context(real_time(self._priority))
            try:
                if self._log_path is not None:
                    self._log = open_log(
                        self._log_path, self.bundle, self.link, self._clock.now_s(), patient=self._simulated_time
                    )
                seconds = self._drive(duration_s)
            finally:
                try:
                    self.link.close()
                finally:
                    summary = self._summary(seconds)
                    if self._log is not None:
                        self._log.close(texts(summary))
        return summary

    def _drive(self, duration_s: float | None) -> float:
        """Open the link and loop; returns for how long [s]."""
        self.link.open()
        for note in [*([self._scheduling] if self._scheduling else []), *self.link.health.notes]:
            self._event(note)
        self._unseen = self.link.read(FIRST_READING_S)
        if self._unseen is None:
            raise LinkError(f"the robot said nothing for {FIRST_READING_S} s after it was connected")
        with no_garbage_collection():
            began_s, ended_s = self._loop(duration_s)
        self._link_watch.look(ended_s, last=True)
        return ended_s - began_s

    def _loop(self, duration_s: float | None) -> tuple[float, float]:
        """Tick until it is time to leave; returns when the first deadline was and when the last command left."""
        clock, period_s, states = self._clock, self.contract.control_dt_s, self.states
        began_s = anchor_s = clock.now_s()
        tick = due = 0
        while True:
            deadline_s = anchor_s + due * period_s
            clock.wait_until(deadline_s)
            ended_s = self._tick(tick, deadline_s)
            tick, due = tick + 1, due + 1
            if duration_s is not None and ended_s - began_s >= duration_s:
                states.leave(ended_s, "the time is over")
            if states.leaves_at_s is not None and ended_s >= states.leaves_at_s:
                return began_s, ended_s
            behind = ended_s - (anchor_s + due * period_s)
            if behind > self.supervisor.limits.stale_s:
                # The supervisor has latched damping for this gap: a burst of old ticks would help nobody.
                lost = int(behind / period_s)
                self.timing.skipped += lost
                due += lost
                self._event(f"{behind:.3f} s behind: {lost} ticks fell out")

    def _tick(self, tick: int, deadline_s: float) -> float:
        """One turn of the loop; returns when its command was sent."""
        clock, states, supervisor = self._clock, self.states, self.supervisor
        woke_s, woke = clock.now_s(), time.perf_counter()
        reading, self._unseen = self.link.read() or self._unseen, None
        if reading is not None:
            states.reading = reading
        now_s = clock.now_s()
        truth = self._truth() if self._truth is not None else None
        self._take(Situation(now_s, states.now, states.reading, truth, supervisor.latched))
        before_policy = time.perf_counter()
        proposed = states.propose(now_s)
        policy_s = time.perf_counter() - before_policy
        foreign, doubts = self.link.foreign_publishers(), self.link.doubts()
        decision = supervisor.check(
            reading,
            proposed,
            now_s,
            deadline_missed=self._missed_before,
            foreign_publishers=foreign,
            link_doubts=doubts,
        )
        states.send(decision.command)
        sent_s, sent = clock.now_s(), time.perf_counter()
        # From here on the robot has its command: what follows is slack.
        missed = sent_s > deadline_s + self.contract.control_dt_s + _ROUNDING_S
        self._missed_before = missed
        self.timing.missed += missed
        self.timing.wake_late_s.append(woke_s - deadline_s)
        self.timing.sent_late_s.append(sent_s - deadline_s)
        self.timing.tick_s.append(sent - woke)
        if states.now is State.RUNNING:
            self.timing.policy_s.append(policy_s)
        self._limited += decision.state == "limited"
        self.decision = decision
        states.follow(decision, now_s)
        self._link_watch.look(now_s)
        if self._log is not None:
            done = Tick(
                *(tick, deadline_s, woke_s, sent_s, policy_s, missed, states.now, reading, decision),
                *(supervisor.present, states.policy_target, states.command, truth),
            )
            self._log.put(*done.messages())
        return sent_s

    def _take(self, situation: Situation) -> None:
        """Ask the sources; act on what they want."""
        chosen: FloatArray | None = None
        for source in self._sources:
            request = source.poll(situation)
            if request.action is not None:
                self.states.act(request, situation.time_s)
            if chosen is None and request.command is not None:
                chosen = request.command
        if chosen is not None and chosen.shape == self.states.command.shape:
            known = np.where(np.isnan(chosen), 0.0, chosen)
            self.states.command = np.minimum(np.maximum(known, self._low), self._high)

    def _event(self, text: str) -> None:
        if self._log is not None:
            self._log.put(("/event", self._clock.now_s(), {"state": str(self.states.now), "text": text}))

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
            state=str(self.states.now),
            reasons=tuple(self.states.reasons),
            limited_ticks=self._limited,
            link=flat(self.link.health),
            log=self._log.path if self._log is not None else None,
            log_dropped=self._log.dropped if self._log is not None else 0,
            scheduling=self._scheduling,
            steps=tuple(results),
        )
