"""The DDS types of a Unitree Go2 as cyclonedds IDL classes.

Numbers and names follow the robot's public interface descriptions (`unitree_go`, `unitree_api`).
Everything is `@final` with sequential member ids.  Class names keep the trailing underscore of the wire's
type names.

Encoding LowCmd_ and LowState_ through these classes costs a millisecond or so in Python; `unitree_wire` lays
the same bytes out by hand.
"""
# No `from __future__ import annotations`: cyclonedds reads the annotations as objects.
# Its `array[uint8, 2]` means something to cyclonedds alone:
# mypy: disable-error-code="valid-type,type-arg,assignment"

from dataclasses import dataclass, field
from typing import Any, TypeVar, dataclass_transform

from cyclonedds.idl import IdlStruct
from cyclonedds.idl import annotations as annotate
from cyclonedds.idl.types import (
    array,
    float32,
    int16,
    int32,
    int64,
    sequence,
    uint8,
    uint16,
    uint32,
)

MOTORS_ON_WIRE = 20
"""LowCmd_ and LowState_ have room for 20 motors; a Go2 uses the first 12."""


def _zeros(count: int, value: float = 0):  # type: ignore[no-untyped-def]
    """Default of a numeric array; an array of octets is `bytes` in cyclonedds."""
    return field(default_factory=lambda: [value] * count)


_T = TypeVar("_T")


@dataclass_transform()
def _wire(cls: type[_T]) -> type[_T]:
    """Class decorator: a dataclass that is @final with sequential ids."""
    decorated: Any = dataclass(cls)
    return annotate.autoid("sequential")(annotate.final(decorated))


@_wire
class BmsCmd_(IdlStruct, typename="unitree_go.msg.dds_.BmsCmd_"):
    """Battery command."""

    off: uint8 = 0
    reserve: array[uint8, 3] = bytes(3)


@_wire
class MotorCmd_(IdlStruct, typename="unitree_go.msg.dds_.MotorCmd_"):
    """Command of one motor: q [rad], dq [rad/s], tau [N·m], kp [N·m/rad], kd [N·m·s/rad]."""

    mode: uint8 = 0
    q: float32 = 0.0
    dq: float32 = 0.0
    tau: float32 = 0.0
    kp: float32 = 0.0
    kd: float32 = 0.0
    reserve: array[uint32, 3] = _zeros(3)


@_wire
class LowCmd_(IdlStruct, typename="unitree_go.msg.dds_.LowCmd_"):
    """All motors' commands, topic `rt/lowcmd`."""

    head: array[uint8, 2] = bytes(2)
    level_flag: uint8 = 0
    frame_reserve: uint8 = 0
    sn: array[uint32, 2] = _zeros(2)
    version: array[uint32, 2] = _zeros(2)
    bandwidth: uint16 = 0
    motor_cmd: array[MotorCmd_, 20] = field(default_factory=lambda: [MotorCmd_() for _ in range(MOTORS_ON_WIRE)])
    bms_cmd: BmsCmd_ = field(default_factory=BmsCmd_)
    wireless_remote: array[uint8, 40] = bytes(40)
    led: array[uint8, 12] = bytes(12)
    fan: array[uint8, 2] = bytes(2)
    gpio: uint8 = 0
    reserve: uint32 = 0
    crc: uint32 = 0


@_wire
class IMUState_(IdlStruct, typename="unitree_go.msg.dds_.IMUState_"):
    """IMU: quaternion w, x, y, z; gyroscope [rad/s]; accelerometer [m/s²]; rpy [rad]; temperature [°C]."""

    quaternion: array[float32, 4] = _zeros(4, 0.0)
    gyroscope: array[float32, 3] = _zeros(3, 0.0)
    accelerometer: array[float32, 3] = _zeros(3, 0.0)
    rpy: array[float32, 3] = _zeros(3, 0.0)
    temperature: uint8 = 0


@_wire
class MotorState_(IdlStruct, typename="unitree_go.msg.dds_.MotorState_"):
    """State of one motor: q [rad], dq [rad/s], ddq [rad/s²], tau_est [N·m], temperature [°C]."""

    mode: uint8 = 0
    q: float32 = 0.0
    dq: float32 = 0.0
    ddq: float32 = 0.0
    tau_est: float32 = 0.0
    q_raw: float32 = 0.0
    dq_raw: float32 = 0.0
    ddq_raw: float32 = 0.0
    temperature: uint8 = 0
    lost: uint32 = 0
    reserve: array[uint32, 2] = _zeros(2)


