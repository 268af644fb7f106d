"""What the robot's counter tells: losses, lateness and jumps, with numbers by hand."""

from __future__ import annotations

import random

import pytest

from sim2real.links.unitree_ticks import TICK_MODULUS, TickClock


class Robot:
    """Counts from `start`, one message each 2 ms; `see` is the link's loop over what arrived."""

    def __init__(self, unit_s: float = 0.001, start: int = 100) -> None:
        self.clock = TickClock()
        self.unit_s, self.start = unit_s, start

    def tick(self, sent_s: float) -> int:
        return (self.start + round(sent_s / self.unit_s)) % TICK_MODULUS

    def see(self, sent_s: float, arrived_s: float) -> float | None:
        """The stamp of the message sent then; None if it was dropped as late."""
        tick = self.tick(sent_s)
        if self.clock.is_late(tick):
            return None
        self.clock.count(tick)
        return self.clock.stamp(arrived_s)

    def run(self, begin_s: float, end_s: float, delay_s: float = 0.001) -> float | None:
        """Every message in a stretch of time; the last stamp."""
        stamp = None
        for step in range(round(begin_s / 0.002), round(end_s / 0.002)):
            stamp = self.see(step * 0.002, step * 0.002 + delay_s)
        return stamp


@pytest.mark.parametrize("unit_s", [0.001, 0.002])
@pytest.mark.parametrize("start", [0, TICK_MODULUS - 500])
def test_added_delay_is_seen(unit_s: float, start: int) -> None:
    robot = Robot(unit_s, start)
    assert robot.run(0.0, 3.0) == pytest.approx(2.998 + 0.001)
    assert robot.clock.late_s == pytest.approx(0.0, abs=1e-9) and robot.clock.lost == 0
    stamp = robot.run(3.0, 3.4, delay_s=0.041)
    assert robot.clock.late_s == pytest.approx(0.04)
    assert stamp == pytest.approx(3.398 + 0.041), "it is dated when it came"


def test_a_delay_that_stays_is_forgotten_after_a_while() -> None:
    robot = Robot()
    robot.run(0.0, 3.0)
    robot.run(3.0, 7.0, delay_s=0.05)
    assert robot.clock.late_s == pytest.approx(0.049)
    robot.run(7.0, 20.0, delay_s=0.05)
    assert robot.clock.late_s == pytest.approx(0.0, abs=1e-9)


def test_stamps_never_run_backward_however_messages_come() -> None:
    robot, draw, before, now_s = Robot(), random.Random(5), -1.0, 0.0
    for step in range(20_000):
        now_s = max(now_s, step * 0.002 + draw.expovariate(200.0))
        stamp = robot.see(step * 0.002, now_s)
        if stamp is not None:
            assert before <= stamp <= now_s
            before = stamp


def test_losses_are_counted_and_a_late_message_was_not_lost() -> None:
    robot = Robot()
    for sent_s in (0.0, 0.002, 0.004, 0.010, 0.012):  # 0.006 and 0.008 are missing
        robot.see(sent_s, sent_s)
    assert robot.clock.lost == 2
    assert robot.see(0.008, 0.013) is None
    assert robot.clock.lost == 1


@pytest.mark.parametrize("at_s", [2.0, 5.498, 5.5, 5.502, 5.504])
def test_a_jump_forward_gives_one_stamp_in_the_future(at_s: float) -> None:
    """At any time, also when the memory of the quickest way begins anew."""
    robot = Robot()
    robot.run(0.0, at_s)
    robot.start += 5000
    stamp = robot.see(at_s, at_s + 0.001)
    assert stamp == pytest.approx(at_s + 0.001 + 5.0) and robot.clock.lost == 0
    assert robot.run(at_s + 0.002, at_s + 0.1) == pytest.approx(at_s + 0.098 + 0.001), "then it is taken as it is"


def test_a_restart_forgets_what_was_learned() -> None:
    robot = Robot(start=100_000)
    robot.run(0.0, 2.0)
    robot.start = 0
    assert robot.see(2.0, 2.001) == 2.001
    assert robot.clock.lost == 0 and robot.clock.late_s == 0.0


def test_an_unknown_unit_stamps_arrivals() -> None:
    robot = Robot(unit_s=0.0005)
    assert robot.run(0.0, 3.0, delay_s=0.01) == pytest.approx(2.998 + 0.01)
    assert robot.run(3.0, 3.5, delay_s=0.3) == pytest.approx(3.498 + 0.3)
    assert robot.clock.late_s == 0.0
