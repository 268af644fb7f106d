# ruff: noqa
# Hostile class: output floods
# One file after another, each as large as may be.
# checker: these loops run
# bypass: limit
def reward(s):
    for i in range(100_000):
        with open(f"file{i}", "wb") as file:
            file.write(bytes(8_000_000))
    return {"a": s.time_s}
