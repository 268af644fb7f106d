"""From a Unitree robot's LowState_ to a Reading in policy joint order."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sim2real.links.link import Reading
from sim2real.links.unitree_remote import decode_remote
from sim2real.links.unitree_wire import LOW_STATE, Message

_MOTOR_QUANTITIES = ("q", "dq", "tau_est")
_IMU_QUANTITIES = (("quaternion", 4), ("gyroscope", 3), ("accelerometer", 3))


class ReadingMaker:
    """Makes Readings for the joints at `motors`, a (J,) motor index each.

    A message's C struct is made of 4-byte words, so everything that is a float is fetched at once by its
    place among them, and the temperatures by their place among its bytes: field by field this takes four
    times as long, which counts in a control loop that wakes with cold caches.
    """

    def __init__(self, motors: NDArray[np.intp]) -> None:
        state, motor = _offsets(LOW_STATE), _offsets(LOW_STATE["motor_state"].base)
        imu = _offsets(LOW_STATE["imu_state"])
        each = state["motor_state"] + motors * LOW_STATE["motor_state"].base.itemsize
        places = [(each + motor[name]) // 4 for name in _MOTOR_QUANTITIES]
        places += [(state["imu_state"] + imu[name]) // 4 + np.arange(size) for name, size in _IMU_QUANTITIES]
        self._words = np.concatenate(places)
        ends = np.cumsum([len(place) for place in places]).tolist()
        self._parts = [slice(end - len(place), end) for place, end in zip(places, ends, strict=True)]
        self._temperatures = each + motor["temperature"]

    def __call__(self, message: Message, stamp_s: float) -> Reading:
        """The Reading in `message`, with arrays of its own; `stamp_s` is the host's time of arrival."""
        struct = message.reshape(1)
        values = struct.view("<f4")[self._words].astype(np.float64)
        q, dq, tau, quaternion, gyroscope, accelerometer = (values[part] for part in self._parts)
        w, x, y, z = quaternion.tolist()
        return Reading(
            stamp_s=stamp_s,
            tick=int(message["tick"]),
            joint_position=q,
            joint_velocity=dq,
            joint_torque=tau,
            quaternion=quaternion,
            angular_velocity=gyroscope,
            # The world's -z axis in the base frame: minus the third row of the rotation matrix of w, x, y, z.
            gravity=np.array([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1]),
            acceleration=accelerometer,
            motor_temperature=struct.view(np.uint8)[self._temperatures].astype(np.float64),
            battery_soc=float(message["bms_state"]["soc"]),
            battery_voltage_v=float(message["power_v"]),
            remote=decode_remote(message["wireless_remote"]),
        )


def _offsets(dtype: np.dtype[np.void]) -> dict[str, int]:
    """Where each field of a struct begins [bytes]."""
    assert dtype.fields is not None
    return {name: entry[1] for name, entry in dtype.fields.items()}
