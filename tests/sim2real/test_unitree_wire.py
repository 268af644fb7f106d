"""Unitree messages against their definitions and the IDL serializer; motion switcher and link on real DDS."""

from __future__ import annotations

import json
import random
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from cyclonedds.domain import DomainParticipant
from hypothesis import given, settings
from hypothesis import strategies as st

from sim2real.links import unitree_types as types
from sim2real.links import unitree_wire as wire
from sim2real.links.link import Command, Link, LinkError, Remote
from sim2real.links.unitree import UnitreeLink
from sim2real.links.unitree_commands import MOTOR_ORDER, CommandPublisher, low_cmd, motor_indices
from sim2real.links.unitree_dds import (
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    EncodedReader,
    EncodedWriter,
    PublisherWatch,
    make_participant,
    make_topic,
)
from sim2real.links.unitree_motion_switcher import REQUEST_TOPIC, RESPONSE_TOPIC, MotionSwitcher
from sim2real.links.unitree_remote import BUTTONS, decode_remote, encode_remote
from sim2real.safety import SafetyLimits

LOW_CMD_PACKED = "<4B4IH2x" + "B3x5f3I" * 20 + "4B" + "55Bx2I"
LOW_STATE_PACKED = "<4B4IH2x" + "13fb3x" + "B3x7fb3x3I" * 20 + "4BiH4b15H" + "8hI41B3xf2b2x2f4h2I"
IDL_TYPES: dict[str, tuple[Any, np.dtype[Any]]] = {
    "cmd": (types.LowCmd_, wire.LOW_CMD),
    "state": (types.LowState_, wire.LOW_STATE),
}


