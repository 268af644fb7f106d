"""The viewer's one port: viser's page and socket, our script in that page, and a socket for keys and gamepad.

viser answers whoever reaches its port, and a page elsewhere may open a socket to this machine: browsers do not
keep sockets to their own origin. So what comes in passes here first. viser offers no such place; it serves through
`websockets.asyncio.server.serve`, which is replaced while a ViserServer starts. Of viser's own, only what
play_messages.py mends is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http
import io
import ipaddress
import itertools
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import viser
import websockets
import websockets.asyncio.server as asyncio_server
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from configs.errors import UserError
from watch import play_messages

DRIVE = "/drive"
_STATIC = Path(__file__).parent / "static"
_ASSETS = {"/play.js": "text/javascript", "/play.css": "text/css"}
_INJECTED = b'<link rel="stylesheet" href="play.css"><script src="play.js" defer></script></head>'
_STATUS_PERIOD_S = 0.1
_MAX_MESSAGE = 4096
# The page is one file with everything inline; it compiles WebAssembly and starts workers from blobs.
_POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob: 'self'; "
    "style-src 'self' 'unsafe-inline'; connect-src 'self' data: blob: ws: ; frame-ancestors 'none'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)
_starting = threading.Lock()

Handler = Callable[[ServerConnection], Awaitable[None]]
Process = Callable[[ServerConnection, Request], Response | None]


class QuietServer(viser.ViserServer):
    """A viser server that never opens a public tunnel, whatever a page asks for."""

    def request_share_url(self, verbose: bool = True) -> str | None:
        return None


class Door:
    """Starts a viser server behind checks. `on_input(page, message)` gets what pages send; None when one is gone."""

    def __init__(self, host: str, port: int, on_input: Callable[[int, dict[str, Any] | None], None]) -> None:
        """Raises UserError where the address cannot be used."""
        self._host, self._on_input = host, on_input
        self._local = is_loopback(host)
        self._pages = itertools.count()
        self._page: bytes | None = None
        self.status = "{}"
        """What the pages show, JSON; sent whenever it has changed."""
        _require_free(host, port)
        play_messages.use()
        with _starting, _replaced(self._serve), contextlib.redirect_stdout(io.StringIO()):
            self.viser = QuietServer(host=host, port=port, verbose=False)
        self.port = self.viser.get_port()
        if port not in (0, self.port):  # viser tries the next ones by itself
            self.close()
            raise _taken(host, port)

    @property
    def address(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self._local

    def close(self) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # viser prints that it has stopped
            self.viser.stop()

    def _serve(self, handler: Handler, host: str, port: int, **options: Any) -> Any:
        inner: Process | None = options.pop("process_request", None)
        return _REAL_SERVE(
            lambda connection: self._connected(connection, handler), host, port,
            process_request=lambda connection, request: self._asked(connection, request, inner), **options,
        )  # fmt: skip

    async def _connected(self, connection: ServerConnection, handler: Handler) -> None:
        if connection.request is not None and _path(connection.request) == DRIVE:
            await self._drive(connection)
        else:
            await handler(connection)

    def _asked(self, connection: ServerConnection, request: Request, inner: Process | None) -> Response | None:
        """None lets a socket through; anything else is the answer."""
        if not self._may_enter(request):
            return _response(b"served for this machine and its own page only\n", "text/plain", 403)
        path = _path(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return None
        if path in _ASSETS:
            return _response((_STATIC / path[1:]).read_bytes(), _ASSETS[path])
        response = inner(connection, request) if inner is not None else None
        if response is not None and path in ("/", "/index.html") and response.status_code == 200:
            return self._with_script(response)
        return response

    def _with_script(self, response: Response) -> Response:
        if self._page is None:
            page = bytes(response.body or b"")
            if response.headers.get("Content-Encoding") == "gzip":
                page = gzip.decompress(page)
            page = page.replace(b"</head>", _INJECTED, 1).replace(b"<title>Viser</title>", b"<title>Gantry</title>", 1)
            self._page = page
        return _response(self._page, "text/html")

    def _may_enter(self, request: Request) -> bool:
        """Refuses names that a page elsewhere points at this address (DNS rebinding), and pages elsewhere."""
        host = request.headers.get("Host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if self._local and not (name == "localhost" or is_loopback(name)):
            return False
        origin = request.headers.get("Origin")
        return origin is None or urlsplit(origin).netloc == host

    async def _drive(self, connection: ServerConnection) -> None:
        page = next(self._pages)
        sender = asyncio.create_task(self._tell(connection))
        try:
            async for text in connection:
                message = _message(text)
                if message is not None:
                    self._on_input(page, message)
        except websockets.exceptions.ConnectionClosed:
            pass
        finally:
            self._on_input(page, None)
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _tell(self, connection: ServerConnection) -> None:
        sent = None
        while True:
            if self.status != sent:
                sent = self.status
                await connection.send(sent)
            await asyncio.sleep(_STATUS_PERIOD_S)


_REAL_SERVE = asyncio_server.serve


@contextlib.contextmanager
def _replaced(serve: Callable[..., Any]) -> Iterator[None]:
    asyncio_server.serve = cast(Any, serve)  # type: ignore[misc]
    try:
        yield
    finally:
        asyncio_server.serve = _REAL_SERVE  # type: ignore[misc]


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _require_free(host: str, port: int) -> None:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
    except OSError as error:
        raise _taken(host, port, error) from error


def _taken(host: str, port: int, error: OSError | None = None) -> UserError:
    reason = f" ({error.strerror})" if error is not None and error.strerror else ""
    return UserError(f"{host}:{port} cannot be used{reason}; give another --port, or --port 0 for a free one")


def _path(request: Request) -> str:
    return request.path.partition("?")[0]


def _message(text: str | bytes) -> dict[str, Any] | None:
    """A page's message, or None for what is none."""
    if not isinstance(text, str) or len(text) > _MAX_MESSAGE:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _response(body: bytes, kind: str, status: int = 200) -> Response:
    headers = Headers()
    headers["Content-Type"] = f"{kind}; charset=utf-8"
    headers["Content-Length"] = str(len(body))
    headers["Cache-Control"] = "no-store"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = _POLICY
    return Response(status, http.HTTPStatus(status).phrase, headers, body)
