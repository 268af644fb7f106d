"""Raw calls to the kernel, and which interface versions it offers."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any


def system_call(number: int, *arguments: Any) -> int:
    """Make a raw system call; return its result or raise OSError."""
    result: int = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(ctypes.c_int(option), *padded) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def landlock_abi() -> int:
    """Version of the kernel's Landlock interface, 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return system_call(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0