def random_message(dtype: np.dtype[Any], seed: int) -> wire.Message:
    """Every field of a message with random bits, NaN and infinities included; padding stays zero."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, len(wire.encode_unchecked(np.zeros((), dtype))) - 4, dtype=np.uint8).tobytes()
    return wire.decode(b"\x00\x01\x00\x00" + data, dtype, check_crc=False)


def to_idl(message: wire.Message, idl_type: Any) -> Any:
    """The same message as an IDL object, field by field through Python numbers."""

    def convert(value: Any, hint: Any) -> Any:
        if isinstance(value, np.ndarray) and value.ndim and value.dtype.names is None:
            return value.tobytes() if value.dtype == np.uint8 else value.tolist()
        if isinstance(value, np.ndarray) and value.ndim:
            return [convert(item, hint) for item in value]
        if value.dtype.names is not None:
            return hint(**{name: convert(value[name], HINTS.get(name)) for name in value.dtype.names})
        return value.item()

    return convert(message, idl_type)


HINTS = {
    "motor_cmd": types.MotorCmd_,
    "bms_cmd": types.BmsCmd_,
    "imu_state": types.IMUState_,
    "motor_state": types.MotorState_,
    "bms_state": types.BmsState_,
}


def bitwise_crc(words: tuple[int, ...]) -> int:
    """The checksum as its definition says it, bit by bit."""
    register = 0xFFFFFFFF
    for word in words:
        for bit in range(31, -1, -1):
            top = (register >> 31) ^ (word >> bit & 1)
            register = (register << 1) & 0xFFFFFFFF
            if top:
                register ^= 0x04C11DB7
    return register


def test_checksum_of_the_start_message() -> None:
    assert wire.crc(wire.start_low_cmd()) == 0x06E577CD


def test_start_message() -> None:
    message = types.LowCmd_.deserialize(wire.encode(wire.start_low_cmd()))
    assert (message.head, message.level_flag, message.gpio, message.crc) == (b"\xfe\xef", 0xFF, 0, 0x06E577CD)
    motors: Any = message.motor_cmd
    for motor in motors:
        assert (motor.mode, motor.dq, motor.tau, motor.kp, motor.kd) == (1, 16000.0, 0.0, 0.0, 0.0)
        assert motor.q == np.float32(2.146e9)


@pytest.mark.parametrize("kind, packed, size", [("cmd", LOW_CMD_PACKED, 812), ("state", LOW_STATE_PACKED, 1180)])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_checksum_is_the_definitions_over_the_packed_struct(kind: str, packed: str, size: int, seed: int) -> None:
    _, dtype = IDL_TYPES[kind]
    message = random_message(dtype, seed)
    assert struct.calcsize(packed) == size == dtype.itemsize
    content = bytearray(message.tobytes())
    words = struct.unpack(f"<{size // 4 - 1}I", content[:-4])
    assert wire.crc(message) == bitwise_crc(words)
    # The layout is that of the format string: unpacking and packing again changes nothing.  (Floats as
    # integers, because Python's floats do not keep a signaling NaN.)
    layout = packed.replace("f", "I")
    assert struct.pack(layout, *struct.unpack(layout, content)) == content


@pytest.mark.parametrize("kind", IDL_TYPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_bytes_equal_the_idl_serializers(kind: str, seed: int) -> None:
    idl_type, dtype = IDL_TYPES[kind]
    message = random_message(dtype, seed)
    # Signaling NaNs become quiet on their way through a Python float, so they are left to the next test.
    names = dtype.names or ()
    for name in ("motor_cmd", "motor_state", "imu_state"):
        if name in names:
            for field in message[name].dtype.names or ():
                if message[name].dtype[field].base.kind == "f":
                    message[name][field] = np.nan_to_num(message[name][field])
    for field in ("adc_reel", "power_v", "power_a"):
        if field in names:
            message[field] = np.nan_to_num(message[field])
    data = wire.encode(message)
    obj = to_idl(message, idl_type)
    assert obj.serialize() == data
    assert idl_type.deserialize(data) == obj
    assert wire.decode(obj.serialize(), dtype).tobytes() == message.tobytes()
    with pytest.raises(wire.WireError, match="0007"):
        wire.decode(obj.serialize(use_version_2=True), dtype)


@pytest.mark.parametrize("kind", IDL_TYPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_decode_inverts_encode_for_any_bits(kind: str, seed: int) -> None:
    _, dtype = IDL_TYPES[kind]
    message = random_message(dtype, seed)
    data = wire.encode(message)
    assert wire.decode(data, dtype).tobytes() == message.tobytes()
    assert wire.encode(wire.decode(data, dtype)) == data


@pytest.mark.parametrize("kind", IDL_TYPES)
def test_every_flipped_bit_is_found_by_the_checksum(kind: str) -> None:
    _, dtype = IDL_TYPES[kind]
    message = random_message(dtype, 7)
    data = wire.encode(message)
    rng = random.Random(3)
    padding = 0
    for _ in range(300):
        bit = rng.randrange(32, len(data) * 8)
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded = wire.decode(bytes(damaged), dtype)
        except wire.WireError as error:
            assert "damaged" in str(error)
        else:  # only padding, which carries nothing, may be flipped unnoticed
            assert decoded.tobytes() == message.tobytes()
            padding += 1
    assert padding < 60


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda data: data[:-1], "types differ or it is cut"),
        (lambda data: data + b"\0\0\0\0", "types differ or it is cut"),
        (lambda data: b"\x00\x00" + data[2:], "encapsulation header 0000"),
        (lambda data: b"", "encapsulation header missing"),
    ],
)
def test_what_is_no_message_is_refused(spoil: Any, message: str) -> None:
    with pytest.raises(wire.WireError, match=message):
        wire.decode(spoil(wire.encode(wire.start_low_cmd())), wire.LOW_CMD)


def test_encoding_is_fast_enough_for_the_control_loop() -> None:
    message, start_s = wire.start_low_cmd(), time.process_time()
    for _ in range(200):
        wire.encode(message)
    assert (time.process_time() - start_s) / 200 < 2e-4  # typically 11 µs; the IDL serializer takes 280 µs


def test_joints_are_mapped_by_name() -> None:
    assert motor_indices(MOTOR_ORDER).tolist() == list(range(12))
    policy = [f"{leg}_{part}_joint" for leg in ("FL", "FR", "RL", "RR") for part in ("hip", "thigh", "calf")]
    indices = motor_indices(policy)
    assert indices.tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
    values = np.arange(12.0)
    message = low_cmd(Command(values, values + 20, values + 40, values + 60, values + 80), indices)
    slots = message["motor_cmd"]
    assert slots["q"][:6].tolist() == [3, 4, 5, 0, 1, 2]
    assert (slots["dq"][0], slots["kp"][0], slots["kd"][0], slots["tau"][0]) == (23, 43, 63, 83)
    assert slots["q"][12:].tolist() == [np.float32(wire.NO_POSITION)] * 8 and not slots["kp"][12:].any()


@pytest.mark.parametrize("names", [("FR_hip", "FR_knee"), ("FR_hip", "FR_hip_joint")])
def test_joints_that_no_motor_has_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(LinkError, match="valid are FR_hip, FR_thigh"):
        motor_indices(names)


def test_remote_by_its_bytes() -> None:
    raw = np.zeros(40, np.uint8)
    raw[2], raw[3] = 0b0010_0001, 0b0000_0010  # bits 0 and 5, 9
    raw[4:8] = np.frombuffer(struct.pack("<f", 0.25), np.uint8)
    raw[8:12] = np.frombuffer(struct.pack("<f", -0.5), np.uint8)
    raw[12:16] = np.frombuffer(struct.pack("<f", 7.0), np.uint8)
    raw[20:24] = np.frombuffer(struct.pack("<f", float("nan")), np.uint8)
    expected = Remote(0.25, 0.0, -0.5, 1.0, frozenset({"R1", "L2", "B"}))
    assert decode_remote(raw) == expected


@given(st.sets(st.sampled_from(BUTTONS)), st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4))
def test_remote_round_trip(buttons: set[str], sticks: list[float]) -> None:
    left_x, left_y, right_x, right_y = sticks
    remote = Remote(left_x, left_y, right_x, right_y, frozenset(buttons))
    assert decode_remote(encode_remote(remote)) == remote


def test_remote_with_an_unknown_button() -> None:
    with pytest.raises(wire.WireError, match=r"Z.*valid are R1"):
        encode_remote(Remote(buttons=frozenset({"Z"})))


def test_zlib_is_what_the_checksum_uses() -> None:
    """A fixed vector for the reflection trick: CRC-32/MPEG-2 of '123456789' padded is not zlib's CRC-32."""
    message = np.zeros((), wire.LOW_CMD)
    assert wire.crc(message) == bitwise_crc((0,) * 202) != zlib.crc32(bytes(808))


