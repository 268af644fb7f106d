"""The log: every number comes back, cut files are recovered, and a slow or full disk never stops the robot."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader

from configs.errors import UserError
from sim2real.log import CHUNK_BYTES, SCHEMAS, LogWriter, iterate, read_log, to_json

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = {"robot": "go2", "joint_names": ["a", "b"]}


def write(path: Path, messages: int = 300, close: bool = True) -> LogWriter:
    writer = LogWriter(path, CONTRACT, {"link": "test"})
    random = np.random.default_rng(0)
    for i in range(messages):
        reading = {"tick": i, "joint_position": random.normal(size=12), "battery_soc": None}
        decision = {"state": "running", "reasons": ("tilt: 60°",)}
        writer.put(("/reading", 5.0 + i * 0.02, reading), ("/decision", 5.0 + i * 0.02, decision))
    if close:
        writer.close({"ticks": str(messages)})
    return writer


def test_everything_comes_back_with_all_its_digits(tmp_path):
    write(tmp_path / "log.mcap")
    log = read_log(tmp_path / "log.mcap")
    assert log.complete and log.contract == CONTRACT
    assert log.metadata == {"gantry": {"link": "test"}, "summary": {"ticks": "300"}}
    random = np.random.default_rng(0)
    expected = np.stack([random.normal(size=12) for _ in range(300)])
    assert np.array_equal(log.array("/reading", "joint_position"), expected)
    assert np.allclose(log.times("/reading"), 5.0 + np.arange(300) * 0.02, atol=1e-9)
    assert np.isnan(log.array("/reading", "battery_soc")).all()
    assert log.messages["/decision"][7] == {"state": "running", "reasons": ["tilt: 60°"]}
    assert next(iterate(log, "/decision")) == (5.0, log.messages["/decision"][0])
    with pytest.raises(UserError, match="no field 'speed'"):
        log.array("/reading", "speed")


def test_a_viewer_finds_channels_schemas_and_an_index(tmp_path):
    write(tmp_path / "log.mcap")
    with (tmp_path / "log.mcap").open("rb") as stream:
        summary = make_reader(stream).get_summary()  # what Foxglove reads first
    assert {channel.topic for channel in summary.channels.values()} == set(SCHEMAS)
    assert {schema.encoding for schema in summary.schemas.values()} == {"jsonschema"}
    assert {channel.message_encoding for channel in summary.channels.values()} == {"json"}
    assert summary.statistics.message_count == 600 and len(summary.chunk_indexes) > 1
    assert [index.name for index in summary.attachment_indexes] == ["contract.json"]


def test_numbers_that_json_cannot_write_become_null():
    content = {"a": np.array([1.0, np.nan]), "b": {"c": (np.float32(np.inf), 2)}, "d": frozenset({"y", "x"})}
    assert to_json(content) == b'{"a":[1.0,null],"b":{"c":[null,2]},"d":["x","y"]}'
    assert to_json({"a": 0.1 + 0.2}) == b'{"a":0.30000000000000004}'


def test_a_log_cut_anywhere_gives_back_what_was_written_before(tmp_path):
    write(tmp_path / "log.mcap", messages=1500)
    data, cut = (tmp_path / "log.mcap").read_bytes(), tmp_path / "cut.mcap"
    full = read_log(tmp_path / "log.mcap").messages["/reading"]
    counts = []
    for share in np.linspace(0.3, 0.999, 25):
        cut.write_bytes(data[: int(len(data) * share)])
        log = read_log(cut)
        assert not log.complete
        rows = log.messages["/reading"]
        assert rows == full[: len(rows)]
        counts.append(len(rows))
    assert counts == sorted(counts) and counts[-1] > 1000 and len(set(counts)) > 4
    cut.write_bytes(data[:40])
    with pytest.raises(UserError, match="no messages"):
        read_log(cut)
    cut.write_bytes(b"a text, perhaps")
    with pytest.raises(UserError, match="not a log"):
        read_log(cut)
    with pytest.raises(UserError, match="no log at"):
        read_log(tmp_path / "nowhere.mcap")


def test_a_writer_that_is_killed_loses_less_than_a_chunk(tmp_path):
    path = tmp_path / "log.mcap"
    script = (
        "import sys, time, numpy as np\nfrom pathlib import Path\nfrom sim2real.log import LogWriter\n"
        "w = LogWriter(Path(sys.argv[1]), {'robot': 'go2'}, {}, patient=True)\n"
        "x = np.random.default_rng(0).normal(size=12)\n"
        "for i in range(3000):\n    w.put(('/reading', i * 0.02, {'tick': i, 'joint_position': x + i}))\n"
        "while w._queue.qsize():\n    time.sleep(0.01)\n"
        "print('written', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"written\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    log = read_log(path)
    rows = [message["tick"] for message in log.messages["/reading"]]
    size = len(to_json({"tick": 1000, "joint_position": np.random.default_rng(0).normal(size=12) + 1000}))
    assert not log.complete and log.contract == {"robot": "go2"}
    assert rows == list(range(len(rows))) and len(rows) > 3000 - 1.2 * CHUNK_BYTES / size


def test_put_returns_at_once_and_close_writes_everything(tmp_path):
    writer = LogWriter(tmp_path / "log.mcap", {}, {})
    longest_s = 0.0
    for i in range(1000):
        began_s = time.thread_time()
        writer.put(("/reading", i * 0.02, {"tick": i, "joint_position": np.zeros(100)}))
        longest_s = max(longest_s, time.thread_time() - began_s)
    writer.close()
    writer.close()
    assert longest_s < 0.005
    assert len(read_log(tmp_path / "log.mcap").messages["/reading"]) == 1000 and writer.dropped == 0


def test_a_patient_log_waits_for_the_disk_and_an_impatient_one_does_not(tmp_path):
    counts = {}
    for patient in (True, False):
        writer = LogWriter(tmp_path / f"{patient}.mcap", {}, {}, patient=patient)
        write_one = writer._writer.add_message
        writer._writer.add_message = lambda *a, write=write_one: (time.sleep(1e-4), write(*a))
        for i in range(3000):
            writer.put(("/reading", i * 0.02, {"tick": i}))
        writer.close()
        counts[patient] = len(read_log(tmp_path / f"{patient}.mcap").messages["/reading"])
        assert counts[patient] + writer.dropped == 3000
    assert counts[True] == 3000 > counts[False]


def test_a_full_disk_drops_messages_and_is_named_at_the_end(tmp_path):
    writer = LogWriter(tmp_path / "log.mcap", {}, {})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer._writer.add_message = full
    for i in range(5000):
        writer.put(("/reading", i * 0.02, {"tick": i}))
    with pytest.raises(UserError, match=r"log\.mcap is incomplete: .*No space left"):
        writer.close()
    assert writer.dropped > 0


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write the log .*--log"):
        LogWriter(tmp_path / "file" / "log.mcap", {}, {})
    if Path("/dev/full").exists():
        with pytest.raises(UserError, match=r"cannot write the log .*No space left"):
            LogWriter(Path("/dev/full"), {}, {})


def test_every_topic_of_the_runtime_has_a_schema():
    assert set(SCHEMAS) == {"/reading", "/target", "/decision", "/timing", "/command", "/truth", "/event"}
    for properties in SCHEMAS.values():
        assert all("type" in entry for entry in properties.values())
