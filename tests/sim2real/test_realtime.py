"""Real-time scheduling: had where it is permitted, said where it is not, given back in either case."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from sim2real.links.link import LinkError
from sim2real.log import read_log
from sim2real.realtime import PRIORITY, SWITCH_INTERVAL_S, no_garbage_collection, real_time
from sim2real.runtime import Runtime
from tests.sim2real.fake_link import FakeLink
from tests.sim2real.untrained import exported

linux = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="only Linux has SCHED_FIFO")


@pytest.fixture
def refused(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse, raising=False)


@linux
def test_what_is_started_inside_is_scheduled_alike_and_all_is_given_back():
    before, interval_s = os.sched_getscheduler(0), sys.getswitchinterval()
    with real_time(7) as got:
        permitted = got == "real-time scheduling, priority 7"
        assert permitted or "priority 7 cannot be had" in got
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
        asked = "import os; print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority)"
        child = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout
        assert child.split() == ([str(os.SCHED_FIFO), "7"] if permitted else [str(before), "0"])
    assert os.sched_getscheduler(0) == before and sys.getswitchinterval() == interval_s


def test_without_the_permission_the_loop_runs_and_says_so(refused):
    with real_time() as got:
        assert got.startswith(f"ordinary scheduling: real-time priority {PRIORITY} cannot be had (Operation not")


def test_another_system_than_linux_goes_on_without(monkeypatch):
    monkeypatch.delattr(os, "sched_setscheduler", raising=False)
    with real_time() as got:
        assert "only Linux has it" in got


def test_none_is_asked_for(refused):
    with real_time(0) as got:
        assert got == "ordinary scheduling, as asked for"


def test_garbage_is_collected_again_after_an_error():
    with pytest.raises(ZeroDivisionError), no_garbage_collection():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled() and gc.get_freeze_count() == 0


def test_the_log_and_the_summary_say_how_the_loop_was_scheduled(refused, tmp_path):
    contract = exported("go2-walk").contract
    link = FakeLink(contract.joint_names, contract.home_joint_position, lock_step=False)
    summary = Runtime(exported("go2-walk"), link, log=tmp_path / "log.mcap").run(0.1)
    assert "cannot be had" in summary.scheduling
    events = [event["text"] for event in read_log(tmp_path / "log.mcap").messages["/event"]]
    assert events.count(summary.scheduling) == 1


def test_simulated_time_asks_for_nothing(refused):
    contract = exported("go2-walk").contract
    link = FakeLink(contract.joint_names, contract.home_joint_position)
    assert Runtime(exported("go2-walk"), link).run(0.1).scheduling == ""
    link.spoil = lambda reading: None
    with pytest.raises(LinkError):
        Runtime(exported("go2-walk"), link).run(0.1)
