"""Landlock: which files a child may open (landlock(7))."""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterable, Mapping

from agents.confinement_kernel import landlock_abi, system_call
from agents.confinement_limits import PROJECT

# linux/landlock.h; the number is the interface version that brought the right.
_FILE_RIGHTS = {
    "execute": (1 << 0, 1), "write_file": (1 << 1, 1), "read_file": (1 << 2, 1), "read_dir": (1 << 3, 1),
    "remove_dir": (1 << 4, 1), "remove_file": (1 << 5, 1), "make_char": (1 << 6, 1), "make_dir": (1 << 7, 1),
    "make_reg": (1 << 8, 1), "make_sock": (1 << 9, 1), "make_fifo": (1 << 10, 1), "make_block": (1 << 11, 1),
    "make_sym": (1 << 12, 1), "refer": (1 << 13, 2), "truncate": (1 << 14, 3), "ioctl_dev": (1 << 15, 5),
    "resolve_unix": (1 << 16, 9),
}  # fmt: skip
_NETWORK_RIGHTS = {"bind_tcp": (1, 4), "connect_tcp": (2, 4), "bind_udp": (4, 10), "send_udp": (8, 10)}
_SCOPES = {"abstract_unix_socket": (1, 6), "signal": (2, 6)}
_READ = ("read_file", "read_dir")
_READ_WRITE = (*_READ, "write_file", "truncate", "make_reg", "make_dir", "remove_file", "remove_dir")
#: The rights that may be given for a path that is not a folder.
_RIGHTS_OF_A_FILE = ("execute", "write_file", "read_file", "truncate")
SYSTEM_PATHS = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo",
    "/etc/ld.so.cache", "/etc/localtime", "/dev/urandom", "/dev/null",
    "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu", "/sys/devices/system/node",
)  # fmt: skip


def _bits(rights: Mapping[str, tuple[int, int]], abi: int, names: Iterable[str] | None = None) -> int:
    """OR of the named rights (all without names) that this interface version knows."""
    chosen = rights if names is None else {name: rights[name] for name in names}
    return sum(bit for bit, since in chosen.values() if abi >= since)


def interpreter_paths() -> list[str]:
    """Folders that this process needs to import its standard library and packages.

    Asked in the child, whose `sys.path` holds no working folder (``python -P``). The project's root is left
    out unless it is where packages are installed, because runs and keys may lie in it.
    """
    places = {os.path.join(sys.base_prefix, "lib"), *_library_folders(), *filter(None, sys.path)}
    places |= set(filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
    return sorted(place for place in places if os.path.exists(place) and not is_project_root(place))


def _library_folders() -> set[str]:
    return {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}


def is_project_root(place: str) -> bool:
    real = os.path.realpath(place)
    installed = {os.path.realpath(folder) for folder in _library_folders()}
    return real == "/" or (real == str(PROJECT) and real not in installed)


def apply_landlock(readable: Iterable[str], writable: Iterable[str]) -> None:
    abi = landlock_abi()
    ruleset = struct.pack("QQQ", _bits(_FILE_RIGHTS, abi), _bits(_NETWORK_RIGHTS, abi), _bits(_SCOPES, abi))
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset_fd = system_call(444, ctypes.c_char_p(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    grants: list[tuple[str, tuple[str, ...]]] = [(path, _READ) for path in readable]
    grants += [(path, _READ_WRITE) for path in writable] + [("/dev/null", ("read_file", "write_file"))]
    for path, names in grants:
        try:
            path_fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if not stat.S_ISDIR(os.fstat(path_fd).st_mode):
                names = tuple(name for name in names if name in _RIGHTS_OF_A_FILE)
            rule = struct.pack("=Qi", _bits(_FILE_RIGHTS, abi, names), path_fd)
            system_call(445, ctypes.c_int(ruleset_fd), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
        finally:
            os.close(path_fd)
    system_call(446, ctypes.c_int(ruleset_fd), ctypes.c_uint32(0))
    os.close(ruleset_fd)
