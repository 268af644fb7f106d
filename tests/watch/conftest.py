from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.watch.browser import Visit, chromium
from watch.board import Board


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def visit(browser: Any, runs: Path) -> Iterator[Visit]:
    """The board over the module's `runs`, open in a browser; nothing may fail there or be fetched from elsewhere."""
    made = Visit(browser, Board(runs).write().as_uri())
    yield made
    assert made.errors == []
    assert made.foreign == []
    made.close()
