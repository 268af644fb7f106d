"""Unitree Go2 messages as NumPy records: checksum, and CDR bytes laid out by hand.

A message is a zero-dimensional structured array in the layout of the robot's packed C struct, so that
`message["motor_cmd"]["q"]` is a writable (20,) view.  `encode` turns it into the bytes that DDS carries and
`decode` turns them back; both agree byte for byte with cyclonedds' own serializer (tested), at a few
microseconds instead of about half a millisecond.

Two layouts exist.  The checksum runs over the C struct, in which a nested struct is padded to its alignment.
The wire carries XCDR1 little-endian, in which it is not: the first motor's mode follows the IMU's
temperature directly.  Both come from one table of fields here.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Message = NDArray[Any]
"""A zero-dimensional structured array of dtype LOW_CMD or LOW_STATE."""

_MOTOR_CMD = np.dtype(
    [
        ("mode", "u1"),
        ("q", "<f4"),
        ("dq", "<f4"),
        ("tau", "<f4"),
        ("kp", "<f4"),
        ("kd", "<f4"),
        ("reserve", "<u4", 3),
    ],
    align=True,
)
_BMS_CMD = np.dtype([("off", "u1"), ("reserve", "u1", 3)], align=True)
_HEADER: list[Any] = [
    ("head", "u1", 2),
    ("level_flag", "u1"),
    ("frame_reserve", "u1"),
    ("sn", "<u4", 2),
    ("version", "<u4", 2),
    ("bandwidth", "<u2"),
]
LOW_CMD: Final = np.dtype(
    [
        *_HEADER,
        ("motor_cmd", _MOTOR_CMD, 20),
        ("bms_cmd", _BMS_CMD),
        ("wireless_remote", "u1", 40),
        ("led", "u1", 12),
        ("fan", "u1", 2),
        ("gpio", "u1"),
        ("reserve", "<u4"),
        ("crc", "<u4"),
    ],
    align=True,
)
"""C layout of LowCmd_, 812 bytes."""

_IMU_STATE = np.dtype(
    [
        ("quaternion", "<f4", 4),
        ("gyroscope", "<f4", 3),
        ("accelerometer", "<f4", 3),
        ("rpy", "<f4", 3),
        ("temperature", "u1"),
    ],
    align=True,
)
_MOTOR_STATE = np.dtype(
    [
        ("mode", "u1"),
        *((name, "<f4") for name in ("q", "dq", "ddq", "tau_est", "q_raw", "dq_raw", "ddq_raw")),
        ("temperature", "u1"),
        ("lost", "<u4"),
        ("reserve", "<u4", 2),
    ],
    align=True,
)
_BMS_STATE = np.dtype(
    [
        *((name, "u1") for name in ("version_high", "version_low", "status", "soc")),
        ("current", "<i4"),
        ("cycle", "<u2"),
        ("bq_ntc", "u1", 2),
        ("mcu_ntc", "u1", 2),
        ("cell_vol", "<u2", 15),
    ],
    align=True,
)
LOW_STATE: Final = np.dtype(
    [
        *_HEADER,
        ("imu_state", _IMU_STATE),
        ("motor_state", _MOTOR_STATE, 20),
        ("bms_state", _BMS_STATE),
        ("foot_force", "<i2", 4),
        ("foot_force_est", "<i2", 4),
        ("tick", "<u4"),
        ("wireless_remote", "u1", 40),
        ("bit_flag", "u1"),
        ("adc_reel", "<f4"),
        ("temperature_ntc1", "u1"),
        ("temperature_ntc2", "u1"),
        ("power_v", "<f4"),
        ("power_a", "<f4"),
        ("fan_frequency", "<u2", 4),
        ("reserve", "<u4"),
        ("crc", "<u4"),
    ],
    align=True,
)
"""C layout of LowState_, 1180 bytes."""

MOTOR_MODE_SERVO: Final = 0x01
"""Motor mode in which position, velocity and torque targets are obeyed."""
NO_POSITION: Final = 2.146e9
"""`q` that means "no position target"."""
NO_VELOCITY: Final = 16000.0
"""`dq` that means "no velocity target"."""

_XCDR1_LE = b"\x00\x01\x00\x00"
_BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class WireError(ValueError):
    """Bytes that are not a whole, undamaged message."""


def _primitives(dtype: np.dtype[Any], offset: int = 0) -> list[tuple[int, int]]:
    """(offset in the C struct, size) of every number in `dtype`, in declaration order."""
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [p for i in range(int(np.prod(shape))) for p in _primitives(base, offset + i * base.itemsize)]
    if dtype.names is None:
        return [(offset, dtype.itemsize)]
    fields = dtype.fields
    assert fields is not None
    return [p for name in dtype.names for p in _primitives(fields[name][0], offset + fields[name][1])]


class _Layout:
    """Index tables between one message's C struct, its CDR body and its checksum's bytes."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        c_index: list[int] = []
        cdr_index: list[int] = []
        cdr_end = 0
        for c_offset, size in _primitives(dtype):
            cdr_end = -(-cdr_end // size) * size  # XCDR1 aligns a number to its own size
            c_index += range(c_offset, c_offset + size)
            cdr_index += range(cdr_end, cdr_end + size)
            cdr_end += size
        self.dtype = dtype
        self.cdr_size = cdr_end
        self.c_index = np.array(c_index, np.intp)
        self.cdr_index = np.array(cdr_index, np.intp)
        # The checksum takes each little-endian word's most significant byte first, up to the crc word, and
        # padding counts as zero whatever a sender left in it.
        words = np.arange(dtype.itemsize - 4).reshape(-1, 4)[:, ::-1]
        self.crc_index = words.reshape(-1)
        self.c_mask = np.zeros(dtype.itemsize, np.uint8)
        self.c_mask[self.c_index] = 0xFF
        # The same from a whole encoded message: its first byte is always 0 and stands in for padding.
        from_wire = np.zeros(dtype.itemsize, np.intp)
        from_wire[self.c_index] = len(_XCDR1_LE) + self.cdr_index
        self.wire_crc_index = from_wire[self.crc_index]
        self._from_wire = from_wire

    def on_wire(self, field: str) -> int:
        """Where a field of the outermost struct begins in an encoded message."""
        assert self.dtype.fields is not None
        return int(self._from_wire[self.dtype.fields[field][1]])


_LAYOUTS = {dtype.itemsize: _Layout(dtype) for dtype in (LOW_CMD, LOW_STATE)}
_TICK_AT = _LAYOUTS[LOW_STATE.itemsize].on_wire("tick")


def _bytes_of(message: Message) -> NDArray[np.uint8]:
    """(itemsize,) view of a message's C struct."""
    return message.reshape(1).view(np.uint8)


def crc(message: Message) -> int:
    """Checksum of a message (its `crc` field does not enter).

    CRC-32 with polynomial 0x04C11DB7, start 0xFFFFFFFF, not reflected, no final inversion, over the words of
    the C struct.  zlib computes the reflected, inverted one; reversing the bits of every byte on the way in
    and of the result on the way out turns the one into the other.
    """
    layout = _LAYOUTS[message.dtype.itemsize]
    masked = _bytes_of(message) & layout.c_mask
    return _crc_of(masked[layout.crc_index].tobytes().translate(_BIT_REVERSED))


def _crc_of(bit_reversed_stream: bytes) -> int:
    reflected = zlib.crc32(bit_reversed_stream) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(_BIT_REVERSED), "big")


