# ruff: noqa
# Hostile class: generators and frames
# A generator's frame holds the builtins.
# checker: `.gi_frame` is not allowed
# bypass: secret
def reward(s):
    frame = (x for x in [1]).gi_frame
    text = frame.f_builtins["open"]("@SECRET@").read()
    print(text)
    return {"a": s.time_s}