# Over real DDS on loopback.


@pytest.fixture
def domain() -> int:
    return random.SystemRandom().randint(1, 230)


def wait_until(condition: Any, timeout_s: float = 5.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.005)


def test_encoded_bytes_and_idl_objects_understand_each_other(domain: int) -> None:
    from cyclonedds.pub import DataWriter
    from cyclonedds.sub import DataReader
    from cyclonedds.topic import Topic

    ours, theirs = make_participant("lo", domain), make_participant("lo", domain)
    writer = EncodedWriter(ours, LOW_CMD_TOPIC, types.LowCmd_)
    idl_reader = DataReader(theirs, Topic(theirs, LOW_CMD_TOPIC, types.LowCmd_))
    reader = EncodedReader(ours, LOW_STATE_TOPIC, types.LowState_, depth=8)
    idl_writer = DataWriter(theirs, Topic(theirs, LOW_STATE_TOPIC, types.LowState_))
    wait_until(lambda: writer.readers() == 1 and reader.writers() == 1)

    writer.write(wire.encode(wire.start_low_cmd()))
    samples: list[Any] = []

    def arrived(count: int, into: list[Any], take: Any) -> bool:
        into.extend(take())
        return len(into) == count

    wait_until(lambda: arrived(1, samples, idl_reader.take))
    assert samples[0].crc == 0x06E577CD and samples[0].motor_cmd[19].mode == 1

    states = [to_idl(random_message(wire.LOW_STATE, seed), types.LowState_) for seed in (1, 2)]
    for state in states:
        idl_writer.write(state)
    assert reader.wait(2.0)
    received: list[bytes] = []
    wait_until(lambda: arrived(2, received, reader.take))
    assert received == [state.serialize() for state in states]
    assert not reader.wait(0.0)


def test_a_foreign_publisher_is_seen_and_forgotten(domain: int) -> None:
    participant, other = make_participant("lo", domain), make_participant("lo", domain)
    own = EncodedWriter(participant, LOW_CMD_TOPIC, types.LowCmd_)
    bystander = EncodedWriter(other, LOW_STATE_TOPIC, types.LowState_)
    watch = PublisherWatch(participant, LOW_CMD_TOPIC)
    time.sleep(0.1)
    assert watch.foreign([own.guid]) == ()
    foreign = EncodedWriter(other, LOW_CMD_TOPIC, types.LowCmd_)
    guid = foreign.guid
    wait_until(lambda: len(watch.foreign([own.guid])) == 1)
    assert str(guid) in watch.foreign([own.guid])[0]
    del foreign
    wait_until(lambda: watch.foreign([own.guid]) == ())
    assert bystander.readers() == 0


def test_an_unknown_interface_is_named() -> None:
    with pytest.raises(LinkError, match=r"no network interface 'nope0'; this machine has .*lo"):
        make_participant("nope0", 1)
    with pytest.raises(LinkError, match="domain 300"):
        make_participant("lo", 300)


