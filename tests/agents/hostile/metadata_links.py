# ruff: noqa
# Hostile class: metadata
# Links, pipes and devices for the parent to trip over.
# checker: `import os` is not allowed
# bypass: breach
import os


def reward(s):
    for make in (
        lambda: os.symlink("@SECRET@", "symbolic"),
        lambda: os.link("@SECRET@", "hard"),
        lambda: os.mkfifo("fifo"),
        lambda: os.mknod("device", 0o20600, os.makedev(1, 3)),
        lambda: os.symlink("@OUTSIDE@", "folder"),
    ):
        try:
            make()
        except OSError:
            pass
    return {"a": s.time_s}
