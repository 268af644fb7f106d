"""Messages that one thread sends while a page is being written to by the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest
from viser import _messages
from viser.infra._async_message_buffer import AsyncMessageBuffer

from watch.play_door import Door
from watch.play_messages import LoopEvent, MessageBuffer

COUNT = 3000


def test_another_thread_sends_and_everything_arrives_in_order():
    """The page falls asleep between windows, so that almost each message has to wake it."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    failed: list[BaseException] = []
    received: list[int] = []

    async def page(buffer: AsyncMessageBuffer) -> None:
        async for window in buffer.window_generator(0):
            received.extend(int(message.name) for message in window)  # type: ignore[attr-defined]

    async def begin() -> MessageBuffer:
        return MessageBuffer(loop, persistent_messages=False, window_duration_sec=0.0)

    buffer = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    reading = asyncio.run_coroutine_threadsafe(page(buffer), loop)

    def send() -> None:
        try:
            for i in range(COUNT):
                buffer.push(_messages.SetSceneNodeVisibilityMessage(str(i), True))
        except RuntimeError as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join()
    asyncio.run_coroutine_threadsafe(asyncio.sleep(0.3), loop).result()
    buffer.set_done()
    reading.result(10.0)
    loop.call_soon_threadsafe(loop.stop)
    assert not failed and received == list(range(COUNT))


def test_only_the_loop_sets_it():
    event = LoopEvent()
    event.set()
    assert not event.is_set()

    async def within() -> None:
        event.set()

    asyncio.run(within())
    assert event.is_set()


@pytest.mark.slow
def test_the_viewer_uses_it():
    door = Door("127.0.0.1", 0, lambda page, message: None)
    try:
        assert isinstance(door.viser._websock_server.get_message_buffer(), MessageBuffer)
    finally:
        door.close()
