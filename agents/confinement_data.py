"""Data back from a child: JSON and tensors from plain files, and nothing else."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.confinement_limits import MIB, ConfinementError

if TYPE_CHECKING:
    from torch import Tensor


def open_plain_file(folder: str | Path, name: str, max_bytes: int) -> int:
    """Open a file that untrusted code left in `folder` for reading; return its descriptor.

    No part of `name` may be a link; the file must be regular, have no second name and not exceed `max_bytes`.

    Raises:
        ConfinementError: naming the file and which of these it is not.
    """
    parts = Path(name).parts
    if not parts or Path(name).is_absolute() or ".." in parts:
        raise ConfinementError(f"{name!r} is not a path inside {folder}")
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # O_NONBLOCK: a pipe must not hang us
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            step = flags | (0 if part is parts[-1] else os.O_DIRECTORY)
            inner = os.open(part, step, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfinementError(f"{name} in {folder} is not a regular file")
        if found.st_nlink != 1:
            raise ConfinementError(f"{name} in {folder} has {found.st_nlink} names; only files with one are read")
        if found.st_size > max_bytes:
            raise ConfinementError(f"{name} in {folder} has {found.st_size} bytes; at most {max_bytes} are read")
    except OSError as error:
        os.close(descriptor)
        raise ConfinementError(f"cannot read {name} in {folder}: {error.strerror} (links are not followed)") from None
    except ConfinementError:
        os.close(descriptor)
        raise
    return descriptor


def read_json(folder: str | Path, name: str, max_bytes: int = 16 * MIB) -> Any:
    """Read a JSON file that untrusted code wrote. Its strings stay untrusted: escape them where shown.

    Raises:
        ConfinementError: not a plain file (see `open_plain_file`), or not JSON.
    """
    with os.fdopen(open_plain_file(folder, name, max_bytes), "rb") as file:
        data = file.read(max_bytes + 1)  # it may grow while it is read
    if len(data) > max_bytes:
        raise ConfinementError(f"{name} in {folder} grew beyond {max_bytes} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ConfinementError(f"{name} in {folder} is not JSON: {str(error)[:200]}") from None


def read_tensors(folder: str | Path, name: str, max_bytes: int = 256 * MIB) -> dict[str, Tensor]:
    """Read a dict of tensors that untrusted code saved with `torch.save`; nothing else passes.

    Loads with ``weights_only=True`` after looking at the archive: no compressed entries (which could unpack
    to any size). Tensors must be dense, on the CPU and not larger than the file.

    Raises:
        ConfinementError: not a plain file, or holding anything but tensors by name.
    """
    import torch  # the child imports this module before it may import torch

    def refuse(why: str) -> ConfinementError:
        return ConfinementError(f"{name} in {folder} is not a plain dict of tensors: {why}")

    with os.fdopen(open_plain_file(folder, name, max_bytes), "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise refuse(str(error)[:200]) from None
        size = sum(entry.file_size for entry in entries)
        if size > max_bytes or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise refuse("compressed entries")
        file.seek(0)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # whatever a malformed archive brings up
            raise refuse(str(error).split("\n")[0][:200]) from None
    if not isinstance(content, dict):
        raise refuse(f"it holds a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or type(value) not in (torch.Tensor, torch.nn.Parameter):
            raise refuse(f"entry {str(key)[:40]!r} is a {type(value).__name__}")
        if value.layout != torch.strided or value.device.type != "cpu" or value.numel() * value.element_size() > size:
            raise refuse(f"entry {key[:40]!r} is sparse, on another device or larger than its file")
    return {key: value.detach().contiguous() for key, value in content.items()}
