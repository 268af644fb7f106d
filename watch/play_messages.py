"""viser's message buffer, safe against the threads that fill it.

viser 1.1.1 sets an `asyncio.Event` from whichever thread sends something, and once more from the event loop. Such an
event belongs to its loop's thread alone: set from elsewhere it fails now and then ("deque mutated during iteration"),
which ended the thread that plays, or leaves a page asleep. Leaving the second, proper setting is enough.
"""

from __future__ import annotations

import asyncio

from viser.infra import _infra
from viser.infra._async_message_buffer import AsyncMessageBuffer


class LoopEvent(asyncio.Event):
    """An event that only its loop's thread sets; elsewhere `set` does nothing, and viser has the loop set it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._owner = loop

    def set(self) -> None:
        if asyncio._get_running_loop() is self._owner:
            super().set()


class MessageBuffer(AsyncMessageBuffer):
    """viser's own but for its event."""

    def __post_init__(self) -> None:
        self.message_event = LoopEvent(self.event_loop)


def use() -> None:
    """Has viser servers that are made from now on use it."""
    _infra.AsyncMessageBuffer = MessageBuffer  # type: ignore[misc]
