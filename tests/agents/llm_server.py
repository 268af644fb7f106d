"""A server with OpenAI's chat interface on loopback, whose answers a test scripts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request."""

    status: int = 200
    text: str = "```python\ndef reward(s):\n    return {}\n```"
    headers: dict[str, str] = field(default_factory=dict)
    raw: str | None = None
    """The whole body, instead of a well-formed one around text."""
    delay_s: float = 0.0
    finish: str = "stop"
    usage: tuple[int, int] | None = (100, 50)
    close: bool = False
    """Break the connection instead of answering."""

    def body(self) -> bytes:
        if self.raw is not None:
            return self.raw.encode()
        if self.status != 200:
            return json.dumps({"error": {"message": self.text}}).encode()
        content: dict[str, Any] = {
            "id": "1", "object": "chat.completion", "created": 1, "model": "served-model",
            "choices": [{"index": 0, "finish_reason": self.finish,
                         "message": {"role": "assistant", "content": self.text}}],
        }  # fmt: skip
        if self.usage is not None:
            prompt, completion = self.usage
            content["usage"] = {
                "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            }  # fmt: skip
        return json.dumps(content).encode()


class FakeServer:
    """Counts and keeps what it is asked. `script(last message, how often it came) -> Reply`."""

    def __init__(self, script: Callable[[str, int], Reply]) -> None:
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.times: list[float] = []
        """time.monotonic() [s] of each arrival."""
        self.keys: list[str] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_POST(self) -> None:
                outer.serve(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def prompts(self) -> list[str]:
        """The last message of each request, in order of arrival."""
        return [request["messages"][-1]["content"] for request in self.requests]

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        request = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        prompt = request["messages"][-1]["content"]
        with self._lock:
            self.requests.append(request)
            self.times.append(time.monotonic())
            self.keys.append(handler.headers.get("authorization", ""))
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            seen = self.prompts().count(prompt)
        reply = self.script(prompt, seen)
        try:
            time.sleep(reply.delay_s)
        finally:
            with self._lock:
                self._now -= 1
        handler.close_connection = True
        if reply.close:
            return
        body = reply.body()
        try:
            handler.send_response(reply.status)
            for name, value in {"content-type": "application/json", **reply.headers}.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:  # the client gave up
            pass

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def serving(script: Callable[[str, int], Reply]) -> Iterator[FakeServer]:
    server = FakeServer(script)
    try:
        yield server
    finally:
        server.close()
