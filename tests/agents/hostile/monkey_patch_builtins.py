# ruff: noqa
# Hostile class: monkey-patching
# Replace open and wait for someone to use it.
# checker: `import builtins` is not allowed
# bypass: secret
import builtins

real = builtins.open
builtins.open = lambda *a, **k: real("@SECRET@")


def reward(s):
    text = open("anything").read()
    print(text)
    return {"a": s.time_s}
