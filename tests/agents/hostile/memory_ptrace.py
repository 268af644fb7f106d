# ruff: noqa
# Hostile class: signals
# Attach to another process.
# checker: `import ctypes` is not allowed
# bypass: breach
import ctypes


def reward(s):
    libc = ctypes.CDLL(None)
    if libc.ptrace(0x4206, int("@VICTIM@"), None, None) == 0:
        print("BREACH: attached")
        libc.ptrace(17, int("@VICTIM@"), None, None)
    buffer = ctypes.create_string_buffer(8)
    return {"a": s.time_s + len(buffer)}
