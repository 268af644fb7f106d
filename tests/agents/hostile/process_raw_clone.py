# ruff: noqa
# Hostile class: processes
# clone and clone3 as raw system calls.
# checker: `import ctypes` is not allowed
# bypass: breach
import ctypes
import os
import platform


def reward(s):
    call = ctypes.CDLL(None).syscall
    clone = 56 if platform.machine() == "x86_64" else 220
    here = os.getpid()
    for number, argument, size in ((435, (ctypes.c_uint64 * 11)(0, 0, 0, 0, 17), 88), (clone, 17, 0)):
        child = call(number, argument, size, 0, 0, 0)
        if child == 0 and os.getpid() != here:
            os._exit(0)
        if child > 0:
            print("BREACH: cloned")
    return {"a": s.time_s}
