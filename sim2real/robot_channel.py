"""The way messages take between robot and computer, with the faults that a test asks for."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass


@dataclass
class Faults:
    """What goes wrong on one way; all zero is a good network."""

    drop: float = 0.0
    """Share of the messages that get lost."""
    delay_s: float = 0.0
    """On top of the channel's own delay."""
    reorder: float = 0.0
    """Share of the messages that later ones overtake."""
    corrupt: float = 0.0
    """Share of the messages in which bits are flipped."""


class Channel:
    """Encoded messages go in with the time and come out when they are due, possibly damaged."""

    OVERTAKEN_S = 0.005
    """How long a message that is to be overtaken is held back."""
    _FLIPPED = 8  # a single one may hit a padding byte, which means nothing
    _HEADER = 4  # the encapsulation header is DDS's own, not the link's

    def __init__(self, delay_s: float, seed: int) -> None:
        """`delay_s` is the channel's own constant delay; `seed` fixes which messages the faults hit."""
        self.faults = Faults()
        self._delay_s = delay_s
        self._random = random.Random(seed)
        self._due: list[tuple[float, int, bytes]] = []
        self._count = 0

    def put(self, data: bytes, now_s: float) -> None:
        """A message enters."""
        faults, chance = self.faults, self._random.random
        if faults.drop and chance() < faults.drop:
            return
        due_s = now_s + self._delay_s + faults.delay_s
        if faults.reorder and chance() < faults.reorder:
            due_s += self.OVERTAKEN_S
        if faults.corrupt and chance() < faults.corrupt:
            damaged = bytearray(data)
            for at in self._random.sample(range(self._HEADER, len(data)), self._FLIPPED):
                damaged[at] ^= 1 << self._random.randrange(8)
            data = bytes(damaged)
        self._count += 1
        heapq.heappush(self._due, (due_s, self._count, data))

    def take(self, now_s: float) -> list[bytes]:
        """The messages that have arrived by now, in their order of arrival."""
        arrived = []
        while self._due and self._due[0][0] <= now_s:
            arrived.append(heapq.heappop(self._due)[2])
        return arrived
