"""Joint commands to a Unitree robot: from policy order to motor indices to `rt/lowcmd`."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import numpy as np
from cyclonedds.domain import DomainParticipant
from numpy.typing import NDArray

from sim2real.links.link import Command, LinkError
from sim2real.links.unitree_dds import LOW_CMD_TOPIC, EncodedWriter, PublisherWatch, make_participant
from sim2real.links.unitree_types import LowCmd_
from sim2real.links.unitree_wire import Message, encode, start_low_cmd

MOTOR_ORDER = tuple(f"{leg}_{part}" for leg in ("FR", "FL", "RR", "RL") for part in ("hip", "thigh", "calf"))
"""Joints of a Go2 by motor index."""


def motor_indices(joint_names: Sequence[str]) -> NDArray[np.intp]:
    """(J,) motor index of each joint, by name: `FR_hip` or `FR_hip_joint` and so on.

    Raises LinkError for a name that no motor has, or one that comes twice.
    """
    by_name = {name: index for index, name in enumerate(MOTOR_ORDER)}
    short = [name.removesuffix("_joint") for name in joint_names]
    unknown = [name for name, key in zip(joint_names, short, strict=True) if key not in by_name]
    if unknown or len(set(short)) != len(short):
        raise LinkError(
            f"joints {unknown or list(joint_names)} do not name the robot's motors once each; "
            f"valid are {', '.join(MOTOR_ORDER)}, with or without '_joint'"
        )
    return np.array([by_name[key] for key in short], np.intp)


def low_cmd(command: Command, motors: NDArray[np.intp]) -> Message:
    """A LowCmd_ message with `command` (J,) at motor indices `motors` (J,); other motors get no gains."""
    message = start_low_cmd()
    slots = message["motor_cmd"]
    slots["q"][motors] = command.joint_target
    slots["dq"][motors] = command.joint_velocity_target
    slots["tau"][motors] = command.joint_torque
    slots["kp"][motors] = command.kp
    slots["kd"][motors] = command.kd
    return message


class CommandPublisher:
    """The owner of `rt/lowcmd`: publishes commands and watches for anybody else who could."""

    def __init__(
        self,
        joint_names: Sequence[str],
        interface: str | None,
        domain: int,
        participant: DomainParticipant | None = None,
    ) -> None:
        """Uses `participant`, or makes one.  Raises LinkError as those functions do."""
        self._motors = motor_indices(joint_names)
        participant = participant or make_participant(interface, domain)
        self._writer = EncodedWriter(participant, LOW_CMD_TOPIC, LowCmd_)
        self._watch = PublisherWatch(participant, LOW_CMD_TOPIC)
        self._command: Command | None = None
        self._data = b""

    @property
    def guid(self) -> uuid.UUID:
        """DDS identity of the writer."""
        return self._writer.guid

    def publish(self, command: Command) -> None:
        """Send a command now; the same object once more is not encoded again.  Raises LinkError."""
        if command is not self._command:
            self._data = encode(low_cmd(command, self._motors))
            self._command = command
        self._writer.write(self._data)

    def foreign_publishers(self) -> tuple[str, ...]:
        """Everybody else who can write on `rt/lowcmd`."""
        return self._watch.foreign((self.guid,))

    def readers(self) -> int:
        """How many readers the commands reach."""
        return self._writer.readers()