def test_two_threads_may_make_topics_of_a_type_at_once(domain: int) -> None:
    """By cyclonedds alone about every tenth of these fails: it describes a new type's parts for both at once."""
    from cyclonedds.idl import IdlStruct
    from cyclonedds.idl.types import array, float32

    def struct_type(name: str, of: Any) -> Any:
        fields = {"__annotations__": {f"field{i}": array[of, 3 + i] for i in range(6)}}
        return dataclass(type(name, (IdlStruct,), fields, typename=name))

    def make(participant: DomainParticipant, name: str, data_type: Any, together: threading.Barrier) -> str:
        together.wait()
        return make_topic(participant, name, data_type).name

    participants = [make_participant("lo", domain), make_participant("lo", domain % 230 + 1)]
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(2) as pool:
            for i in range(100):
                made, together = struct_type(f"Outer{i}", struct_type(f"Inner{i}", float32)), threading.Barrier(2)
                name = f"topic{i}"
                assert list(pool.map(make, participants, [name] * 2, [made] * 2, [together] * 2)) == [name] * 2
    finally:
        sys.setswitchinterval(interval_s)


class Robot:
    """The wire side of a robot, for these tests: publishes LowState and answers the motion switcher."""

    def __init__(self, domain: int, services: list[str], code: int = 0) -> None:
        from cyclonedds.pub import DataWriter
        from cyclonedds.sub import DataReader
        from cyclonedds.topic import Topic

        participant = make_participant("lo", domain)
        self.services, self.code = services, code
        self.calls: list[int] = []
        self.commands = EncodedReader(participant, LOW_CMD_TOPIC, types.LowCmd_, depth=1000)
        self.states = EncodedWriter(participant, LOW_STATE_TOPIC, types.LowState_)
        self._requests = DataReader(participant, Topic(participant, REQUEST_TOPIC, types.Request_))
        self._responses = DataWriter(participant, Topic(participant, RESPONSE_TOPIC, types.Response_))
        self.state = np.zeros((), wire.LOW_STATE)
        self.state["imu_state"]["quaternion"][0] = 1.0
        self.state["motor_state"]["q"] = np.arange(20)
        self.state["bms_state"]["soc"] = 77
        self.state["tick"] = 100_000
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.state["tick"] += 10
            self.states.write(wire.encode(self.state))
            for request in self._requests.take(10):
                if not isinstance(request, types.Request_):
                    continue  # a client left
                call = request.header.identity.api_id
                self.calls.append(call)
                data = {"form": "0", "name": self.services[0] if self.services else ""}
                if call == 1003 and self.services:
                    self.services.pop(0)
                header = types.ResponseHeader_(request.header.identity, types.ResponseStatus_(self.code))
                self._responses.write(types.Response_(header, json.dumps(data)))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def robot(domain: int) -> Iterator[Robot]:
    robot = Robot(domain, ["ai", "normal"])
    yield robot
    robot.close()


def test_motion_services_are_released_until_none_is_left(domain: int, robot: Robot) -> None:
    assert MotionSwitcher(make_participant("lo", domain)).release(5.0) == ["ai", "normal"]
    assert robot.calls == [1001, 1003, 1001, 1003, 1001] and robot.services == []


def test_a_refusal_and_a_missing_motion_switcher_are_told(domain: int, robot: Robot) -> None:
    robot.code = 7
    participant = make_participant("lo", domain)
    with pytest.raises(LinkError, match="code 7"):
        MotionSwitcher(participant).release(2.0)
    with pytest.raises(LinkError, match=r"no motion switcher answered .* within 0\.3 s"):
        MotionSwitcher(make_participant("lo", domain + 1)).release(0.3)


def limits_of(names: list[str]) -> SafetyLimits:
    count = len(names)
    return SafetyLimits(
        joint_names=tuple(names),
        position_lower_rad=(-20.0,) * count,
        position_upper_rad=(20.0,) * count,
        velocity_rad_s=(30.0,) * count,
        torque_nm=(23.7,) * count,
        target_rate_rad_s=(20.0,) * count,
        kp_max=(60.0,) * count,
        kd_max=(5.0,) * count,
        control_dt_s=0.02,
    )


POLICY_NAMES = [f"{leg}_{part}_joint" for leg in ("FL", "FR", "RL", "RR") for part in ("hip", "thigh", "calf")]


