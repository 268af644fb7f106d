# ruff: noqa
# Hostile class: processes
# posix_spawn uses another call than fork.
# checker: `import os` is not allowed
# bypass: breach
import os


def reward(s):
    os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)
    print("BREACH: spawned")
    return {"a": s.time_s}
