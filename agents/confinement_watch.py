"""The parent watches a child: its output, time, memory, threads and folder."""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping

from agents.confinement_limits import MIB, Limits

_TICK_S = 0.05
_FOLDER_EVERY_S = 1.0
_CONTROL = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")


def plain_text(text: str) -> str:
    """Without control characters, which would write into the reader's terminal, and not endless."""
    return _CONTROL.sub("?", text[:8000])


class Output:
    """Keeps the first and the last half of what a child prints.

    A tick reads at most what the pipe holds (64 KiB), so a flood slows the flooder down and not the parent.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor, self._half = descriptor, limit // 2
        self._head, self._tail, self._dropped = b"", b"", 0

    def read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._descriptor, 1 << 16)
            room = self._half - len(self._head)
            self._head += data[:room]
            self._tail += data[room:] if room > 0 else data
            self._dropped += max(0, len(self._tail) - self._half)
            self._tail = self._tail[-self._half :]

    def text(self) -> str:
        middle = f"\n[... {self._dropped} bytes left out ...]\n".encode() if self._dropped else b""
        return _CONTROL.sub("?", (self._head + middle + self._tail).decode("utf-8", "replace"))


def _status(process_id: int) -> dict[str, int]:
    """Figures of a running process: bytes resident and swapped now, the most so far, and threads."""
    try:
        with open(f"/proc/{process_id}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
    except OSError:
        return {"now": 0, "peak": 0, "threads": 0}  # it just ended, or this is not Linux
    kib = {
        name: int(fields[name].split()[0]) for name in ("VmRSS", "VmSwap", "HugetlbPages", "VmHWM") if name in fields
    }
    now = 1024 * sum(kib.get(name, 0) for name in ("VmRSS", "VmSwap", "HugetlbPages"))
    return {"now": now, "peak": 1024 * kib.get("VmHWM", 0), "threads": int(fields.get("Threads", "0"))}


def _folder_excess(folder: str, limits: Limits) -> str | None:
    """The limit that the folder's content exceeds, in words; links are counted, never followed."""
    if shutil.disk_usage(folder).free < limits.disk_free_bytes:
        return f"the disk has less than {limits.disk_free_bytes / MIB:.0f} MiB left"
    total = entries = 0
    waiting = [(folder, 1)]
    while waiting:
        place, depth = waiting.pop()
        try:
            with os.scandir(place) as found:
                for entry in found:
                    entries += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append((entry.path, depth + 1))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                    if entries > limits.folder_entries:
                        return f"more than {limits.folder_entries} files in train/"
        except (FileNotFoundError, NotADirectoryError):
            continue  # removed meanwhile
        except OSError as error:
            return f"train/ holds a folder that cannot be read ({error.strerror})"
        if depth > limits.folder_depth:
            return f"train/ is nested deeper than {limits.folder_depth} folders"
    return f"train/ holds more than {limits.folder_bytes / MIB:.0f} MiB" if total > limits.folder_bytes else None


def _excess(process_id: int, started: float, usage: Mapping[str, int], limits: Limits) -> str | None:
    if time.monotonic() - started > limits.wall_s:
        return f"ran longer than {limits.wall_s:g} s"
    if max(usage["now"], usage["peak"]) > limits.resident_bytes:  # also what was freed between two looks
        return f"used more than {limits.resident_bytes / MIB:.0f} MiB of memory"
    if usage["threads"] > limits.threads:
        return f"started more than {limits.threads} threads"
    return None


def watch(process: subprocess.Popen[bytes], output: Output, train: str, limits: Limits) -> tuple[str | None, int]:
    """Wait for the child; return the limit for which it was killed (or None) and its peak resident bytes."""
    started = folder_checked = time.monotonic()
    peak = 0
    with contextlib.ExitStack() as stack:
        waiting = []
        if hasattr(os, "pidfd_open"):
            with contextlib.suppress(OSError):
                waiting = [os.pidfd_open(process.pid)]
                stack.callback(os.close, waiting[0])
        while process.poll() is None:
            output.read()
            usage = _status(process.pid)
            peak = max(peak, usage["peak"])
            reason = _excess(process.pid, started, usage, limits)
            if reason is None and time.monotonic() - folder_checked > _FOLDER_EVERY_S:
                reason, folder_checked = _folder_excess(train, limits), time.monotonic()
            if reason is not None:
                return reason, peak
            if waiting:
                select.select(waiting, [], [], _TICK_S)
            else:
                time.sleep(_TICK_S)
    return _folder_excess(train, limits), peak


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the child with everything in its process group, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
