"""Run code that a language model wrote in a child process that can harm nothing outside its folder.

`run_confined` starts a fresh Python process; before it imports torch or starts any thread it

* takes a minimal environment, closes every inherited file, starts a session and dies with its parent;
* sets resource limits and drops all capabilities;
* applies **Landlock** (which files may be opened; landlock(7)): the interpreter, libraries and this project's
  packages for reading, `train/` inside its run folder for writing regular files and folders;
* applies a **seccomp** filter (which system calls may be made; seccomp(2)), because Landlock alone leaves
  datagram and abstract sockets, new processes, `chmod` and much else open.

The parent watches wall time, resident memory, threads and the size of `train/`, kills what exceeds a limit
and goes on. What comes back is data: JSON and tensors, read with `read_json` and `read_tensors`, which refuse
links, pipes and anything that is not a plain file.

Both mechanisms are called through `ctypes` rather than through a package: the boundary is then about 150
lines that can be read here, it needs no system library (`pyseccomp` needs libseccomp), it works on every
kernel from Linux 6.2 on, and no third party's release can widen it.

Still possible inside: using the processor up to the limits, seeing that a path outside exists and its size
and times (`stat` is not covered by Landlock), and writing wrong numbers into its own results. The last is why
fitness is measured by the parent, from the policy's weights alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import importlib.util
import json
import math
import os
import platform
import re
import resource
import secrets
import select
import shutil
import signal
import stat
import struct
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from configs.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

GIB = 2**30
MIB = 2**20
PROJECT = Path(__file__).resolve().parent.parent
#: The packages of this project that a confined child may import (a test keeps the list short on purpose).
PROJECT_PACKAGES = ("agents", "configs", "envs")
#: Landlock below version 3 (Linux 6.2) cannot refuse to empty a file.
MINIMUM_LANDLOCK_ABI = 3

Trust = Literal["confined", "unconfined"]


class ConfinementError(UserError):
    """The child cannot be confined here, or a file that it left behind is not what it should be."""


@dataclass(frozen=True)
class Limits:
    """What one child may use. None means no limit of that kind."""

    wall_s: float = 120.0
    """Time from start to end [s], watched by the parent."""
    cpu_s: float | None = None
    """Processor time summed over threads [s], enforced by the kernel."""
    address_space_bytes: int | None = None
    """Virtual memory, enforced by the kernel; importing torch needs more than 1 GiB. For dry runs."""
    resident_bytes: int = 4 * GIB
    """Memory really in use (resident and swapped), watched by the parent. For trainings."""
    threads: int = 256
    """Threads at once, watched by the parent."""
    open_files: int = 256
    file_bytes: int = 256 * MIB
    """Size of any one file, enforced by the kernel."""
    folder_bytes: int = 2 * GIB
    """Size of everything in `train/`, watched by the parent."""
    folder_entries: int = 10_000
    folder_depth: int = 8
    """Levels of folders inside `train/`."""
    disk_free_bytes: int = GIB
    """Room that the disk must keep: deleted files that are still open count nowhere else."""
    output_bytes: int = 64 * 1024
    """How much of stdout and stderr is kept: the first and the last half of it."""
    result_bytes: int = 16 * MIB
    """Largest JSON result that is read back."""


#: For checking code and calling it a few times on recorded states.
DRY_RUN_LIMITS = Limits(
    wall_s=90.0, cpu_s=60.0, address_space_bytes=6 * GIB, resident_bytes=2 * GIB, folder_bytes=64 * MIB
)


@dataclass(frozen=True)
class Outcome:
    """How a child ended. Everything in `result` and `output` was written where untrusted code ran."""

    ended: Literal["finished", "failed", "killed"]
    reason: str
    """One line when it did not finish: the limit that it passed, the signal, or the error."""
    result: Any
    """What the target returned (plain JSON values), or None."""
    error: dict[str, str] | None
    """`type`, `message` and `traceback` of the exception that ended the target, or None."""
    output: str
    """stdout and stderr, shortened in the middle, without control characters."""
    exit_code: int | None
    wall_s: float
    peak_resident_bytes: int
    missing: list[str] = field(default_factory=list)
    """Kernel features that the child ran without (only under ``trust="unconfined"``)."""

    @property
    def ok(self) -> bool:
        return self.ended == "finished"


# --- what the kernel offers ---------------------------------------------------------------------------------


def _syscall(number: int, *arguments: Any) -> int:
    """Make a raw system call; return its result or raise OSError."""
    result: int = ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if ctypes.CDLL(None, use_errno=True).prctl(ctypes.c_int(option), *padded) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}): {os.strerror(code)}")


def landlock_abi() -> int:
    """Version of the kernel's Landlock interface, 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    try:
        return _syscall(444, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except OSError:
        return 0


def confinement_support() -> list[str]:
    """Name what is missing here for `trust="confined"`; an empty list means that everything is there."""
    if not sys.platform.startswith("linux"):
        return [f"Linux (this is {platform.system()}, which has neither Landlock nor seccomp)"]
    missing = []
    abi = landlock_abi()
    if abi < MINIMUM_LANDLOCK_ABI:
        found = f"version {abi}" if abi else "none, or not enabled in the lsm= boot parameter"
        missing.append(f"Landlock version {MINIMUM_LANDLOCK_ABI} or newer, Linux 6.2 (found: {found})")
    if platform.machine() not in _MACHINES:
        missing.append(f"a system call table for {platform.machine()} (known: {', '.join(_MACHINES)})")
    else:
        try:  # SECCOMP_GET_ACTION_AVAIL, asked about SECCOMP_RET_KILL_PROCESS
            action = ctypes.c_uint32(_KILL_PROCESS)
            _syscall(_number("seccomp"), ctypes.c_uint(2), ctypes.c_uint(0), ctypes.byref(action))
        except OSError as error:
            missing.append(f"seccomp filters ({error.strerror})")
    return missing


# --- Landlock: which files ----------------------------------------------------------------------------------

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

_SYSTEM_PATHS = (
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
    return sorted(place for place in places if os.path.exists(place) and not _is_project_root(place))


def _library_folders() -> set[str]:
    return {sysconfig.get_paths()[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}


def _is_project_root(place: str) -> bool:
    real = os.path.realpath(place)
    installed = {os.path.realpath(folder) for folder in _library_folders()}
    return real == "/" or (real == str(PROJECT) and real not in installed)


def _apply_landlock(readable: Iterable[str], writable: Iterable[str]) -> None:
    abi = landlock_abi()
    ruleset = struct.pack("QQQ", _bits(_FILE_RIGHTS, abi), _bits(_NETWORK_RIGHTS, abi), _bits(_SCOPES, abi))
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset_fd = _syscall(444, ctypes.c_char_p(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
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
            _syscall(445, ctypes.c_int(ruleset_fd), ctypes.c_int(1), ctypes.c_char_p(rule), ctypes.c_uint32(0))
        finally:
            os.close(path_fd)
    _syscall(446, ctypes.c_int(ruleset_fd), ctypes.c_uint32(0))
    os.close(ruleset_fd)


# --- seccomp: which system calls ----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Machine:
    audit_arch: int
    """AUDIT_ARCH_* of linux/audit.h: a call made through another table (32-bit, x32) has another value."""
    column: int
    """Which number of `_SYSCALLS` applies."""


_MACHINES = {"x86_64": _Machine(0xC000003E, 0), "aarch64": _Machine(0xC00000B7, 1)}

# Numbers from asm/unistd_64.h and asm-generic/unistd.h; None: the call does not exist on that machine.
_SYSCALLS: dict[str, tuple[int, int | None]] = {
    "accept": (43, 202), "accept4": (288, 242), "acct": (163, 89), "add_key": (248, 217),
    "adjtimex": (159, 171), "bind": (49, 200), "bpf": (321, 280), "capset": (126, 91), "chmod": (90, None),
    "chown": (92, None), "chroot": (161, 51), "clock_adjtime": (305, 266), "clock_settime": (227, 112),
    "clone": (56, 220), "clone3": (435, 435), "connect": (42, 203), "delete_module": (176, 106),
    "execve": (59, 221), "execveat": (322, 281), "fanotify_init": (300, 262), "fanotify_mark": (301, 263),
    "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452), "fchown": (93, 55),
    "fchownat": (260, 54), "fcntl": (72, 25), "fgetxattr": (193, 10), "finit_module": (313, 273),
    "flistxattr": (196, 13), "flock": (73, 32), "fork": (57, None), "fremovexattr": (199, 16),
    "fsconfig": (431, 431), "fsetxattr": (190, 7), "fsmount": (432, 432), "fsopen": (430, 430),
    "fspick": (433, 433), "futimesat": (261, None), "get_robust_list": (274, 100), "getxattr": (191, 8),
    "init_module": (175, 105), "inotify_add_watch": (254, 27), "inotify_init": (253, None),
    "inotify_init1": (294, 26), "ioctl": (16, 29), "io_setup": (206, 0), "io_submit": (209, 2),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "io_uring_setup": (425, 425),
    "ioperm": (173, None), "iopl": (172, None), "ioprio_set": (251, 30), "kcmp": (312, 272),
    "kexec_file_load": (320, 294), "kexec_load": (246, 104), "keyctl": (250, 219), "kill": (62, 129),
    "lchown": (94, None), "lgetxattr": (192, 9), "link": (86, None), "linkat": (265, 37),
    "listen": (50, 201), "listmount": (458, 458), "listxattr": (194, 11), "llistxattr": (195, 12),
    "lookup_dcookie": (212, 18), "lremovexattr": (198, 15), "lsetxattr": (189, 6),
    "lsm_get_self_attr": (459, 459), "lsm_set_self_attr": (460, 460), "memfd_create": (319, 279),
    "memfd_secret": (447, 447), "migrate_pages": (256, 238), "mknod": (133, None), "mknodat": (259, 33),
    "mlock": (149, 228), "mlock2": (325, 284), "mlockall": (151, 230), "modify_ldt": (154, None),
    "mount": (165, 40), "mount_setattr": (442, 442), "move_mount": (429, 429), "move_pages": (279, 239),
    "mq_getsetattr": (245, 185), "mq_notify": (244, 184), "mq_open": (240, 180),
    "mq_timedreceive": (243, 183), "mq_timedsend": (242, 182), "mq_unlink": (241, 181), "msgctl": (71, 187),
    "msgget": (68, 186), "msgrcv": (70, 188), "msgsnd": (69, 189), "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42), "open_by_handle_at": (304, 265), "open_tree": (428, 428),
    "perf_event_open": (298, 241), "personality": (135, 92), "pidfd_getfd": (438, 438),
    "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424), "pivot_root": (155, 41), "prctl": (157, 167),
    "prlimit64": (302, 261), "process_madvise": (440, 440), "process_mrelease": (448, 448),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "reboot": (169, 142), "recvfrom": (45, 207),
    "recvmmsg": (299, 243), "recvmsg": (47, 212), "removexattr": (197, 14), "request_key": (249, 218),
    "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240), "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274), "sched_setparam": (142, 118), "sched_setscheduler": (144, 119),
    "seccomp": (317, 277), "semctl": (66, 191), "semget": (64, 190), "semop": (65, 193),
    "semtimedop": (220, 192), "sendmmsg": (307, 269), "sendmsg": (46, 211), "sendto": (44, 206),
    "setdomainname": (171, 162), "setfsgid": (123, 152), "setfsuid": (122, 151), "setgid": (106, 144),
    "setgroups": (116, 159), "sethostname": (170, 161), "setns": (308, 268), "setpgid": (109, 154),
    "setpriority": (141, 140), "setregid": (114, 143), "setresgid": (119, 149), "setresuid": (117, 147),
    "setreuid": (113, 145), "setrlimit": (160, 164), "setsid": (112, 157), "settimeofday": (164, 170),
    "setuid": (105, 146), "setxattr": (188, 5), "shmat": (30, 196), "shmctl": (31, 195), "shmdt": (67, 197),
    "shmget": (29, 194), "socket": (41, 198), "socketpair": (53, 199), "statmount": (457, 457),
    "swapoff": (168, 225), "swapon": (167, 224), "symlink": (88, None), "symlinkat": (266, 36),
    "sync": (162, 81), "syncfs": (306, 267), "syslog": (103, 116), "tgkill": (234, 131), "tkill": (200, 130),
    "umount2": (166, 39), "unshare": (272, 97), "uselib": (134, None), "userfaultfd": (323, 282),
    "utime": (132, None), "utimensat": (280, 88), "utimes": (235, None), "vhangup": (153, 58),
}  # fmt: skip
#: The newest call that was reviewed (mseal). Calls that later kernels bring do not exist for the child.
_NEWEST_SYSCALL = 462
#: Decided by their arguments or answered with another error than EPERM; every other name above is refused.
_CONDITIONAL = ("clone", "fcntl", "ioctl", "prctl", "prlimit64", "sched_setaffinity", "tgkill")
_ANSWERS = {
    "clone3": errno.ENOSYS,  # glibc then falls back to clone, whose flags can be inspected
    **dict.fromkeys(("getxattr", "lgetxattr", "fgetxattr"), errno.EOPNOTSUPP),
    **dict.fromkeys(("listxattr", "llistxattr", "flistxattr"), errno.EOPNOTSUPP),
}


def _number(name: str) -> int:
    """Number of a call that exists on every machine."""
    number = _SYSCALLS[name][_MACHINES[platform.machine()].column]
    assert number is not None
    return number


_CLONE_THREAD = 0x10000
_CLONE_NEW_NAMESPACE = 0x7E020000
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Without a list, FS_IOC_SETFLAGS changes the
# attributes of files that may only be read, and FIOSETOWN and TIOCSTI reach other processes.
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# F_SETOWN, F_SETSIG, F_SETOWN_EX: have the kernel send any signal to any process. F_SETLEASE, F_NOTIFY: make
# a reader of the folder wait.
_FCNTLS_REFUSED = (8, 10, 15, 1024, 1026)
# GET_DUMPABLE, SET_NAME, GET_NAME, GET_SECCOMP, CAPBSET_READ, GET_NO_NEW_PRIVS, SET_VMA (names of mappings).
_PRCTLS = (3, 15, 16, 21, 23, 39, 0x53564D41)

_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000

_Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant


def _argument(index: int, half: int = 0) -> _Instruction:
    """Load one 32-bit half of an argument (both machines are little-endian; struct seccomp_data)."""
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * half)


def _answer(value: int) -> _Instruction:
    return (_RETURN, 0, 0, value)


def _only(index: int, values: Sequence[int], then: int = _ALLOW, otherwise: int = _ERRNO | errno.EPERM) -> list:
    """Answer `then` when the argument is one of the values, `otherwise` for every other."""
    block = [_argument(index)]
    for value in values:
        block += [(_JUMP_EQUAL, 0, 1, value), _answer(then)]
    return [*block, _answer(otherwise)]


def seccomp_program(machine: str, process_id: int) -> list[_Instruction]:
    """The filter as classic BPF instructions for `machine`, for the process with this id.

    A list of refusals rather than of permissions: what torch, OpenMP and the C library call differs between
    versions, so a list of permissions breaks trainings on other machines. Every call up to `_NEWEST_SYSCALL`
    was reviewed, and later ones are unknown to the child.
    """
    arch, column = _MACHINES[machine].audit_arch, _MACHINES[machine].column
    refuse = _ERRNO | errno.EPERM
    program: list[_Instruction] = [
        (_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, arch), _answer(_KILL_PROCESS),
        (_LOAD, 0, 0, 0), (_JUMP_GREATER, 0, 1, _NEWEST_SYSCALL), _answer(_ERRNO | errno.ENOSYS),
    ]  # fmt: skip
    blocks: dict[str, list[_Instruction]] = {
        "clone": [
            _argument(0),
            (_JUMP_ANY_BIT, 0, 2, _CLONE_THREAD),
            (_JUMP_ANY_BIT, 1, 0, _CLONE_NEW_NAMESPACE),
            _answer(_ALLOW),
            _answer(refuse),
        ],
        "ioctl": _only(1, _IOCTLS, otherwise=_ERRNO | errno.ENOTTY),
        "fcntl": _only(1, _FCNTLS_REFUSED, then=refuse, otherwise=_ALLOW),
        "prctl": _only(0, _PRCTLS),
        "tgkill": _only(0, [process_id]),
        "sched_setaffinity": _only(0, [0, process_id]),
        # Only asking, only about itself: the new limit (argument 2, a pointer) must be null.
        "prlimit64": [
            _argument(0), (_JUMP_EQUAL, 1, 0, 0), (_JUMP_EQUAL, 0, 5, process_id),
            _argument(2), (_JUMP_EQUAL, 0, 3, 0),
            _argument(2, 1), (_JUMP_EQUAL, 0, 1, 0), _answer(_ALLOW), _answer(refuse),
        ],
    }  # fmt: skip
    for name in _CONDITIONAL:
        number = _SYSCALLS[name][column]
        assert number is not None
        program += [(_JUMP_EQUAL, 0, len(blocks[name]), number), *blocks[name]]
    for name, numbers in _SYSCALLS.items():
        number = numbers[column]
        if name not in _CONDITIONAL and number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), _answer(_ERRNO | _ANSWERS.get(name, errno.EPERM))]
    return [*program, _answer(_ALLOW)]


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _apply_seccomp() -> None:
    instructions = seccomp_program(platform.machine(), os.getpid())
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = _SockFprog(len(instructions), code)
    # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_TSYNC: all threads, those that exist too. With this
    # flag a thread that cannot be reached is answered by its id, a positive number.
    if failed := _syscall(_number("seccomp"), ctypes.c_uint(1), ctypes.c_uint(1), ctypes.byref(program)):
        raise OSError(errno.EBUSY, f"thread {failed} could not be filtered")


# --- inside the child ---------------------------------------------------------------------------------------


def _drop_capabilities() -> None:
    """Give up every capability: root in a confined child is an ordinary user who owns root's files."""
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    _syscall(_number("capset"), ctypes.c_char_p(header), ctypes.c_char_p(struct.pack("6I", *[0] * 6)))


def _apply_limits(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_CPU: None if limits.cpu_s is None else math.ceil(limits.cpu_s),
        resource.RLIMIT_AS: limits.address_space_bytes,
    }
    for kind, value in wanted.items():
        if value is None:
            continue
        hard = resource.getrlimit(kind)[1]
        if hard != resource.RLIM_INFINITY:
            value = min(value, hard)
        # A process may catch the signal of the soft processor-time limit; the hard one a second later kills.
        extra = 1 if kind == resource.RLIMIT_CPU and hard == resource.RLIM_INFINITY else 0
        try:
            resource.setrlimit(kind, (value, value + extra))
        except ValueError as error:
            if sys.platform.startswith("linux"):  # macOS refuses some; there nothing is confined anyway
                raise ConfinementError(f"limit {kind} cannot be set to {value}: {error}") from error


def confine_this_process(writable: str, readable: Iterable[str], limits: Limits, trust: Trust = "confined") -> None:
    """Confine the calling process for good; call it in a fresh, single-threaded child.

    Args:
        writable: the one folder in which files may be made and changed.
        readable: files and folders that may be read besides the system's libraries.
        limits: the limits that the kernel enforces (the parent enforces the others).
        trust: "unconfined" applies the limits only.

    Raises:
        ConfinementError: the process has several threads already, or the kernel refused a step.
    """
    if trust == "unconfined":
        _apply_limits(limits)
        return
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise ConfinementError(f"{threads} threads run already; Landlock binds only the one that asks for it")
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # if the machine runs out of memory, this process goes first
        _apply_limits(limits)
        _prctl(38, 1)  # PR_SET_NO_NEW_PRIVS
        _prctl(4, 0)  # PR_SET_DUMPABLE: no other process of this user may look into this one
        _prctl(47, 4)  # PR_CAP_AMBIENT, clear all
        _apply_landlock([*readable, *_SYSTEM_PATHS], [writable])
        _drop_capabilities()
        _apply_seccomp()
    except OSError as error:
        raise ConfinementError(f"the kernel refused to confine the process: {error}") from error


class _ProjectFinder:
    """Imports this project's packages where its root folder may not be listed."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
        folder = PROJECT / name
        if path is not None or name not in PROJECT_PACKAGES or not folder.is_dir():
            return None
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


def _call(target: str, argument: Any) -> dict[str, Any]:
    """Import and call ``module:function``; return its result or its error as plain values."""
    try:
        module, _, function = target.partition(":")
        return {"result": getattr(importlib.import_module(module), function)(argument)}
    except BaseException as error:  # the parent wants to know about SystemExit and KeyboardInterrupt too
        text = "".join(traceback.format_exception(error, limit=-20))
        print(text, file=sys.stderr)
        return {"error": {"type": type(error).__name__, "message": str(error)[:4000], "traceback": text[-8000:]}}


def child_main() -> None:
    """Entry of the child: read the order from stdin, confine, call the target, write its result."""
    order = json.loads(sys.stdin.buffer.read())
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.closerange(3, 65536)
    os.umask(0o077)
    if sys.platform.startswith("linux"):
        _prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a killed search leaves no training behind
    if os.getppid() != order["parent"]:
        os._exit(71)
    os.chdir(order["train"])
    sys.path[:] = [entry for entry in sys.path if entry and not _is_project_root(entry)]
    sys.meta_path.append(_ProjectFinder)
    readable = [*order["readable"], *interpreter_paths()]
    confine_this_process(order["train"], readable, Limits(**order["limits"]), order["trust"])
    answer = _call(order["target"], order["argument"])
    try:
        text = json.dumps(answer)
    except (TypeError, ValueError, RecursionError) as error:
        answer = {
            "error": {
                "type": type(error).__name__,
                "message": f"result is not JSON: {error}",
                "traceback": "",
            }
        }
        text = json.dumps(answer)
    with open(order["result"] + ".part", "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(order["result"] + ".part", order["result"])
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing of the interpreter's ending (exit handlers, finalizers) is worth waiting for after the result.
    os._exit(1 if "error" in answer else 0)


# --- the parent ---------------------------------------------------------------------------------------------

_TICK_S = 0.05
_FOLDER_EVERY_S = 1.0
# No user packages, no working folder on the path, no bytecode files. As -I, but PYTHONHASHSEED counts.
_FLAGS = ("-s", "-P", "-B", "-X", "utf8")
_START = "import sys; sys.path.insert(0, sys.argv[1]); from agents.confinement import child_main; child_main()"
_CONTROL = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]")


def _plain(text: str) -> str:
    """Without control characters, which would write into the reader's terminal, and not endless."""
    return _CONTROL.sub("?", text[:8000])


class _Output:
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
    if usage["now"] > limits.resident_bytes:
        return f"used more than {limits.resident_bytes / MIB:.0f} MiB of memory"
    if usage["threads"] > limits.threads:
        return f"started more than {limits.threads} threads"
    return None


def _child_environment(train: str, threads: int) -> dict[str, str]:
    """What the child may know: no key, no token, no path of the user's.

    The fixed hash seed gives sets of strings one order, so that a resumed training goes as an uninterrupted
    one.
    """
    environment = {
        "HOME": train,
        "TMPDIR": train,
        "LANG": "C.UTF-8",
        "MUJOCO_GL": "disable",
        "PYTHONHASHSEED": "0",
    }
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    if "LD_LIBRARY_PATH" in os.environ:  # clusters and conda find the C++ library through it
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return environment


def _watch(process: subprocess.Popen[bytes], output: _Output, train: str, limits: Limits) -> tuple[str | None, int]:
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


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the child with everything in its process group, and wait until it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _prepare_train_folder(run_folder: Path) -> Path:
    train = run_folder / "train"
    train.mkdir(parents=True, exist_ok=True)
    if train.is_symlink() or not train.is_dir():
        raise ConfinementError(f"{train} must be a plain folder, and is a link or a file; remove it")
    return train.resolve()


def require_confinement(trust: Trust) -> list[str]:
    """Return the features that are missing; raise unless there are none or the user accepted it.

    Raises:
        ConfinementError: naming what is missing and the setting that accepts it.
    """
    if trust not in ("confined", "unconfined"):
        raise ConfinementError(f"unknown trust {trust!r}; valid: confined, unconfined")
    missing = confinement_support()
    if missing and trust == "confined":
        raise ConfinementError(
            f"code that a model wrote cannot be confined here: missing {'; '.join(missing)}. "
            "Run on such a machine, or set trust=unconfined to run it with your own rights"
        )
    return missing


def run_confined(
    target: str,
    argument: Any,
    run_folder: str | Path,
    limits: Limits | None = None,
    *,
    readable: Iterable[str | Path] = (),
    threads: int = 1,
    trust: Trust = "confined",
) -> Outcome:
    """Call ``module:function`` with one JSON argument in a fresh confined child and wait for its end.

    Blocks; never raises for what the child does. The child imports from the interpreter's packages and from
    `PROJECT_PACKAGES` only, and writes in `run_folder`/train only, which is made if needed.

    Args:
        target: what to call, as ``agents.train:main``; its return value must be plain JSON values.
        argument: handed to it; plain JSON values (it passes through `json`).
        run_folder: the candidate's run folder; nothing in it but `train/` is open to the child.
        limits: see `Limits`.
        readable: files and folders that the child may read besides libraries (models, recorded states, a
            config).
        threads: thread counts for OpenMP and BLAS.
        trust: "unconfined" keeps limits, environment and watching but neither Landlock nor seccomp.

    Raises:
        ConfinementError: confinement is not possible here, or `train` is a link.
    """
    limits = limits or Limits()
    missing = require_confinement(trust)
    train = _prepare_train_folder(Path(run_folder))
    result_name = f".result-{secrets.token_hex(8)}.json"
    packages = [PROJECT / name for name in PROJECT_PACKAGES if (PROJECT / name).is_dir()]
    order = {
        "target": target, "argument": argument, "trust": trust, "limits": asdict(limits), "train": str(train),
        "result": str(train / result_name), "parent": os.getpid(),
        "readable": [str(Path(path).resolve()) for path in (*packages, *readable)],
    }  # fmt: skip
    started = time.monotonic()
    with tempfile.TemporaryFile() as order_file:
        order_file.write(json.dumps(order).encode())
        order_file.seek(0)
        process = subprocess.Popen(
            [sys.executable, *_FLAGS, "-c", _START, str(PROJECT)],
            stdin=order_file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, close_fds=True,
            env=_child_environment(str(train), threads), cwd=train, start_new_session=True,
        )  # fmt: skip
    assert process.stdout is not None
    with process.stdout as pipe:
        output = _Output(pipe.fileno(), limits.output_bytes)
        try:
            excess, peak = _watch(process, output, str(train), limits)
        finally:  # also when the parent is interrupted
            _kill(process)
        output.read()
    return _outcome(process.returncode, excess, train, result_name, limits, output.text(), peak, started, missing)


def _outcome(
    code: int,
    excess: str | None,
    train: Path,
    result_name: str,
    limits: Limits,
    output: str,
    peak: int,
    started: float,
    missing: list[str],
) -> Outcome:
    """Judge how the child ended, from its exit code and the file that it left."""
    answer: dict[str, Any] = {}
    reason = excess or ""
    if excess is None and code in (0, 1):
        try:
            read = read_json(train, result_name, limits.result_bytes)
            answer = read if isinstance(read, dict) else {}
        except ConfinementError as problem:
            reason = f"no result: {problem}"
    with contextlib.suppress(OSError):
        (train / result_name).unlink()
    error = answer.get("error")
    if isinstance(error, dict):
        error = {key: _plain(str(error.get(key, ""))) for key in ("type", "message", "traceback")}
    else:
        error = None
    ended: Literal["finished", "failed", "killed"] = "failed"
    if excess is not None:
        ended = "killed"
    elif code == -signal.SIGXCPU:
        ended, reason = "killed", f"used more than {limits.cpu_s:g} s of processor time"
    elif code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        reason = f"ended by signal {name}"
    elif error is not None:
        reason = f"{error['type']}: {error['message']}".split("\n")[0]
    elif code == 0 and "result" in answer:
        ended = "finished"
    else:
        lines = [line for line in output.splitlines() if line.strip()]
        reason = reason or (lines[-1] if lines else f"exit code {code}")
    return Outcome(
        ended,
        _plain(reason)[:500],
        answer.get("result"),
        error,
        output,
        code,
        time.monotonic() - started,
        peak,
        missing,
    )


# --- data back ----------------------------------------------------------------------------------------------


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
