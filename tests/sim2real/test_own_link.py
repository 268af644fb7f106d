"""A link of one's own: the example in docs/add-a-link.md, run as it stands there by the real `gantry deploy`."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from sim2real.bundle import Bundle
from sim2real.deploy_link import own_link
from sim2real.links.link import Link
from sim2real.log import read_log
from tests.sim2real.processes import Disturbed, only_load

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "tests" / "data" / "go2-walk-bundle"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "add-a-link.md").read_text(), re.DOTALL)
    assert len(blocks) == 1
    path = tmp_path / "my_robot.py"
    path.write_text(blocks[0])
    return path


class UdpRobot(threading.Thread):
    """Joints that follow their targets as far as kp asks; sends its state 200 times a second, also a broken one."""

    def __init__(self, joint_names: tuple[str, ...], position: np.ndarray) -> None:
        super().__init__(daemon=True)
        self.names, self.position = joint_names, position
        self.commands: list[dict[str, list[float]]] = []
        self.silent = threading.Event()
        self.ended = threading.Event()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.005)
        self.port = self._socket.getsockname()[1]

    def run(self) -> None:
        peer, count = None, 0
        while not self.ended.is_set():
            try:
                packet, peer = self._socket.recvfrom(65536)
                command = json.loads(packet)
            except (TimeoutError, ConnectionRefusedError):
                command = {}
            if command and "hello" not in command:
                self.commands.append(command)
                target, _, kp, _, _ = np.array([command[name] for name in self.names]).T
                self.position = np.where(kp > 0.0, self.position + 0.5 * (target - self.position), self.position)
            if peer is None or self.silent.is_set():
                continue
            count += 1
            joints = {name: [q, 0.0, 0.0] for name, q in zip(self.names, self.position.tolist(), strict=True)}
            state = {"count": count, "joints": dict(reversed(joints.items())), "quaternion": [1, 0, 0, 0]}
            state["gyroscope"] = [0, 0, 0]
            self._socket.sendto(b"{broken" if count % 50 == 0 else json.dumps(state).encode(), peer)


def test_the_example_stands_a_robot_up_and_is_supervised(example: Path, tmp_path: Path) -> None:
    try:
        stand_up_and_fall_silent(example, tmp_path)
    except Disturbed as disturbed:
        warnings.warn(f"tried once more, the machine was too busy for real time: {disturbed}", stacklevel=1)
        stand_up_and_fall_silent(example, tmp_path)


def stand_up_and_fall_silent(example: Path, tmp_path: Path) -> None:
    contract = Bundle.load(BUNDLE, verify=False).contract
    folded = np.array(contract.stand_up[0].joint_position)
    robot = UdpRobot(contract.joint_names, folded)
    robot.start()
    steps = [{"do": "stand"}, {"do": "run"}, {"command": [0.0, 0.0, 0.0], "for_s": 60.0}]
    script, log = tmp_path / "script.json", tmp_path / "run.mcap"
    script.write_text(json.dumps(steps))
    process = subprocess.Popen(
        [
            *(sys.executable, str(ROOT / "gantry.py"), "deploy", str(BUNDLE), "--link", f"{example}:UdpLink"),
            *("--address", f"127.0.0.1:{robot.port}", "--yes"),
            *("--script", str(script), "--log", str(log), "--json"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        deadline_s = time.monotonic() + 30.0
        first = contract.joint_names[0]
        while not (robot.commands and abs(robot.commands[-1][first][2] - contract.kp[0]) < 1e-6):
            if process.poll() is not None:
                output, errors = process.communicate()
                assert output, errors
                reasons = json.loads(output.splitlines()[-1])["reasons"]
                assert only_load(reasons), reasons
                raise Disturbed(str(reasons))
            assert time.monotonic() < deadline_s, "the policy never began"
            time.sleep(0.01)
        assert np.abs(robot.position - contract.home_joint_position).max() < 0.3, "it stands when the policy begins"
        robot.silent.set()
        output, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        robot.ended.set()
    summary = json.loads(output.splitlines()[-1])
    assert process.returncode == 1 and summary["reasons"], errors
    assert summary["reasons"][0].startswith(("stale:", "deadline:"))
    assert summary["link"]["damaged"] > 0
    last = np.array([robot.commands[-1][name] for name in contract.joint_names])
    assert not last[:, 2].any() and np.all(last[:, 3] == contract.safety.damping_kd)
    assert any("messages were damaged" in event["text"] for event in read_log(log).messages["/event"])


def test_the_example_is_a_link(example: Path) -> None:
    spec = importlib.util.spec_from_file_location("my_robot", example)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    link = module.UdpLink(Bundle.load(BUNDLE, verify=False).contract, "127.0.0.1:1")
    assert isinstance(link, Link)


HALF = """
class Half:
    def __init__(self, contract, address): pass
    def read(self, timeout_s=0.0): pass
"""


@pytest.mark.parametrize(
    ("text", "choice", "said"),
    [
        (
            "class Half:\n    def __init__(self, contract, address): pass\n    def read(self): pass\n",
            "Half",
            "lacks health",
        ),
        ("", "Nothing", "has no 'Nothing'"),
        ("import not_there_at_all\n", "Any", "No module named 'not_there_at_all'"),
    ],
)
def test_what_is_no_link_is_refused(tmp_path: Path, text: str, choice: str, said: str) -> None:
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(UserError, match=said):
        own_link(f"{tmp_path / 'mine.py'}:{choice}", Bundle.load(BUNDLE, verify=False), "")
