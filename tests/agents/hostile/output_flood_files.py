# ruff: noqa
# Hostile class: output floods
# Files without end.
# checker: `import itertools` is not allowed
# bypass: limit
import itertools


def reward(s):
    for i in itertools.count():
        with open(f"file{i}", "w") as file:
            file.write("x")
