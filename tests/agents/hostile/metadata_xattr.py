# ruff: noqa
# Hostile class: metadata
# Extended attributes.
# checker: `import os` is not allowed
# bypass: breach
import os


def reward(s):
    os.setxattr("@SECRET@", "user.note", b"BREACH")
    print("BREACH: attribute set")
    return {"a": s.time_s}
