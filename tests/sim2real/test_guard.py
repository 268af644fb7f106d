"""The guard: its decisions one by one, and real processes on DDS with a separate subscriber on the wire."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.guard import Guard
from sim2real.guard_client import (
    Frame,
    FrameError,
    FrameReader,
    GuardClient,
    GuardLost,
    GuardProcess,
    Kind,
    pack_command,
    start_guard,
    unpack_command,
)
from sim2real.limits import command_violation
from sim2real.links.link import Command, LinkError
from sim2real.links.unitree import UnitreeLink
from sim2real.links.unitree_commands import MOTOR_ORDER
from sim2real.links.unitree_dds import LOW_CMD_TOPIC, EncodedReader, EncodedWriter, make_participant
from sim2real.links.unitree_types import LowCmd_
from sim2real.links.unitree_wire import LOW_CMD, decode, encode, start_low_cmd
from sim2real.safety import SafetyLimits

J = 12
HOME = np.tile([0.0, 0.9, -1.8], 4)
LIMITS = SafetyLimits(
    joint_names=MOTOR_ORDER,
    position_lower_rad=(-1.0, -1.5, -2.7) * 4,
    position_upper_rad=(1.0, 3.4, -0.8) * 4,
    velocity_rad_s=(30.0, 30.0, 20.0) * 4,
    torque_nm=(23.7, 23.7, 45.0) * 4,
    target_rate_rad_s=(10.0,) * J,
    kp_max=(40.0,) * J,
    kd_max=(2.0,) * J,
    control_dt_s=0.02,
)
HOLD = Command.position(HOME, 30.0, 1.0)


def wait_until(condition: Callable[[], object], timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.002)


# Decisions, with a list in the place of the robot and a clock of the test's own.


class Bench:
    def __init__(self) -> None:
        self.sent: list[Command] = []
        self.guard = Guard(LIMITS, self.sent.append, silence_s=0.06)
        self.guard.connected()

    def command(self, sequence: int, now_s: float, command: Command = HOLD, age_s: float = 0.0) -> None:
        self.guard.receive(Frame(Kind.COMMAND, sequence, now_s - age_s, pack_command(command)), now_s)

    def clear(self, sequence: int, by: str) -> None:
        self.guard.receive(Frame(Kind.CLEAR, sequence, 0.0, by.encode()), 0.0)

    @property
    def state(self) -> str:
        return self.guard.status.state

    def assert_damping(self, code: str) -> None:
        assert self.state == "damping" and self.guard.status.reason.startswith(code), self.guard.status
        last = self.sent[-1]
        assert not last.kp.any() and not last.joint_torque.any() and (last.kd == LIMITS.damping_kd).all()
        assert command_violation(LIMITS, last) is None


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_nothing_is_sent_before_the_first_command(bench: Bench) -> None:
    bench.guard.tick(1.0)
    bench.guard.disconnected()
    bench.guard.tick(9.0)
    assert bench.state == "idle" and bench.sent == []


def test_a_command_is_passed_at_once_and_repeated(bench: Bench) -> None:
    bench.command(1, 1.0)
    bench.guard.tick(1.002)
    bench.guard.tick(1.004)
    assert bench.state == "passing" and len(bench.sent) == 3
    np.testing.assert_array_equal(bench.sent[-1].joint_target, HOME)


def test_silence_damps_after_the_limit_and_stays(bench: Bench) -> None:
    bench.command(1, 1.0)
    bench.guard.tick(1.059)
    assert bench.state == "passing"
    bench.guard.tick(1.061)
    bench.assert_damping("silence")
    bench.command(2, 1.07)
    bench.guard.tick(1.072)
    bench.assert_damping("silence")


def with_value(name: str, value: float) -> Command:
    part = getattr(HOLD, name).copy()
    part[4] = value
    return replace(HOLD, **{name: part})


@pytest.mark.parametrize(
    "bad",
    [
        with_value("joint_target", np.nan),
        with_value("joint_target", 3.6),
        with_value("joint_target", 1.4),  # 0.5 rad in one period, limit 0.2 rad
        with_value("kp", 41.0),
        with_value("kd", -0.1),
        with_value("joint_torque", np.inf),
        with_value("joint_velocity_target", -31.0),
        Command.position(np.zeros(3), 1.0, 1.0),
    ],
)
def test_a_bad_command_damps(bench: Bench, bad: Command) -> None:
    bench.command(1, 1.0)
    bench.command(2, 1.02, bad)
    bench.assert_damping("bad_command")


def test_sequence_numbers_must_rise_and_late_commands_do_not_count(bench: Bench) -> None:
    bench.command(1, 1.0)
    bench.command(2, 1.02, with_value("kp", 10.0), age_s=0.07)  # too late to be acted on
    assert bench.state == "passing" and bench.sent[-1].kp[4] == 30.0
    bench.guard.tick(1.065)
    bench.assert_damping("silence")
    other = Bench()
    other.command(5, 1.0)
    other.command(5, 1.02)
    other.assert_damping("bad_command: number 5 after 5")


def test_a_gap_in_the_sequence_allows_a_longer_step(bench: Bench) -> None:
    bench.command(1, 1.0)
    bench.command(4, 1.05, with_value("joint_target", 1.4))  # 0.5 rad in three periods, limit 0.6 rad
    assert bench.state == "passing"


def test_clearing_needs_a_name_and_no_foreign_publisher_and_damps_until_the_next_command(
    bench: Bench,
) -> None:
    bench.command(1, 1.0)
    bench.guard.see_publishers(("writer 7",))
    bench.assert_damping("publisher: writer 7")
    bench.clear(2, "Ada")
    assert bench.state == "damping" and "writer 7" in bench.guard.status.refusal
    bench.guard.see_publishers(())
    bench.clear(3, "")
    assert bench.state == "damping" and "name" in bench.guard.status.refusal
    bench.clear(4, "Ada")
    assert bench.state == "ready" and bench.guard.status.refusal == "" and bench.guard.status.answers == 4
    bench.guard.tick(1.1)
    assert not bench.sent[-1].kp.any() and bench.sent[-1].kd.all()
    bench.command(5, 2.0, with_value("joint_target", 1.4))  # a new start: no step to compare with
    assert bench.state == "passing" and bench.sent[-1].joint_target[4] == 1.4


def test_a_runtime_that_leaves_is_damped_for(bench: Bench) -> None:
    bench.command(1, 1.0)
    bench.guard.disconnected()
    bench.assert_damping("disconnected")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=40), st.booleans()), max_size=6), st.integers(0, 2**32 - 1))
def test_whatever_arrives_only_commands_within_the_limits_leave(noise: list[tuple[bytes, bool]], seed: int) -> None:
    rng = np.random.default_rng(seed)
    bench = Bench()
    for sequence, (data, whole) in enumerate(noise, start=1):
        payload = bytearray(pack_command(HOLD))
        if whole:
            start = int(rng.integers(0, len(payload) - len(data) + 1))
            payload[start : start + len(data)] = data
        now_s = 1.0 + 0.02 * sequence
        bench.guard.receive(Frame(Kind.COMMAND, sequence, now_s, bytes(payload if whole else data)), now_s)
        bench.guard.tick(now_s + 0.001)
    for command in bench.sent:
        assert command_violation(LIMITS, command) is None


@given(st.lists(st.binary(max_size=100), max_size=5), st.integers(1, 50))
def test_frames_survive_any_cutting(payloads: list[bytes], step: int) -> None:
    frames = [Frame(Kind.COMMAND, number, 0.5, payload) for number, payload in enumerate(payloads)]
    stream = b"".join(frame.pack() for frame in frames)
    reader = FrameReader()
    received = [frame for start in range(0, len(stream), step) for frame in reader.feed(stream[start : start + step])]
    assert received == frames


def test_a_garbled_frame_is_told() -> None:
    data = bytearray(Frame(Kind.COMMAND, 1, 0.0, pack_command(HOLD)).pack())
    data[60] ^= 1
    with pytest.raises(FrameError, match="damaged"):
        FrameReader().feed(bytes(data))
    with pytest.raises(FrameError, match="not a frame"):
        FrameReader().feed(b"GET / HTTP/1.1\r\nHost: robot\r\n")
    with pytest.raises(FrameError, match="24 bytes; 12 joints need 480"):
        unpack_command(bytes(24), J)


# Real processes, real DDS on loopback.


@pytest.fixture
def domain() -> int:
    return random.SystemRandom().randint(1, 230)


class Wire:
    """A subscriber of its own on the command topic; checks every message against the limits."""

    def __init__(self, domain: int) -> None:
        self.participant = make_participant("lo", domain)
        self._reader = EncodedReader(self.participant, LOW_CMD_TOPIC, LowCmd_, depth=2000)
        self.messages: list[tuple[float, Command]] = []

    def listen(self, duration_s: float) -> list[tuple[float, Command]]:
        """Messages of the next `duration_s`."""
        start = len(self.messages)
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0:
            self._reader.wait(left_s)
            for data in self._reader.take():
                motors = decode(data, LOW_CMD)["motor_cmd"][:J]
                command = Command(*(motors[name].astype(np.float64) for name in ("q", "dq", "kp", "kd", "tau")))
                assert command_violation(LIMITS, command) is None
                self.messages.append((time.monotonic(), command))
        return self.messages[start:]

    def until_damping(self, timeout_s: float = 3.0) -> float:
        """Time of the first damping message from now on."""
        end_s = time.monotonic() + timeout_s
        while time.monotonic() < end_s:
            for when_s, command in self.listen(0.005):
                if is_damping(command):
                    return when_s
        raise AssertionError("no damping on the wire")


def is_damping(command: Command) -> bool:
    return not command.kp.any() and not command.joint_torque.any() and bool((command.kd == 5.0).all())


@pytest.fixture
def wire(domain: int) -> Wire:
    return Wire(domain)


SILENCE_S = 0.25  # long enough for a sender on a loaded machine


@pytest.fixture
def guard(domain: int, tmp_path: Path) -> Iterator[GuardProcess]:
    guard = start_guard(LIMITS, interface="lo", domain=domain, silence_s=SILENCE_S, log_path=tmp_path / "guard.log")
    yield guard
    guard.stop()
    assert guard.process.returncode is not None


SENDER = """
import json, sys, time
import numpy as np
from sim2real.guard_client import GuardClient
from sim2real.links.link import Command
client = GuardClient(sys.argv[1])
command = Command.position(np.tile([0.0, 0.9, -1.8], 4), 30.0, 1.0)
while True:
    client.send(command)
    print("sent", flush=True)
    time.sleep(0.02)
