# ruff: noqa
# Hostile class: dunder chains
# Import by the builtin's own name.
# checker: `__import__`
# bypass: secret
def reward(s):
    text = __import__("pathlib").Path("@SECRET@").read_text()
    print(text)
    return {"a": s.time_s}
