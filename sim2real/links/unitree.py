"""The link to a Unitree Go2 over DDS, real or simulated behind the same protocol.

`open` finds the robot, takes its motors over from its motion service and starts the guard, which then owns
the command topic.  If the guard dies or hangs, the link publishes damping by itself, again and again as
`send` is called.  Without a guard (`use_guard=False`) the link owns the topic: for tests and measurements.

Only simulated robots have been driven through this link.  Not known about a real Go2: what it does when
commands stop, and whether its own services keep a writer on the command topic after they released the
motors; such a writer would show up in `foreign_publishers`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sim2real.guard_client import GuardLost, GuardProcess, GuardStatus, start_guard
from sim2real.limits import SafetyLimits
from sim2real.links.link import Command, FloatArray, LinkError, LinkHealth, Reading
from sim2real.links.unitree_commands import CommandPublisher, motor_indices
from sim2real.links.unitree_dds import (
    LEASE_S,
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    EncodedReader,
    PublisherWatch,
    make_participant,
)
from sim2real.links.unitree_motion_switcher import MotionSwitcher
from sim2real.links.unitree_readings import ReadingMaker
from sim2real.links.unitree_ticks import TickClock
from sim2real.links.unitree_types import LowState_
from sim2real.links.unitree_wire import LOW_STATE, Message, decode, tick_of, undamaged

GUARD_SILENT_S = 0.5
"""A guard that was not heard for this long counts as gone; it speaks every 50 ms."""
_QUEUE = 32


class UnitreeLink:
    """A `Link` to one Go2.  For one thread."""

    def __init__(
        self,
        limits: SafetyLimits,
        *,
        interface: str | None = "lo",
        domain: int = 0,
        use_guard: bool = True,
        guard_silence_s: float | None = None,
        guard_log: Path | None = None,
        connect_timeout_s: float = 10.0,
    ) -> None:
        """`limits` names the joints, in policy order, and is what the guard checks.  `interface` None uses
        CYCLONEDDS_URI.  `guard_silence_s` None is `limits.stale_s`: see `sim2real.guard`.  Raises LinkError if
        a joint is not one of the robot's."""
        self.health = LinkHealth()
        self._limits = limits
        self._make_reading = ReadingMaker(motor_indices(limits.joint_names))
        self._interface = interface
        self._domain = domain
        self._use_guard = use_guard
        self._guard_silence_s = guard_silence_s
        self._guard_log = guard_log
        self._connect_timeout_s = connect_timeout_s
        self._reader: EncodedReader | None = None
        self._publisher: CommandPublisher | None = None  # only without a guard, or after its death
        self._guard: GuardProcess | None = None
        self._guard_lost = ""
        self._ticks = TickClock()
        self._target: FloatArray = np.zeros(len(limits.joint_names))

    @property
    def joint_names(self) -> Sequence[str]:
        """Joint names in policy order."""
        return self._limits.joint_names

    @property
    def guard_pid(self) -> int | None:
        """Process of the guard; None without one."""
        return self._guard.process.pid if self._guard else None

    def open(self) -> None:
        """Find the robot, release its motors from its own service, start the guard.  Raises LinkError.

        The robot must hang or lie: it goes limp when its service lets go.
        """
        self._participant = make_participant(self._interface, self._domain)
        self._reader = EncodedReader(self._participant, LOW_STATE_TOPIC, LowState_, depth=_QUEUE)
        if self.read(self._connect_timeout_s) is None:
            raise LinkError(
                f"no robot: nothing usable on {LOW_STATE_TOPIC} within {self._connect_timeout_s} s "
                f"({self.health.damaged} damaged messages); is it on, and are interface "
                f"{self._interface!r} and domain {self._domain} right?"
            )
        released = MotionSwitcher(self._participant).release(self._connect_timeout_s)
        self.health.notes.append(f"released the motors from {', '.join(released) or 'nobody'}")
        self._wait_for_others_to_leave()
        if self._use_guard:
            try:
                self._guard = start_guard(
                    self._limits,
                    interface=self._interface,
                    domain=self._domain,
                    silence_s=self._guard_silence_s,
                    log_path=self._guard_log,
                )
            except GuardLost as error:
                raise LinkError(str(error)) from error
        else:
            self._own_topic()
        self._wait_for_robots_ear()
        self._newest(self._reader.take())
        self._ticks.stamp(time.monotonic())
        self._ticks.lost = self.health.lost = 0  # what passed while nobody read was not lost

    def read(self, timeout_s: float = 0.0) -> Reading | None:
        """The newest undamaged reading that was not returned before; None if none comes within `timeout_s`.

        It is stamped with the time of this call; how late it came by the robot's own counter is in `health`
        (`unitree_ticks`).  A counter that jumps forward gives one stamp in the future, which latches damping.
        """
        if self._reader is None:
            raise LinkError("the link is not open; call open() first")
        deadline_s = time.monotonic() + timeout_s
        while True:
            newest = self._newest(self._reader.take())
            now_s = time.monotonic()
            if newest is not None:
                stamp_s = self._ticks.stamp(now_s)
                self.health.late_s = self._ticks.late_s
                return self._make_reading(newest, stamp_s)
            if now_s >= deadline_s:
                return None
            self._reader.wait(deadline_s - now_s)

    def send(self, command: Command) -> None:
        """Send one command.  If the guard is gone, publish damping instead and raise LinkError, each time."""
        if self._guard is not None and not self._guard_lost:
            try:
                self._guard.client.send(command)
                self.health.sent += 1
                self._target = command.joint_target
                return
            except GuardLost as error:
                self._lose_guard(error)
        if self._guard_lost:
            self._own_topic().publish(Command.damping(self._target, self._limits.damping_kd))
            raise LinkError(f"{self._guard_lost}; the link damps the robot by itself")
        if self._publisher is None:
            raise LinkError("the link is not open; call open() first")
        self._publisher.publish(command)
        self.health.sent += 1
        self._target = command.joint_target

    def foreign_publishers(self) -> tuple[str, ...]:
        """Everybody else who can write on the command topic."""
        status = self._guard_status()
        if status is not None:
            return status.foreign_publishers
        if self._publisher is not None and not self._guard_lost:
            return self._publisher.foreign_publishers()
        return ()

    def doubts(self) -> tuple[str, ...]:
        """Why the robot is damped whatever is sent: the guard latched, fell silent or is gone."""
        status = self._guard_status()
        if self._guard_lost:
            return (self._guard_lost,)
        if status is None or self._guard is None:
            return ()
        return (f"the guard damps: {status.reason}",) if status.state == "damping" else ()

    def clear(self, by: str) -> None:
        """Ask the guard to leave its latched damping.  Raises LinkError if it refuses, is slow or gone.

        Clear the link first: a guard that damps is a doubt of the supervisor, which refuses while it stands.
        Nothing moves in between, because the supervisor goes on sending damping.
        """
        if self._guard_lost:
            raise LinkError(f"{self._guard_lost}; it cannot be cleared, open the link anew")
        if self._guard is not None:
            try:
                self._guard.client.clear(by)
            except GuardLost as error:
                self._lose_guard(error)
                raise LinkError(self._guard_lost) from error
            except (PermissionError, TimeoutError) as error:
                raise LinkError(f"the guard keeps damping: {error}") from error

    def close(self) -> None:
        """Damp, end the guard (which damps for another half second), disconnect.  Safe to call twice."""
        damping = Command.damping(self._target, self._limits.damping_kd)
        if self._guard is not None:
            with contextlib.suppress(LinkError):
                self.send(damping)
            self._guard.stop()
        elif self._publisher is not None:
            for _ in range(5):
                with contextlib.suppress(LinkError):
                    self._publisher.publish(damping)
                time.sleep(0.002)
        self._guard = self._publisher = self._reader = None

    def _newest(self, messages: list[bytes]) -> Message | None:
        """The newest whole message by the robot's counter; counts and drops the others."""
        newest: bytes | None = None
        for data, good in zip(messages, undamaged(messages, LOW_STATE), strict=True):
            self.health.received += 1
            if not good:
                self.health.damaged += 1
                continue
            tick = tick_of(data)
            if self._ticks.is_late(tick):
                self.health.out_of_order += 1
                continue
            self._ticks.count(tick)
            newest = data
        self.health.lost = self._ticks.lost
        return None if newest is None else decode(newest, LOW_STATE, check_crc=False)

    def _own_topic(self) -> CommandPublisher:
        if self._publisher is None:
            self._publisher = CommandPublisher(self.joint_names, self._interface, self._domain, self._participant)
        return self._publisher

    def _wait_for_others_to_leave(self) -> None:
        """Give DDS time to forget a killed guard's writer; one that lives shows up as foreign."""
        watch = PublisherWatch(self._participant, LOW_CMD_TOPIC)
        deadline_s = time.monotonic() + LEASE_S + 1.0
        while (others := watch.foreign(())) and time.monotonic() < deadline_s:
            time.sleep(0.02)
        self.health.notes += [f"{name} can write commands, too" for name in others]

    def _wait_for_robots_ear(self) -> None:
        """Wait until commands reach somebody: DDS drops what is written before a reader is found."""
        deadline_s = time.monotonic() + self._connect_timeout_s
        while time.monotonic() < deadline_s:
            status = self._guard_status()
            if (status.readers if status else self._publisher.readers() if self._publisher else 0) > 0:
                return
            if self._guard_lost:
                break
            time.sleep(0.01)
        raise LinkError(
            self._guard_lost
            or f"nobody listens on the command topic after {self._connect_timeout_s} s, though the robot "
            "speaks; is it in a mode that takes low-level commands?"
        )

    def _guard_status(self) -> GuardStatus | None:
        if self._guard is None or self._guard_lost:
            return None
        try:
            status = self._guard.client.status()
            if (silent_s := self._guard.client.silent_s()) > GUARD_SILENT_S:
                raise GuardLost(f"the guard has been silent for {silent_s:.2f} s")
            return status
        except GuardLost as error:
            self._lose_guard(error)
            return None

    def _lose_guard(self, error: GuardLost) -> None:
        """From now on this link damps by itself; a guard that wakes again sees two writers and damps, too."""
        self._guard_lost = str(error)
        self.health.notes.append(self._guard_lost)
