# ruff: noqa
# Hostile class: generators and frames
# A coroutine has a frame as well.
# checker: AsyncFunctionDef is not allowed
# bypass: secret
async def wait():
    return 1.0


def reward(s):
    waiting = wait()
    text = waiting.cr_frame.f_builtins["open"]("@SECRET@").read()
    print(text)
    waiting.close()
    return {"a": s.time_s}
