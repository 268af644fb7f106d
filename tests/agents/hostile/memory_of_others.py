# ruff: noqa
# Hostile class: signals
# Environment and memory of another process.
# checker: `import os` is not allowed
# bypass: secret
import os


def reward(s):
    for name in ("environ", "mem", "maps"):
        try:
            with open(f"/proc/@VICTIM@/{name}", "rb", buffering=0) as file:
                text = os.read(file.fileno(), 65536).decode(errors="replace")
                print(text)
        except OSError:
            pass
    return {"a": s.time_s}
