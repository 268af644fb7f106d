"""The simulated robot's own motion service, and the motion switcher through which it is asked to let go."""

from __future__ import annotations

import json

from cyclonedds.domain import DomainParticipant
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy, Qos
from cyclonedds.sub import DataReader

from sim2real.links.unitree_dds import make_topic
from sim2real.links.unitree_motion_switcher import CHECK_MODE, RELEASE_MODE, REQUEST_TOPIC, RESPONSE_TOPIC
from sim2real.links.unitree_types import Request_, Response_, ResponseHeader_, ResponseStatus_
from sim2real.robot_motors import Motors
from sim2real.robot_physics import Array

NOT_IMPLEMENTED = 3203
"""Status code of a call that this switcher does not know."""


class MotionService:
    """Holds the robot's pose until it is released; while it lives, low-level commands are ignored."""

    NAME = "normal"
    KP, KD = 60.0, 3.0
    LEAVES_AFTER_S = 0.3
    """The service needs this long to leave after it was asked to (assumed)."""

    def __init__(self, motors: Motors, pose: Array) -> None:
        self._motors = motors
        self._leaves_at_s: float | None = None
        self.active = True
        motors.hold(pose, self.KP, self.KD)

    def ask_to_leave(self, now_s: float) -> None:
        """ReleaseMode arrived; asking again changes nothing."""
        if self._leaves_at_s is None:
            self._leaves_at_s = now_s + self.LEAVES_AFTER_S

    def tick(self, now_s: float) -> bool:
        """Whether the service let go just now; the motors are limp then."""
        if not self.active or self._leaves_at_s is None or now_s < self._leaves_at_s:
            return False
        self.active = False
        self._motors.damp(0.0)
        return True

    def answer(self, api_id: int, now_s: float) -> tuple[int, str]:
        """Status code and JSON data of the answer to one request."""
        if api_id == CHECK_MODE:
            return 0, json.dumps({"form": "0", "name": self.NAME if self.active else ""})
        if api_id == RELEASE_MODE:
            self.ask_to_leave(now_s)
            return 0, ""
        return NOT_IMPLEMENTED, ""


class MotionSwitcherServer:
    """Answers requests on the switcher's topics."""

    def __init__(self, participant: DomainParticipant, service: MotionService) -> None:
        self._service = service
        self._reader = DataReader(
            participant, make_topic(participant, REQUEST_TOPIC, Request_), Qos(Policy.History.KeepLast(20))
        )
        self._writer = DataWriter(participant, make_topic(participant, RESPONSE_TOPIC, Response_))

    def serve(self, now_s: float) -> None:
        """Answer what has arrived; never blocks."""
        for request in self._reader.take(20):
            if not isinstance(request, Request_):
                continue  # a client that left
            code, data = self._service.answer(request.header.identity.api_id, now_s)
            if not request.header.policy.noreply:
                header = ResponseHeader_(identity=request.header.identity, status=ResponseStatus_(code=code))
                self._writer.write(Response_(header=header, data=data))
