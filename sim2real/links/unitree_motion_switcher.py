"""Taking a Unitree robot's motors over from its own motion service before low-level control.

The robot's motion switcher answers JSON requests over DDS.  While its answer names an active service, that
service drives the motors, and two drivers at once are dangerous.
"""

from __future__ import annotations

import json
import time

from cyclonedds.core import DDSException
from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader

from sim2real.links.link import LinkError
from sim2real.links.unitree_dds import make_topic
from sim2real.links.unitree_types import Request_, RequestHeader_, RequestIdentity_, Response_

REQUEST_TOPIC = "rt/api/motion_switcher/request"
RESPONSE_TOPIC = "rt/api/motion_switcher/response"
CHECK_MODE = 1001
RELEASE_MODE = 1003
_POLL_S = 0.01


class MotionSwitcher:
    """Client of a robot's motion switcher."""

    def __init__(self, participant: DomainParticipant) -> None:
        self._writer = DataWriter(participant, make_topic(participant, REQUEST_TOPIC, Request_))
        self._reader = DataReader(
            participant, make_topic(participant, RESPONSE_TOPIC, Response_), Qos(Policy.History.KeepLast(20))
        )
        self._id = time.time_ns()  # unlike those of other clients, and increasing

    def active_service(self, timeout_s: float = 2.0) -> str:
        """Name of the service that drives the motors; empty if none does.

        Raises LinkError if no answer comes in time or it is not understood.
        """
        response = self._call(CHECK_MODE, timeout_s)
        try:
            name = json.loads(response.data)["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise LinkError(f'the motion switcher answered {response.data!r}, not {{"name": ...}}') from error
        return str(name)

    def release(self, timeout_s: float = 10.0) -> list[str]:
        """Release services until none drives the motors; returns the names of those that did.

        Raises LinkError after `timeout_s`.  The robot's legs go limp when its service lets go: it must hang
        or lie.
        """
        released: list[str] = []
        deadline_s = time.monotonic() + timeout_s
        while True:
            name = self.active_service(max(0.1, deadline_s - time.monotonic()))
            if not name:
                return released
            if not released or released[-1] != name:
                released.append(name)
            if time.monotonic() > deadline_s:
                raise LinkError(
                    f"the robot's service {name!r} still drives the motors after {timeout_s} s of asking "
                    "for their release; stop it in the vendor's app and try again"
                )
            self._call(RELEASE_MODE, max(0.1, deadline_s - time.monotonic()))
            time.sleep(10 * _POLL_S)

    def _call(self, api_id: int, timeout_s: float) -> Response_:
        """One request and its response; asks again every second, because a request may get lost."""
        deadline_s = time.monotonic() + timeout_s
        while (now_s := time.monotonic()) < deadline_s:
            if not self._writer.get_matched_subscriptions():
                time.sleep(_POLL_S)
                continue
            self._id += 1
            identity = RequestIdentity_(id=self._id, api_id=api_id)
            try:
                self._writer.write(Request_(header=RequestHeader_(identity=identity), parameter="{}"))
            except DDSException as error:
                raise LinkError(f"DDS could not send a request to the motion switcher: {error}") from error
            response = self._answer(self._id, min(deadline_s, now_s + 1.0))
            if response is not None:
                if response.header.status.code != 0:
                    raise LinkError(f"the motion switcher refused call {api_id}: code {response.header.status.code}")
                return response
        raise LinkError(
            f"no motion switcher answered on {REQUEST_TOPIC} within {timeout_s:.1f} s; is the robot on, "
            "and are interface and domain right?"
        )

    def _answer(self, request_id: int, deadline_s: float) -> Response_ | None:
        while time.monotonic() < deadline_s:
            for sample in self._reader.take(20):
                if isinstance(sample, Response_) and sample.header.identity.id == request_id:
                    return sample
            time.sleep(_POLL_S)
        return None
