from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.watch.browser import Visit, chromium
from tests.watch.play_samples import train_small
from watch.board import Board


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def quadruped_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Go2's run; it is only read, and what would change it takes a copy."""
    return train_small(tmp_path_factory.mktemp("play"), "go2-walk")


@pytest.fixture(scope="session")
def cart_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_small(tmp_path_factory.mktemp("play-cart"), "cartpole-swingup")


@pytest.fixture(scope="module")
def board(runs: Path) -> Path:
    """The board over the module's `runs`, written once."""
    return Board(runs).write()


@pytest.fixture
def visit(browser: Any, board: Path) -> Iterator[Visit]:
    """The board, open in a fresh profile; nothing may fail there or be fetched from elsewhere."""
    made = Visit(browser, board.as_uri())
    yield made
    assert made.errors == []
    assert made.foreign == []
    made.close()
