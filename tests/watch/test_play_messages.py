"""Messages that one thread sends while a page is being written to by the event loop."""

from __future__ import annotations

import asyncio
import sys
import threading
import time

import pytest
from viser import _messages
from viser.infra._async_message_buffer import AsyncMessageBuffer

from watch.play_door import Door
from watch.play_messages import LoopEvent, MessageBuffer

COUNT, PAGES = 2000, 8


@pytest.fixture
def restless():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture
def loop():
    """An event loop that runs in a thread of its own."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever, daemon=True)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join(10.0)
    made.close()


def test_another_thread_sends_and_everything_arrives_in_order(restless, loop):
    """Pages fall asleep between windows, so that almost each message has to wake them."""
    failed: list[BaseException] = []
    received: list[list[int]] = [[] for _ in range(PAGES)]

    async def page(buffer: AsyncMessageBuffer, i: int) -> None:
        async for window in buffer.window_generator(i):
            received[i].extend(int(message.name) for message in window)  # type: ignore[attr-defined]

    async def begin() -> MessageBuffer:
        return MessageBuffer(loop, persistent_messages=True, window_duration_sec=0.0)

    buffer = asyncio.run_coroutine_threadsafe(begin(), loop).result()
    reading = [asyncio.run_coroutine_threadsafe(page(buffer, i), loop) for i in range(PAGES)]

    def send() -> None:
        try:
            for i in range(COUNT):
                buffer.push(_messages.SetSceneNodeVisibilityMessage(str(i), True))
                time.sleep(1e-4)
        except RuntimeError as error:
            failed.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join()
    end = time.monotonic() + 10.0
    while not all(page and page[-1] == COUNT - 1 for page in received) and not failed and time.monotonic() < end:
        time.sleep(0.05)
    buffer.set_done()
    for page_ended in reading:
        page_ended.result(10.0)
    assert not failed and received == [list(range(COUNT))] * PAGES


def test_only_the_loop_sets_it(loop):
    event = LoopEvent(loop)
    event.set()
    assert not event.is_set()
    loop.call_soon_threadsafe(event.set)
    asyncio.run_coroutine_threadsafe(event.wait(), loop).result(10.0)


@pytest.mark.slow
def test_the_viewer_uses_it():
    door = Door("127.0.0.1", 0, lambda page, message: None)
    try:
        assert isinstance(door.viser._websock_server.get_message_buffer(), MessageBuffer)
    finally:
        door.close()
