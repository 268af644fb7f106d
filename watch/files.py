"""Files of a run folder that may be missing, half-written, huge, or made to do harm: bounded, checked reading."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

MIB = 2**20
TEXT_LIMIT = 2 * MIB
"""Bytes of a text file that is read as a whole."""
PROGRESS_LIMIT = 64 * MIB
LINE_LIMIT = MIB

# libyaml is ten times as fast; both loaders build plain values only.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Exception):
    """Why a file cannot be used, in words for the page."""


class Missing(Unreadable):
    """The file does not exist."""


def regular(run: Path, name: str) -> Path:
    """The path of a plain file inside the run folder.

    Raises:
        Missing: there is none.
        Unreadable: it is something else, such as a pipe (which would block) or a link that leads out of the
            folder (a run from elsewhere must not bring files of this machine into a page that is sent around).
    """
    path = run / name
    try:
        info = path.stat()
        inside = path.resolve().is_relative_to(run.resolve())
    except FileNotFoundError:
        raise Missing("is missing") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise Unreadable(f"cannot be opened: {_reason(error)}") from error
    if not stat.S_ISREG(info.st_mode):
        raise Unreadable("is no plain file")
    if not inside:
        raise Unreadable("is a link that leads out of the run folder; it is not followed")
    return path


def read_text(run: Path, name: str, limit: int = TEXT_LIMIT) -> str:
    """The file as text, bytes that are no UTF-8 replaced. Raises Unreadable."""
    path = regular(run, name)
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except OSError as error:
        raise Unreadable(f"cannot be read: {_reason(error)}") from error
    if len(content) > limit:
        raise Unreadable(f"is larger than {limit // MIB} MiB")
    return content.decode("utf-8", "replace")


def read_json(run: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file. Raises Unreadable."""
    return parse_json(read_text(run, name))


def parse_json(source: str) -> dict[str, Any]:
    """The JSON object that the text holds. Raises Unreadable."""
    return _object(source, json.loads, "JSON")


def read_yaml(run: Path, name: str) -> tuple[dict[str, Any], str]:
    """The YAML mapping in the file and its text. Raises Unreadable."""
    source = read_text(run, name, MIB)
    return _object(source, lambda content: yaml.load(content, Loader=_LOADER), "YAML"), source


def _object(source: str, parse: Any, language: str) -> dict[str, Any]:
    if not source.strip():
        raise Unreadable("is empty; its writing was probably interrupted")
    try:
        content = parse(source)
    except RecursionError as error:
        raise Unreadable(f"is nested too deeply for {language}") from error
    except (ValueError, yaml.YAMLError) as error:
        raise Unreadable(f"is no valid {language} ({_reason(error)}); was its writing interrupted?") from error
    if not isinstance(content, dict):
        raise Unreadable(f"holds no {language} object")
    return content


def lines(path: Path) -> Iterator[bytes]:
    """The file's lines up to PROGRESS_LIMIT bytes in all; a line longer than LINE_LIMIT comes in pieces."""
    left = PROGRESS_LIMIT
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(LINE_LIMIT)):
            left -= len(line)
            yield line


def check_mp4(path: Path) -> None:
    """Raises Unreadable where a player could not open the video.

    A video that was interrupted lacks its index, the `moov` box, which is written last (ISO/IEC 14496-12, 8.2).
    """
    boxes: set[bytes] = set()
    try:
        size, at = path.stat().st_size, 0
        with path.open("rb") as file:
            while at + 8 <= size and len(boxes) < 64:
                file.seek(at)
                header = file.read(16)
                length, kind = int.from_bytes(header[:4], "big"), header[4:8]
                if length == 1:
                    length = int.from_bytes(header[8:16], "big")
                if not boxes and kind != b"ftyp":
                    raise Unreadable("is no MP4 video")
                if length == 0:  # up to the end of the file
                    length = size - at
                if length < 8 or at + length > size:
                    break
                boxes.add(kind)
                at += length
    except OSError as error:
        raise Unreadable(f"cannot be read: {_reason(error)}") from error
    if not size:
        raise Unreadable("is empty; the rendering was interrupted")
    if b"moov" not in boxes:
        raise Unreadable("is incomplete (no index); the rendering was interrupted")


def listing(run: Path, limit: int = 200) -> list[tuple[str, int]]:
    """(name, bytes) of the files of the folder and one level below, sorted, at most `limit`."""
    found: list[tuple[str, int]] = []
    folders = [(run, "")]
    while folders and len(found) < limit:
        folder, prefix = folders.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries[:limit]:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False) and not prefix:
                folders.append((Path(entry.path), f"{entry.name}/"))
            elif entry.is_file(follow_symlinks=False):
                found.append((prefix + entry.name, entry.stat(follow_symlinks=False).st_size))
    return found[:limit]


def _reason(error: BaseException) -> str:
    """The first line of the error's message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:200] or type(error).__name__
