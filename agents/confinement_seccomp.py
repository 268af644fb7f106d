"""seccomp: which system calls a child may make (seccomp(2)), as a classic BPF program."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Sequence

from agents.confinement_kernel import system_call
from agents.confinement_syscalls import ANSWERS, CONDITIONAL, MACHINES, NEWEST_SYSCALL, SYSCALLS, call_number

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
_ALLOW, KILL_PROCESS, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
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
    versions, so a list of permissions breaks trainings on other machines. Every call up to `NEWEST_SYSCALL`
    was reviewed, and later ones are unknown to the child.
    """
    arch, column = MACHINES[machine].audit_arch, MACHINES[machine].column
    refuse = _ERRNO | errno.EPERM
    program: list[_Instruction] = [
        (_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, arch), _answer(KILL_PROCESS),
        (_LOAD, 0, 0, 0), (_JUMP_GREATER, 0, 1, NEWEST_SYSCALL), _answer(_ERRNO | errno.ENOSYS),
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
    for name in CONDITIONAL:
        number = SYSCALLS[name][column]
        assert number is not None
        program += [(_JUMP_EQUAL, 0, len(blocks[name]), number), *blocks[name]]
    for name, numbers in SYSCALLS.items():
        number = numbers[column]
        if name not in CONDITIONAL and number is not None:
            program += [(_JUMP_EQUAL, 0, 1, number), _answer(_ERRNO | ANSWERS.get(name, errno.EPERM))]
    return [*program, _answer(_ALLOW)]


class _SockFprog(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def apply_seccomp() -> None:
    instructions = seccomp_program(platform.machine(), os.getpid())
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = _SockFprog(len(instructions), code)
    # SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_TSYNC: all threads, those that exist too. With this
    # flag a thread that cannot be reached is answered by its id, a positive number.
    if failed := system_call(call_number("seccomp"), ctypes.c_uint(1), ctypes.c_uint(1), ctypes.byref(program)):
        raise OSError(errno.EBUSY, f"thread {failed} could not be filtered")
