# ruff: noqa
# Hostile class: signals
# Have the kernel send the signal when a pipe is written.
# checker: `import fcntl` is not allowed
# bypass: breach
import fcntl
import os


def reward(s):
    reader, writer = os.pipe()
    fcntl.fcntl(reader, 10, 9)
    fcntl.fcntl(reader, 8, int("@VICTIM@"))
    fcntl.fcntl(reader, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(writer, b"x")
    return {"a": s.time_s}
