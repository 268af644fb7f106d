# ruff: noqa
# Hostile class: processes
# Become another program.
# checker: `import os` is not allowed
# bypass: breach
import os


def reward(s):
    os.execv("/bin/echo", ["echo", "BREACH: another program"])
