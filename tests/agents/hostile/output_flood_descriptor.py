# ruff: noqa
# Hostile class: output floods
# Write to the descriptor itself.
# checker: `import os` is not allowed
# bypass: limit
import os


def reward(s):
    data = b"<script>" * 8192
    while True:
        os.write(2, data)
