"""DDS with cyclonedds for Unitree messages: configuration, raw readers and writers, and who else publishes.

Readers and writers here carry encoded bytes, because encoding through cyclonedds' Python classes costs about
0.3 ms to 0.5 ms a message.  cyclonedds asks a topic's data type only for its `__idl__` description and for
`serialize` and `deserialize`; a type that hands bytes through is therefore all it takes, and the other side
still sees the original type (measured: 27 µs to write and 14 µs to take 1220 bytes).
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Collection
from typing import Any
from xml.sax.saxutils import quoteattr

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication
from cyclonedds.core import DDSException, InstanceState, ReadCondition, SampleState, ViewState, WaitSet
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic

from sim2real.links.link import LinkError

LOW_CMD_TOPIC = "rt/lowcmd"
LOW_STATE_TOPIC = "rt/lowstate"
LEASE_S = 3
"""After this long without a sign of life a killed process's writers are forgotten [s] (cyclonedds: 10 s)."""


def dds_config(interface: str) -> str:
    """cyclonedds configuration that uses one network interface, by name.

    A loopback interface has no multicast: discovery then asks 127.0.0.1 directly.  Raises LinkError if
    there is no such interface.
    """
    known = [name for _, name in socket.if_nameindex()]
    if interface not in known:
        raise LinkError(f"no network interface {interface!r}; this machine has {', '.join(known)}")
    loopback = interface.startswith("lo")
    name = quoteattr(interface)
    discovery = f"<LeaseDuration>{LEASE_S}s</LeaseDuration>"
    if loopback:
        general = f'<Interfaces><NetworkInterface name={name} multicast="false"/></Interfaces>'
        general += "<AllowMulticast>false</AllowMulticast>"
        discovery += "<ParticipantIndex>auto</ParticipantIndex>"
        discovery += "<MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
        discovery += '<Peers><Peer Address="127.0.0.1"/></Peers>'
    else:
        general = f"<Interfaces><NetworkInterface name={name}/></Interfaces>"
    return (
        f'<CycloneDDS><Domain Id="any"><General>{general}</General><Discovery>{discovery}</Discovery>'
        "</Domain></CycloneDDS>"
    )


def make_participant(interface: str | None, domain: int) -> DomainParticipant:
    """A participant of DDS domain `domain` (a Go2 uses 0) on `interface`.

    Sets CYCLONEDDS_URI for this process and its children; None leaves what the user has set there.
    cyclonedds reads it when a process's first participant of a domain is made, so choose the interface
    before that. Raises LinkError for an unknown interface, a domain outside 0..232, or if DDS does not
    start.
    """
    if not 0 <= domain <= 232:
        raise LinkError(f"DDS domain {domain}: valid are 0 to 232; a Go2 uses 0")
    if interface is not None:
        os.environ["CYCLONEDDS_URI"] = dds_config(interface)
    try:
        return DomainParticipant(domain)
    except DDSException as error:
        raise LinkError(
            f"DDS does not start on interface {interface or 'from CYCLONEDDS_URI'}, domain {domain}: {error}."
            " Is the interface up?"
        ) from error


class _Encoded:
    """Bytes in the place of an IDL object; `encoded_type` makes the subclass for one IDL type."""

    __slots__ = ("data", "sample_info")

    def __init__(self, data: bytes) -> None:
        self.data = data

    def serialize(self, use_version_2: bool | None = None) -> bytes:
        return self.data

    @classmethod
    def deserialize(cls, data: bytes) -> _Encoded:
        return cls(data)

    deserialize_key = deserialize


def encoded_type(idl_type: Any) -> Any:
    """A data type for cyclonedds topics that is `idl_type` on the network and bytes in Python."""
    body = {"__slots__": (), "__idl__": idl_type.__idl__, "__idl_typename__": idl_type.__idl_typename__}
    return type(f"Encoded{idl_type.__name__}", (_Encoded,), body)


_describing = threading.Lock()


def make_topic(participant: DomainParticipant, name: str, data_type: Any) -> Topic[Any]:
    """A topic of a participant.

    cyclonedds describes a data type to C when a topic is made, and takes a second thread that does the same for a
    recursion in the type (its issue 214): one topic at a time.
    """
    with _describing:
        return Topic(participant, name, data_type)


class EncodedWriter:
    """Publishes encoded messages of one IDL type with default quality of service."""

    def __init__(self, participant: DomainParticipant, topic: str, idl_type: Any) -> None:
        self._type = encoded_type(idl_type)
        self._writer: DataWriter[Any] = DataWriter(participant, make_topic(participant, topic, self._type))
        self.guid: uuid.UUID = self._writer.guid

    def write(self, data: bytes) -> None:
        """Publish `data`, encapsulation header included.  Raises LinkError if DDS refuses it."""
        try:
            self._writer.write(self._type(data))
        except DDSException as error:
            raise LinkError(f"DDS could not publish: {error}") from error

    def readers(self) -> int:
        """How many readers will receive what is written."""
        return len(self._writer.get_matched_subscriptions())


class EncodedReader:
    """Takes encoded messages of one IDL type, keeping the newest `depth` of them."""

    def __init__(self, participant: DomainParticipant, topic: str, idl_type: Any, depth: int = 1) -> None:
        self._depth = depth
        self._reader: DataReader[Any] = DataReader(
            participant,
            make_topic(participant, topic, encoded_type(idl_type)),
            Qos(Policy.History.KeepLast(depth)),
        )
        unread = ReadCondition(self._reader, SampleState.NotRead | ViewState.Any | InstanceState.Any)
        self._waitset = WaitSet(participant)
        self._waitset.attach(unread)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a message that has not been taken; False if none came within `timeout_s`."""
        return bool(self._waitset.wait(max(0, int(timeout_s * 1e9))))

    def take(self) -> list[bytes]:
        """All messages that have not been taken, in the order of arrival."""
        samples = self._reader.take(self._depth)
        return [sample.data for sample in samples if isinstance(sample, _Encoded)]

    def writers(self) -> int:
        """How many writers this reader hears."""
        return len(self._reader.get_matched_publications())


class PublisherWatch:
    """Follows who can publish on a topic, from DDS discovery."""

    def __init__(self, participant: DomainParticipant, topic: str) -> None:
        self._topic = topic
        self._reader: Any = BuiltinDataReader(participant, BuiltinTopicDcpsPublication)
        self._alive: dict[uuid.UUID, str] = {}

    def foreign(self, own: Collection[uuid.UUID]) -> tuple[str, ...]:
        """Every live writer on the topic, but those with the GUIDs in `own`, as text; sorted."""
        for endpoint in self._reader.take(100):
            # A writer that is gone arrives without its data, so forget it by key before looking at the topic.
            if endpoint.sample_info.instance_state != InstanceState.Alive:
                self._alive.pop(endpoint.key, None)
            elif endpoint.topic_name == self._topic:
                self._alive[endpoint.key] = f"writer {endpoint.key} on {self._topic}"
        return tuple(sorted(text for key, text in self._alive.items() if key not in own))
