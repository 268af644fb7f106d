# ruff: noqa
# Hostile class: dunder chains
# Walk from a tuple to a class that has os in its globals.
# checker: `.__class__`
# bypass: breach
def reward(s):
    for kind in ().__class__.__base__.__subclasses__():
        if kind.__name__ == "_wrap_close":
            kind.__init__.__globals__["system"]("touch @OUTSIDE@/made")
    return {"a": s.time_s}
