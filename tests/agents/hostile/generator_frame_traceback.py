# ruff: noqa
# Hostile class: generators and frames
# An exception's traceback leads to the caller's frame.
# checker: Try is not allowed
# bypass: secret
def reward(s):
    try:
        raise ValueError
    except ValueError as error:
        text = error.__traceback__.tb_frame.f_builtins["open"]("@SECRET@").read()
        print(text)
    return {"a": s.time_s}
