# ruff: noqa
# Hostile class: endless loops
# Ignore every polite signal first.
# checker: `import signal` is not allowed
# bypass: limit
import signal


def reward(s):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass
