# ruff: noqa
# Hostile class: output floods
# Files that have no name any more still fill the disk.
# checker: `import os` is not allowed
# bypass: limit
import os


def reward(s):
    kept = []
    while True:
        descriptor = os.open("x", os.O_CREAT | os.O_RDWR)
        os.unlink("x")
        os.ftruncate(descriptor, 1000)
        kept.append(descriptor)