def encode(message: Message) -> bytes:
    """Fill in the message's `crc`; return its bytes with the 4-byte encapsulation header, ready for DDS."""
    message["crc"] = crc(message)
    return encode_unchecked(message)


def encode_unchecked(message: Message) -> bytes:
    """As `encode`, leaving `crc` as it stands: for tests and for faults on purpose."""
    layout = _LAYOUTS[message.dtype.itemsize]
    body = np.zeros(layout.cdr_size, np.uint8)
    body[layout.cdr_index] = _bytes_of(message)[layout.c_index]
    return _XCDR1_LE + body.tobytes()


def decode(data: bytes, dtype: np.dtype[Any], check_crc: bool = True) -> Message:
    """The message of `dtype` (LOW_CMD or LOW_STATE) in `data`, a new array.

    Raises WireError for another encoding than little-endian XCDR1 (the default of cyclonedds and of the
    robot for these types), a wrong length or, if `check_crc`, a checksum that does not match.
    """
    layout = _LAYOUTS[dtype.itemsize]
    if data[:2] != _XCDR1_LE[:2]:
        raise WireError(
            f"encapsulation header {data[:4].hex() or 'missing'}: valid is 0001 (little-endian XCDR1); "
            "the sender uses another data representation"
        )
    if len(data) != 4 + layout.cdr_size:
        raise WireError(f"{len(data)} bytes, but this message has {4 + layout.cdr_size}; types differ or it is cut")
    message = np.zeros((), dtype)
    body = np.frombuffer(data, np.uint8, offset=4)
    _bytes_of(message)[layout.c_index] = body[layout.cdr_index]
    if check_crc and int(message["crc"]) != (expected := crc(message)):
        raise WireError(f"checksum {int(message['crc']):#010x}, but the content gives {expected:#010x}: damaged")
    return message


def undamaged(data: Sequence[bytes], dtype: np.dtype[Any]) -> list[bool]:
    """Which of these encoded messages `decode` would take, for many at little more than the price of one."""
    layout = _LAYOUTS[dtype.itemsize]
    size = len(_XCDR1_LE) + layout.cdr_size
    good = [len(one) == size and one[:2] == _XCDR1_LE[:2] for one in data]
    whole = [at for at, is_whole in enumerate(good) if is_whole]
    if whole:
        reversed_bits = b"".join([data[at] for at in whole]).translate(_BIT_REVERSED)
        streams = np.frombuffer(reversed_bits, np.uint8).reshape(-1, size).take(layout.wire_crc_index, axis=1)
        for at, stream in zip(whole, streams, strict=True):
            good[at] = _crc_of(stream.tobytes()) == int.from_bytes(data[at][-4:], "little")
    return good


def tick_of(data: bytes) -> int:
    """The counter in an undamaged, encoded LowState_, without decoding the rest."""
    return int.from_bytes(data[_TICK_AT : _TICK_AT + 4], "little")


def start_low_cmd() -> Message:
    """A command that asks for nothing: motors in servo mode, no targets, no gains, no torque."""
    message = np.zeros((), LOW_CMD)
    message["head"] = (0xFE, 0xEF)
    message["level_flag"] = 0xFF
    motors = message["motor_cmd"]
    motors["mode"] = MOTOR_MODE_SERVO
    motors["q"] = NO_POSITION
    motors["dq"] = NO_VELOCITY
    return message
