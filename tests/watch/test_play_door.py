"""Who reaches the viewer, and the command line of `gantry play`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("viser", reason="gantry play needs viser")
pytest.importorskip("mjviser", reason="gantry play needs mjviser")

from configs.errors import UserError
from watch import play
from watch.play_door import Door

ROOT = Path(__file__).resolve().parents[2]


def fetch(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


@pytest.fixture(scope="module")
def door():
    heard = []
    made = Door("127.0.0.1", 0, lambda page, message: heard.append((page, message)))
    made.heard = heard  # type: ignore[attr-defined]
    yield made
    made.close()


def test_the_page_carries_our_script_and_a_policy(door):
    status, body, headers = fetch(door.address)
    assert status == 200 and b'src="play.js"' in body and b"<title>Gantry</title>" in body
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert fetch(door.address + "play.js")[0] == fetch(door.address + "play.css")[0] == 200
    assert fetch(door.address + "..%2fplay.py")[0] == 404


def test_names_that_point_here_from_elsewhere_are_refused(door):
    assert fetch(door.address, Host="evil.example:1")[0] == 403
    assert fetch(door.address, Host=f"localhost:{door.port}")[0] == 200


@pytest.mark.parametrize("path", ["", "drive"])
@pytest.mark.parametrize("origin, enters", [("http://evil.example", False), (None, True), ("own", True)])
def test_sockets_of_pages_elsewhere_are_refused(door, path, origin, enters):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"ws://127.0.0.1:{door.port}/{path}"
    origin = f"http://127.0.0.1:{door.port}" if origin == "own" else origin
    door.status = '{"robots": []}'
    try:
        with connect(address, origin=origin, subprotocols=None) as socket:  # type: ignore[arg-type]
            if path == "drive":
                assert json.loads(socket.recv(timeout=5)) == {"robots": []}
                socket.send('{"held": [1, 0, 0]}')
                socket.send("no json")
        entered = True
    except InvalidStatus as refused:
        assert refused.response.status_code == 403
        entered = False
    assert entered is enters
    if path == "drive" and enters:
        end = time.monotonic() + 5
        while not (door.heard and door.heard[-1][1] is None) and time.monotonic() < end:
            time.sleep(0.02)
        assert door.heard[-2][1] == {"held": [1, 0, 0]} and door.heard[-1][1] is None  # and it let go


def test_no_tunnel_is_opened_for_anybody(door):
    assert door.viser.request_share_url() is None


def test_a_port_in_use_is_one_clear_error(door):
    with pytest.raises(UserError, match=f"{door.port} cannot be used.*--port"):
        Door("127.0.0.1", door.port, lambda page, message: None)


# --- the command line ---


def command(*arguments: str, **options) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "gantry.py"), "play", *arguments], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly(quadruped_run, stop):
    process = command(str(quadruped_run), "--no-open", "--port", "0")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("http://127.0.0.1:") and "Ctrl+C" in line
    assert fetch(line.split()[0])[0] == 200
    process.send_signal(stop)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Traceback" not in error


def refusal(capsys, monkeypatch, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["gantry play", *arguments, "--no-open", "--port", "0"])
    with pytest.raises(UserError) as refused:
        play.main()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_what_is_no_run_is_one_clear_error(capsys, monkeypatch, tmp_path, quadruped_run):
    assert "is no folder" in refusal(capsys, monkeypatch, str(tmp_path / "none"))
    assert "config.yaml" in refusal(capsys, monkeypatch, str(tmp_path))
    broken = tmp_path / "broken"
    shutil.copytree(quadruped_run, broken)
    (broken / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    assert "damaged" in refusal(capsys, monkeypatch, str(broken))
    (broken / "config.yaml").write_text("- 1\n")
    assert "config.yaml" in refusal(capsys, monkeypatch, str(broken))
    (broken / "config.yaml").write_text("task: [go2-walk]\n")
    assert str(broken) in refusal(capsys, monkeypatch, str(broken))


def test_options_are_checked(capsys, monkeypatch, quadruped_run):
    run = str(quadruped_run)
    assert "3 runs given" in refusal(capsys, monkeypatch, run, run, run)
    assert "did you mean 'nominal'" in refusal(capsys, monkeypatch, run, "--physics", "nominl")
    monkeypatch.setattr(sys, "argv", ["gantry play", run, "--port", "70000"])
    with pytest.raises(UserError, match="70000"):
        play.main()
