"""The board over HTTP, for this machine unless told otherwise: the page, videos, and reports made on demand."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote_to_bytes, urlsplit

from configs.errors import UserError
from watch import files, report, stages
from watch.board import INTERVAL_S, Board
from watch.run_reader import read_run

_BLOCK = 256 * 1024
"""Bytes of a video that are sent at a time."""


class BoardServer(ThreadingHTTPServer):
    """Serves one board; `keep_fresh` reads the runs again while it does."""

    daemon_threads = True

    def __init__(self, board: Board, host: str, port: int) -> None:
        self.board = board
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.local = _is_loopback(host)
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise UserError(f"{host}:{port} {reason}; give another --port, or --port 0 for a free one") from error

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/"

    def keep_fresh(self, interval_s: float = INTERVAL_S) -> None:
        while not self.stopping.wait(interval_s):
            with self.lock:
                self.board.refresh()


class Handler(BaseHTTPRequestHandler):
    """Answers GET for four kinds of address and nothing else: no listing, no other file of a run."""

    server: BoardServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        # A page elsewhere may point a name of its own at this address (DNS rebinding) to read the runs.
        host = re.sub(r":\d+$", "", self.headers.get("Host", ""))
        if self.server.local and not (host == "localhost" or _is_loopback(host.strip("[]"))):
            return self.send_error(HTTPStatus.FORBIDDEN, "served for this machine only")
        path = unquote_to_bytes(urlsplit(self.path).path)
        board = self.server.board
        if path in (b"/", b"/board.html"):
            with self.server.lock:
                page = board.html(live=True, served=True)
            return self._text(page, "text/html")
        if path == f"/{board.live_name}".encode():
            with self.server.lock:
                changes = board.changes()
            return self._text(changes, "text/javascript")
        run, _, name = path[1:].rpartition(b"/")
        folder = self._run(run)
        if folder is not None and name == b"report.html":
            return self._text(report.render(read_run(folder)), "text/html")
        if folder is not None and name == b"video.mp4":
            return self._video(folder, "video.mp4")
        owner, _, part = run.rpartition(b"/")
        if part == stages.FOLDER.encode() and stages.NAME.fullmatch(name.decode("latin-1")):
            film = self._run(owner)
            if film is not None:
                return self._video(film, f"{stages.FOLDER}/{name.decode('latin-1')}")
        self.send_error(HTTPStatus.NOT_FOUND)

    def _run(self, address: bytes) -> Path | None:
        """The run at TASK/NAME, if it is one of the board's: nothing else of the disk can be named."""
        with self.server.lock:
            known = address.decode("utf-8", "backslashreplace") in self.server.board.catalog.rows
        return self.server.board.runs / os.fsdecode(address) if known else None

    def _text(self, content: str, kind: str) -> None:
        encoded = content.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(encoded)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(encoded)

    def _video(self, run: Path, name: str) -> None:
        """The video or the part of it that is asked for (RFC 9110, 14): players need parts to seek."""
        try:
            video = files.regular(run, name).open("rb")
        except (files.Unreadable, OSError):
            return self.send_error(HTTPStatus.NOT_FOUND)
        with video:
            size = os.fstat(video.fileno()).st_size
            part = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            first, last = 0, size - 1
            if part and part[1]:
                first, last = int(part[1]), min(int(part[2] or last), last)
            elif part and part[2]:
                first = max(0, size - int(part[2]))
            if first > last:
                self.send_response(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
                self.send_header("Content-Range", f"bytes */{size}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(HTTPStatus.PARTIAL_CONTENT if part else HTTPStatus.OK)
            if part:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.send_header("Content-Type", "video/mp4")
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(last - first + 1))
            self.end_headers()
            self._copy(video, first, last - first + 1)

    def _copy(self, video: BinaryIO, first: int, count: int) -> None:
        video.seek(first)
        while count > 0 and (block := video.read(min(count, _BLOCK))):
            self.wfile.write(block)
            count -= len(block)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):  # the reader went away, as players do after each seek
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: a page that looks for changes would fill the terminal."""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def serving(board: Board, host: str = "127.0.0.1", port: int = 0) -> Iterator[BoardServer]:
    """A server that answers in threads of its own until the block ends."""
    server = BoardServer(board, host, port)
    threads = [threading.Thread(target=target, daemon=True) for target in (server.serve_forever, server.keep_fresh)]
    for thread in threads:
        thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        server.server_close()
        for thread in threads:
            thread.join()


def serve(board: Board, host: str, port: int) -> None:
    """Serves until interrupted."""
    with serving(board, host, port) as server:
        print(f"{server.address}  (Ctrl+C ends)", flush=True)
        if not server.local:
            print(f"gantry: everybody who reaches {host} can read these runs", flush=True)
        server.stopping.wait()
