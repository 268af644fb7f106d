"""Errors that Gantry raises on purpose: the user can act on the message, so no traceback is shown.

`configs` is the lowest package, so every other package may raise these.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from typing import NoReturn


class UserError(Exception):
    """Bad input. The message names the value, what is valid and the fix; `gantry` prints it as one line."""


def leave(error: UserError) -> NoReturn:
    """Show the error as one line and exit with status 2.

    `gantry` does this for every command. A Hydra application calls it itself: of an exception that leaves it,
    Hydra tells on a line of its own first.
    """
    print(f"gantry: error: {error}", file=sys.stderr)
    sys.exit(2)


def unknown(kind: str, value: object, valid: Iterable[object]) -> UserError:
    """Return (do not raise) the error for a name that is not among the valid ones.

    Example: ``raise unknown("task", "go2-wlak", tasks)`` reads
    ``unknown task 'go2-wlak'; valid: cartpole-swingup, go2-walk; did you mean 'go2-walk'?``

    Args:
        kind: what the value should have named, for example ``"task"``.
        value: what was given.
        valid: the names that exist; listed sorted, without repeats.
    """
    names = sorted({str(name) for name in valid})
    message = f"unknown {kind} {str(value)!r}; valid: {', '.join(names) if names else '(none)'}"
    # Compared in lower case, so that GO2-walk is understood; the spelling that exists is suggested.
    lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.6)
    if close:
        message += f"; did you mean {lower[close[0]]!r}?"
    return UserError(message)