@_wire
class BmsState_(IdlStruct, typename="unitree_go.msg.dds_.BmsState_"):
    """Battery: soc [%], current [mA], cell_vol [mV], temperatures [°C]."""

    version_high: uint8 = 0
    version_low: uint8 = 0
    status: uint8 = 0
    soc: uint8 = 0
    current: int32 = 0
    cycle: uint16 = 0
    bq_ntc: array[uint8, 2] = bytes(2)
    mcu_ntc: array[uint8, 2] = bytes(2)
    cell_vol: array[uint16, 15] = _zeros(15)


@_wire
class LowState_(IdlStruct, typename="unitree_go.msg.dds_.LowState_"):
    """Everything the robot measures, topic `rt/lowstate`; power_v [V], power_a [A]."""

    head: array[uint8, 2] = bytes(2)
    level_flag: uint8 = 0
    frame_reserve: uint8 = 0
    sn: array[uint32, 2] = _zeros(2)
    version: array[uint32, 2] = _zeros(2)
    bandwidth: uint16 = 0
    imu_state: IMUState_ = field(default_factory=IMUState_)
    motor_state: array[MotorState_, 20] = field(default_factory=lambda: [MotorState_() for _ in range(MOTORS_ON_WIRE)])
    bms_state: BmsState_ = field(default_factory=BmsState_)
    foot_force: array[int16, 4] = _zeros(4)
    foot_force_est: array[int16, 4] = _zeros(4)
    tick: uint32 = 0
    wireless_remote: array[uint8, 40] = bytes(40)
    bit_flag: uint8 = 0
    adc_reel: float32 = 0.0
    temperature_ntc1: uint8 = 0
    temperature_ntc2: uint8 = 0
    power_v: float32 = 0.0
    power_a: float32 = 0.0
    fan_frequency: array[uint16, 4] = _zeros(4)
    reserve: uint32 = 0
    crc: uint32 = 0


@_wire
class RequestIdentity_(IdlStruct, typename="unitree_api.msg.dds_.RequestIdentity_"):
    """Which call: `id` is echoed in the response, `api_id` names the function."""

    id: int64 = 0
    api_id: int64 = 0


@_wire
class RequestLease_(IdlStruct, typename="unitree_api.msg.dds_.RequestLease_"):
    """Lease of the caller; 0 without one."""

    id: int64 = 0


@_wire
class RequestPolicy_(IdlStruct, typename="unitree_api.msg.dds_.RequestPolicy_"):
    """Priority, and whether the caller wants no response."""

    priority: int32 = 0
    noreply: bool = False


@_wire
class RequestHeader_(IdlStruct, typename="unitree_api.msg.dds_.RequestHeader_"):
    """Header of a request."""

    identity: RequestIdentity_ = field(default_factory=RequestIdentity_)
    lease: RequestLease_ = field(default_factory=RequestLease_)
    policy: RequestPolicy_ = field(default_factory=RequestPolicy_)


@_wire
class Request_(IdlStruct, typename="unitree_api.msg.dds_.Request_"):
    """A call of one of the robot's services; `parameter` is JSON."""

    header: RequestHeader_ = field(default_factory=RequestHeader_)
    parameter: str = ""
    binary: sequence[uint8] = b""


@_wire
class ResponseStatus_(IdlStruct, typename="unitree_api.msg.dds_.ResponseStatus_"):
    """0 is success."""

    code: int32 = 0


@_wire
class ResponseHeader_(IdlStruct, typename="unitree_api.msg.dds_.ResponseHeader_"):
    """Header of a response; `identity` is the request's."""

    identity: RequestIdentity_ = field(default_factory=RequestIdentity_)
    status: ResponseStatus_ = field(default_factory=ResponseStatus_)


@_wire
class Response_(IdlStruct, typename="unitree_api.msg.dds_.Response_"):
    """Answer of a service; `data` is JSON."""

    header: ResponseHeader_ = field(default_factory=ResponseHeader_)
    data: str = ""
    binary: sequence[uint8] = b""
