# ruff: noqa
# Hostile class: monkey-patching
# Change the module that confined this process.
# checker: `import sys` is not allowed
# bypass: breach
import sys


def reward(s):
    module = sys.modules.get("agents.confinement")
    if module is not None:
        module.PROJECT_PACKAGES = ()
        module._apply_seccomp = lambda: None
    open("@OUTSIDE@/made", "w").write("x")
    return {"a": s.time_s}
