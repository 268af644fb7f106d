# ruff: noqa
# Hostile class: generators and frames
# Climb to the caller's frame from inside a running generator.
# checker: Yield is not allowed
# bypass: secret
def climb():
    frame = holder[0].gi_frame.f_back
    while frame.f_back is not None:
        frame = frame.f_back
    yield frame.f_builtins["open"]("@SECRET@").read()


holder = []


def reward(s):
    holder.append(climb())
    for text in holder[0]:
        print(text)
    return {"a": s.time_s}
