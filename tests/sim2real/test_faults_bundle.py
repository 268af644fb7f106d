"""Bundles that must not drive a robot: refused by the real `gantry deploy`, before anything is sent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sim2real.bundle import Bundle, save
from tests.sim2real.processes import BUNDLE, Outcome, stage

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def truncate(folder: Path) -> None:
    policy = folder / "policy.onnx"
    policy.write_bytes(policy.read_bytes()[:-1000])


def edit_one_byte(folder: Path) -> None:
    policy = folder / "policy.onnx"
    content = bytearray(policy.read_bytes())
    content[len(content) // 2] ^= 1
    policy.write_bytes(content)


def edit_a_limit(folder: Path) -> None:
    contract = folder / "contract.json"
    text = contract.read_text()
    assert '"stale_s": 0.1' in text
    contract.write_text(text.replace('"stale_s": 0.1', '"stale_s": 9.9'))


def make_another_robots(folder: Path) -> None:
    """A whole, signed bundle of a robot that is not there."""
    content = json.loads((folder / "contract.json").read_text()) | {"robot": "go1"}
    save(folder, (folder / "policy.onnx").read_bytes(), content)
    assert Bundle.load(folder).contract.robot == "go1"


FAULTS: dict[Callable[[Path], None], str] = {
    truncate: "it was cut, edited or belongs to another contract",
    edit_one_byte: "it was cut, edited or belongs to another contract",
    edit_a_limit: "it was edited",
    make_another_robots: "drives 'go1', but the robot is 'go2'",
}


def test_refused_bundles_send_nothing(tmp_path: Path) -> None:
    with stage(tmp_path) as running:
        for number, (spoil, said) in enumerate(FAULTS.items()):
            folder = tmp_path / f"bundle {number}"
            shutil.copytree(BUNDLE, folder)
            spoil(folder)
            running.deploy(bundle=folder)
            outcome: Outcome = running.outcome()
            assert outcome.code == 2, spoil.__name__
            assert said in outcome.errors and "Traceback" not in outcome.errors
            assert outcome.log is None
        running.watch.close()
        assert running.watch.commands == [] and running.watch.damaged == 0
        assert running.tell("state")["service_active"], "the robot's own service still drives it"
