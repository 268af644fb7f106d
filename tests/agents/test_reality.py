"""How severe the transfer benchmark's stand-in for reality is."""

from __future__ import annotations

import pytest

from benchmarks.reality import choose_severity
from configs.errors import UserError

SHARES = [0.99, 0.87, 0.71, 0.54, 0.37, 0.05]
"""Of runs that finish, by severity."""


def test_the_severity_is_the_one_nearest_the_middle_or_another_within() -> None:
    assert choose_severity(SHARES) == (2, True)
    assert choose_severity(SHARES, 3) == (3, True)
    assert choose_severity([0.99, 0.9, 0.45]) == (2, False), "none is within: said, not hidden"
    with pytest.raises(UserError, match=r"severity=4; valid, with 50% to 80% finishing: \[2, 3\]"):
        choose_severity(SHARES, 4)