def test_link_reads_in_policy_order_and_sends(domain: int, robot: Robot) -> None:
    link = UnitreeLink(limits_of(POLICY_NAMES), domain=domain, use_guard=False)
    assert isinstance(link, Link)
    link.open()
    try:
        assert robot.services == [] and "ai, normal" in link.health.notes[0]
        half = np.pi / 4
        robot.state["imu_state"]["quaternion"] = (np.cos(half), 0, np.sin(half), 0)  # nose straight down
        robot.state["wireless_remote"] = encode_remote(Remote(0.5, buttons=frozenset({"A"})))
        robot.state["motor_state"]["temperature"][3] = 41
        time.sleep(0.05)
        reading = link.read(1.0)
        assert reading is not None and 0 <= time.monotonic() - reading.stamp_s < 1.0
        assert reading.joint_position.tolist() == [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
        np.testing.assert_allclose(reading.gravity, [1.0, 0.0, 0.0], atol=1e-6)
        assert reading.motor_temperature is not None and reading.motor_temperature[0] == 41
        assert reading.battery_soc == 77 and reading.remote == Remote(0.5, buttons=frozenset({"A"}))

        robot.commands.take()
        link.send(Command.position(np.arange(12.0), 30.0, 1.0))
        assert robot.commands.wait(1.0)
        sent = wire.decode(robot.commands.take()[-1], wire.LOW_CMD)["motor_cmd"]
        assert sent["q"][:6].tolist() == [3, 4, 5, 0, 1, 2] and sent["kp"][0] == 30
        assert link.foreign_publishers() == () and link.doubts() == ()
    finally:
        link.close()
    link.close()


def test_link_drops_damaged_and_late_messages_but_shows_a_restart(domain: int, robot: Robot) -> None:
    link = UnitreeLink(limits_of(POLICY_NAMES), domain=domain, use_guard=False)
    link.open()
    try:
        robot.close()
        link.read(0.05)
        while link.read() is not None:
            pass
        tick = int(robot.state["tick"])

        def put(tick: int, damage: bool = False) -> None:
            robot.state["tick"] = tick
            data = bytearray(wire.encode(robot.state))
            data[100] ^= damage
            robot.states.write(bytes(data))

        put(tick + 10)
        put(tick + 20, damage=True)
        put(tick + 5)
        time.sleep(0.05)
        reading = link.read(0.0)
        assert reading is not None and reading.tick == tick + 10
        assert (link.health.damaged, link.health.out_of_order) == (1, 1)
        assert link.read(0.02) is None
        put(tick + 10 - 5000)
        restarted = link.read(1.0)
        assert restarted is not None and restarted.tick == (tick + 10 - 5000) % 2**32
    finally:
        link.close()


def test_link_without_a_robot_says_so(domain: int) -> None:
    link = UnitreeLink(limits_of(POLICY_NAMES), domain=domain, connect_timeout_s=0.3)
    with pytest.raises(LinkError, match=r"no robot: nothing usable on rt/lowstate within 0\.3 s"):
        link.open()


def test_publisher_sees_a_second_one(domain: int) -> None:
    first = CommandPublisher(MOTOR_ORDER, "lo", domain)
    second = CommandPublisher(MOTOR_ORDER, "lo", domain)
    wait_until(lambda: len(first.foreign_publishers()) == 1 and len(second.foreign_publishers()) == 1)
    assert str(second.guid) in first.foreign_publishers()[0]


@pytest.mark.parametrize("kind", IDL_TYPES)
@settings(max_examples=40, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**32 - 1), max_size=6), spoiled=st.sets(st.integers(0, 5)), flips=st.randoms())
def test_checking_many_is_checking_each(kind: str, seeds: list[int], spoiled: set[int], flips: random.Random) -> None:
    _, dtype = IDL_TYPES[kind]
    data = [wire.encode(random_message(dtype, seed)) for seed in seeds]
    for at in spoiled & set(range(len(data))):
        damaged = bytearray(data[at])
        damaged[flips.randrange(len(damaged))] ^= 1 << flips.randrange(8)
        data[at] = bytes(damaged) if flips.random() < 0.7 else data[at][: flips.randrange(len(damaged))]
    for one, good in zip(data, wire.undamaged(data, dtype), strict=True):
        try:
            alone = wire.decode(one, dtype)
        except wire.WireError:
            assert not good
        else:
            assert good
            if dtype is wire.LOW_STATE:
                assert wire.tick_of(one) == alone["tick"]
