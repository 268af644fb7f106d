"""The command line with a clock that jumps by so many seconds at SIGUSR1: jumping_clock.py SECONDS deploy ..."""

from __future__ import annotations

import signal
import sys
import time

_true_s = time.monotonic
_step_s = float(sys.argv[1])
_jumped_s = 0.0


def _jump(*_: object) -> None:
    global _jumped_s
    _jumped_s += _step_s


time.monotonic = lambda: _true_s() + _jumped_s
signal.signal(signal.SIGUSR1, _jump)

if __name__ == "__main__":
    from gantry import main

    main(sys.argv[2:])
