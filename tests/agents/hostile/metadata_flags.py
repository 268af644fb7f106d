# ruff: noqa
# Hostile class: metadata
# File flags by ioctl on a file that may only be read.
# checker: `import fcntl` is not allowed
# bypass: breach
import fcntl
import struct


def reward(s):
    with open("@LIBRARY@") as file:
        fcntl.ioctl(file, 0x40086602, struct.pack("l", 0x80))
    print("BREACH: flags changed")
    return {"a": s.time_s}