"""


def start_sender(guard: GuardProcess) -> subprocess.Popen[str]:
    """A process of its own that streams commands through the guard, in the place of the runtime."""
    guard.client.close()
    sender = subprocess.Popen(
        [sys.executable, "-c", SENDER, str(guard.socket_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert sender.stdout is not None and sender.stdout.readline() == "sent\n"
    return sender


def test_killing_the_sender_brings_damping_that_stays(guard: GuardProcess, wire: Wire) -> None:
    sender = start_sender(guard)
    try:
        stream = wire.listen(0.5)
        assert len(stream) > 60 and all((c.kp == 30.0).all() for _, c in stream)  # repeated at the robot's rate
    finally:
        killed_s = time.monotonic()
        sender.kill()
        sender.wait()
    damped_s = wire.until_damping()
    assert damped_s - killed_s < 0.2  # the closed socket tells at once; the rest allows for a loaded machine
    after = wire.listen(0.5)
    assert len(after) > 60 and all(is_damping(command) for _, command in after)
    gaps_s = np.diff([when_s for when_s, _ in after])
    assert np.median(gaps_s) < 0.01
    assert "damping disconnected: the runtime is gone" in guard.log_path.read_text()

    # A new runtime is not obeyed until a person clears, and damping goes on until its first command after
    # that.
    client = GuardClient(guard.socket_path)
    try:
        wait_until(lambda: client.status().state == "damping")
        client.send(HOLD)
        assert all(is_damping(command) for _, command in wire.listen(0.1))
        with pytest.raises(PermissionError, match="name"):
            client.clear(" ")
        client.clear("Ada")
        assert all(is_damping(command) for _, command in wire.listen(0.1))
        client.send(HOLD)
        assert (wire.listen(0.05)[-1][1].kp == 30.0).all()
    finally:
        client.close()


def test_a_stopped_sender_brings_damping_within_the_silence_limit(guard: GuardProcess, wire: Wire) -> None:
    sender = start_sender(guard)
    try:
        assert not any(is_damping(command) for _, command in wire.listen(0.3))
        os.kill(sender.pid, signal.SIGSTOP)  # alive and connected, but silent
        stopped_s = time.monotonic()
        delay_s = wire.until_damping() - stopped_s
        # Counted from the last command, which was up to one period (and some load) earlier.
        assert SILENCE_S - 0.1 < delay_s < SILENCE_S + 0.25
        os.kill(sender.pid, signal.SIGCONT)
        assert all(is_damping(command) for _, command in wire.listen(0.2)[1:])
    finally:
        sender.kill()
        sender.wait()
    assert "damping silence: no command for 0.2" in guard.log_path.read_text()


def test_a_guard_that_was_held_up_does_not_take_its_own_pause_for_silence(guard: GuardProcess, wire: Wire) -> None:
    sender = start_sender(guard)
    try:
        wire.listen(0.3)
        for _ in range(5):
            os.kill(guard.process.pid, signal.SIGSTOP)
            time.sleep(SILENCE_S + 0.05)
            os.kill(guard.process.pid, signal.SIGCONT)
            after = wire.listen(0.2)
            assert len(after) > 50 and not any(is_damping(command) for _, command in after)
    finally:
        sender.kill()
        sender.wait()


def test_a_bad_command_never_reaches_the_wire(guard: GuardProcess, wire: Wire) -> None:
    guard.client.send(HOLD)
    guard.client.send(with_value("joint_target", 50.0))
    messages = wire.listen(0.3)
    assert messages and is_damping(messages[-1][1])
    assert "bad_command: joint_target of FL_thigh is 50" in guard.client.status().reason


def test_a_second_publisher_is_answered_with_damping(guard: GuardProcess, wire: Wire) -> None:
    intruder = EncodedWriter(wire.participant, LOW_CMD_TOPIC, LowCmd_)
    wait_until(lambda: guard.client.status().foreign_publishers)
    assert str(intruder.guid) in guard.client.status().foreign_publishers[0]
    guard.client.send(HOLD)
    wait_until(lambda: guard.client.status().state == "damping")
    assert guard.client.status().reason.startswith("publisher: writer")
    with pytest.raises(PermissionError, match="publisher"):
        guard.client.clear("Ada")
    del intruder
    wait_until(lambda: not guard.client.status().foreign_publishers)
    guard.client.clear("Ada")


def test_sigterm_damps_before_leaving(guard: GuardProcess, wire: Wire) -> None:
    sender = start_sender(guard)
    try:
        wire.listen(0.2)
        guard.process.send_signal(signal.SIGTERM)
        asked_s = time.monotonic()
        messages = wire.listen(1.0)
    finally:
        sender.kill()
        sender.wait()
    damping = [when_s for when_s, command in messages if is_damping(command)]
    assert damping[0] - asked_s < 0.2 and 0.3 < damping[-1] - damping[0] < 0.8
    assert is_damping(messages[-1][1])
    assert guard.process.wait(2.0) == 0


def test_ctrl_c_does_not_end_the_guard_and_its_death_is_noticed(guard: GuardProcess) -> None:
    guard.process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    guard.client.send(HOLD)
    assert guard.process.poll() is None
    guard.process.kill()
    guard.process.wait()

    def lost() -> bool:
        try:
            guard.client.send(HOLD)
            guard.client.status()
        except GuardLost:
            return True
        return False

    wait_until(lost, 1.0)
    with pytest.raises(GuardLost, match="guard"):
        guard.client.clear("Ada")


def test_a_guard_that_cannot_start_says_why(domain: int) -> None:
    with pytest.raises(GuardLost, match="guard: cannot start: no network interface 'nope0'"):
        start_guard(LIMITS, interface="nope0", domain=domain)


# The whole link, with a robot that only publishes its state.


@pytest.fixture
def linked(domain: int, wire: Wire) -> Iterator[UnitreeLink]:
    from tests.sim2real.test_unitree_wire import Robot

    robot = Robot(domain, ["normal"])
    link = UnitreeLink(LIMITS, interface="lo", domain=domain, guard_silence_s=0.25)
    try:
        link.open()
        yield link
    finally:
        link.close()
        robot.close()


def test_a_killed_guard_is_replaced_by_the_links_own_damping(linked: UnitreeLink, wire: Wire) -> None:
    for _ in range(5):
        linked.send(HOLD)
        time.sleep(0.02)
    assert (wire.listen(0.02)[-1][1].kp == 30.0).all()
    assert linked.doubts() == () and linked.foreign_publishers() == ()
    assert linked.guard_pid is not None
    os.kill(linked.guard_pid, signal.SIGKILL)
    time.sleep(0.05)
    assert any("guard" in doubt for doubt in linked.doubts())
    refused = 0
    for _ in range(30):
        try:
            linked.send(HOLD)
        except LinkError as error:
            refused += 1
            assert "damps the robot by itself" in str(error)
        time.sleep(0.01)
    assert refused == 30
    messages = wire.listen(0.1)
    assert messages and all(is_damping(command) for _, command in messages[-5:])
    with pytest.raises(LinkError, match="open the link anew"):
        linked.clear("Ada")
    assert any("guard" in note for note in linked.health.notes)


def test_a_new_link_works_after_everything_was_killed(linked: UnitreeLink, domain: int) -> None:
    assert linked.guard_pid is not None
    os.kill(linked.guard_pid, signal.SIGKILL)
    again = UnitreeLink(LIMITS, interface="lo", domain=domain, guard_silence_s=0.5)
    try:
        again.open()  # waits until the dead guard's writer is forgotten
        assert not any("can write commands" in note for note in again.health.notes)
        again.send(HOLD)
        time.sleep(0.15)
        assert again.foreign_publishers() == () and again.doubts() == ()
    finally:
        again.close()


def test_a_hung_guard_is_replaced_too_and_damps_when_it_wakes(linked: UnitreeLink, wire: Wire) -> None:
    linked.send(HOLD)
    assert (wire.listen(0.05)[-1][1].kp == 30.0).all()
    pid = linked.guard_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(linked.doubts)
        assert "silent" in linked.doubts()[0]
        for _ in range(20):
            with pytest.raises(LinkError, match="by itself"):
                linked.send(HOLD)
            time.sleep(0.01)
        assert is_damping(wire.listen(0.1)[-1][1])
    finally:
        os.kill(pid, signal.SIGCONT)
    awake = wire.listen(0.3)
    assert len(awake) > 50 and all(is_damping(command) for _, command in awake[-50:])


def test_the_link_tells_why_its_guard_damps_and_clears_it(linked: UnitreeLink, wire: Wire) -> None:
    linked.send(HOLD)
    wait_until(lambda: linked.doubts())  # silence
    assert linked.doubts()[0].startswith("the guard damps: silence")
    assert is_damping(wire.listen(0.05)[-1][1])
    linked.clear("Ada")
    assert linked.doubts() == ()
    linked.send(HOLD)
    assert (wire.listen(0.05)[-1][1].kp == 30.0).all()


def test_encoding_for_the_wire_test_itself() -> None:
    """The subscriber's checks can fail: a command beyond the limits is caught by them."""
    message = start_low_cmd()
    message["motor_cmd"]["q"][:J] = HOME
    message["motor_cmd"]["dq"][:J] = 0.0
    message["motor_cmd"]["kp"][0] = 50.0
    motors = decode(encode(message), LOW_CMD)["motor_cmd"][:J]
    command = Command(*(motors[name].astype(np.float64) for name in ("q", "dq", "kp", "kd", "tau")))
    assert command_violation(LIMITS, command) == "kp of FR_hip is 50, outside its limits"
