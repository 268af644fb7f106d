"""Faults of robot, network, processes and clocks, made in the real processes, judged by a third one on the wire.

Each scene walks the simulated robot with `gantry deploy` over DDS on a domain of its own, makes one fault and
checks three things: the documented end (the table in docs/deploy.md), that no command ever left the contract's
limits, and that the log names the fault.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest

from sim2real.links.link import Command
from sim2real.links.unitree_commands import CommandPublisher
from sim2real.log import read_log
from tests.sim2real.processes import ROOT, Disturbed, Outcome, Playing, Stage, only_load

pytestmark = [pytest.mark.slow, pytest.mark.faults]


# Processes that die.


def robot_killed(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    stage.robot.kill()
    stage.ends_in_damping("^stale: no new reading")


def policy_killed_leaves_the_guard_damping(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    assert stage.deployment is not None
    stage.deployment.kill()
    killed_s = time.monotonic()
    stage.deployment.wait()
    time.sleep(0.5)
    assert stage.watch.damping()
    assert stage.watch.damped_since() - killed_s < 0.3
    assert "damping disconnected: the runtime is gone" in stage.guard_log
    log = read_log(stage.log)  # unfinished, but readable up to the last half second
    assert not log.complete and log.messages["/decision"]
    pid = stage.guard_pid
    before = len(stage.watch.commands)
    time.sleep(0.3)
    assert len(stage.watch.commands) - before > 50, "the guard goes on for as long as nobody ends it"
    os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + 5.0
    while "left" not in stage.guard_log and time.monotonic() < deadline_s:
        time.sleep(0.02)
    assert "left" in stage.guard_log
    stage.watch.close()
    assert stage.watch.damping() and stage.watch.check() > 1000


def guard_killed_the_link_damps_by_itself(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    guard = stage.watch.commands[-1].writer
    os.kill(stage.guard_pid, signal.SIGKILL)
    stage.ends_in_damping("^link: the guard (closed the connection|is gone|takes no more)")
    assert stage.watch.commands[-1].writer != guard, "damping came from the link's own writer"


# The network between.


def walks_on(stage: Stage, line: str, named: str, after_s: float = 2.5) -> Outcome:
    """A fault that must neither stop the robot nor go unnamed."""
    stage.deploy(walk_s=after_s + 0.6)
    stage.walk(0.4)
    stage.tell(line)
    outcome = stage.outcome()
    stage.watch.close()
    assert stage.watch.check() > 1000
    if only_load(outcome.reasons):
        raise Disturbed(f"{outcome.reasons}")
    assert outcome.reasons == [] and outcome.code == 0
    assert any(event.startswith("link: ") and named in event for event in outcome.events), outcome.events
    return outcome


def messages_dropped(stage: Stage, share: float) -> None:
    outcome = walks_on(stage, f"drop {share}", "messages were lost")
    told = [event.split()[1:4:2] for event in outcome.events if event.endswith("messages were lost")]
    # Each tells of a second; the fault began in the first of them.
    lost = np.median([int(lost) / int(sent) for lost, sent in told])
    assert 0.5 * share < lost < 1.5 * share


def messages_reordered(stage: Stage) -> None:
    walks_on(stage, "reorder 0.3", "out of order")


def messages_corrupted_then_all_of_them(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    stage.tell("corrupt 0.3")
    time.sleep(1.5)
    if stage.watch.damping():
        raise Disturbed("damped although two of three messages were good")
    assert stage.tell("state")["counters"]["damaged"] > 50, "the robot drops damaged commands"
    stage.tell("corrupt 1 states")
    outcome = stage.ends_in_damping("^stale: no new reading")
    assert outcome.has("messages were damaged and dropped")


def messages_delayed_by_40_ms(stage: Stage) -> None:
    """Named, and within the limits; whether a policy can walk with 80 ms more is the policy's affair."""
    stage.deploy(walk_s=3.5)
    stage.walk(0.4)
    stage.tell("delay 0.04")
    outcome = stage.outcome()
    stage.watch.close()
    assert stage.watch.check() > 1000
    if only_load(outcome.reasons):
        raise Disturbed(f"{outcome.reasons}")
    falls = ("tilt:", "overspeed:", "reading:")
    assert all(reason.startswith(falls) for reason in outcome.reasons), outcome.reasons
    late = [event for event in outcome.events if event.startswith("link: ") and "ms late" in event]
    assert late and 35 <= int(late[0].split(" come ")[1].split()[0]) <= 70, outcome.events


def messages_delayed_beyond_what_is_fresh(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    stage.tell("delay 0.2 states")
    stage.ends_in_damping("^stale: no new reading")


def second_publisher(stage: Stage) -> None:
    stage.deploy()
    stage.walk()
    ours = {seen.writer for seen in stage.watch.commands}
    contract = stage.watch.contract
    intruder = CommandPublisher(contract.joint_names, "lo", stage.domain, stage.watch.participant)
    stage.intruders.append(intruder)
    home = Command.position(np.array(contract.home_joint_position), 20.0, 0.5)
    appeared_s = time.monotonic()
    while not stage.guard_log.count("damping publisher:") and time.monotonic() < appeared_s + 3.0:
        intruder.publish(home)
        time.sleep(0.02)
    assert "damping publisher:" in stage.guard_log
    outcome = stage.outcome()
    stage.watch.close()
    assert any(str(intruder.guid) in reason for reason in outcome.reasons), outcome.reasons
    assert outcome.reasons[0].startswith(("publisher:", "link: the guard damps: publisher:"))
    seen = [seen for seen in stage.watch.commands if seen.writer in ours]
    damped_s = next(s.time_s for s in reversed(seen) if s.kp.any())
    assert damped_s - appeared_s < 0.5, "the guard looks for others ten times a second"
    assert stage.watch.check(ours) > 1000


def a_person_clears_by_the_remote_once_the_cause_is_gone(stage: Stage) -> None:
    stage.deploy(commander=("--remote", "--operator", "Ada"))
    assert stage.deployment is not None

    def limp() -> bool:
        last = stage.watch.now()
        return last is not None and not last.kp.any() and not last.kd.any()

    stage.until(limp, 20.0, "limp on the wire")
    contract = stage.watch.contract
    intruder = CommandPublisher(contract.joint_names, "lo", stage.domain, stage.watch.participant)
    stage.until(lambda: "damping publisher:" in stage.guard_log and stage.watch.damping(), 5.0, "damping")
    stage.tell("press L2+Y 0.2")
    time.sleep(1.3)
    assert stage.watch.damping(), "a clear is refused while the cause is there"
    del intruder
    gc.collect()
    time.sleep(0.5)
    assert stage.watch.damping(), "nothing clears by itself"
    stage.tell("press L2+Y 0.2")
    stage.until(limp, 5.0, "limp again")
    stage.deployment.send_signal(signal.SIGTERM)
    outcome = stage.outcome()
    stage.watch.close()
    assert stage.watch.check() > 500
    assert outcome.has("damping stays: publisher:") or outcome.has("the guard keeps damping: publisher:")
    assert outcome.has("cleared by Ada")


# The robot.


def sensor_says(stage: Stage, line: str, reason: str) -> None:
    stage.deploy()
    stage.walk()
    stage.tell(line)
    stage.ends_in_damping(reason, within_s=2.0 if line.startswith("push") else 0.6)


# Clocks.


def robots_counter_jumps(stage: Stage, milliseconds: int, reason: str) -> None:
    stage.deploy()
    stage.walk()
    stage.tell(f"jump {milliseconds}")
    outcome = stage.ends_in_damping(reason)
    assert milliseconds != -500 or outcome.has("out of order")


def hosts_clock_jumps(stage: Stage, seconds: float, reason: str) -> None:
    stage.deploy(program=(str(ROOT / "tests" / "sim2real" / "jumping_clock.py"), str(seconds)))
    stage.walk()
    assert stage.deployment is not None
    stage.deployment.send_signal(signal.SIGUSR1)
    stage.ends_in_damping(reason)


def policy_process_is_stopped_for_a_while(stage: Stage) -> None:
    """What a suspended or starved host looks like."""
    stage.deploy()
    stage.walk()
    assert stage.deployment is not None
    stopped_s = time.monotonic()
    stage.deployment.send_signal(signal.SIGSTOP)
    time.sleep(0.4)
    assert stage.watch.damping()
    assert stage.watch.damped_since() - stopped_s < 0.3, "the guard does not wait for the runtime"
    stage.deployment.send_signal(signal.SIGCONT)
    outcome = stage.ends_in_damping(r"^(deadline: 0\.\d+ s since the last check|link: the guard damps: silence)")
    assert any("the guard damps: silence" in reason for reason in outcome.reasons)


SCENES: dict[str, Callable[[Stage], None]] = {
    "robot killed": robot_killed,
    "policy killed": policy_killed_leaves_the_guard_damping,
    "guard killed": guard_killed_the_link_damps_by_itself,
    "5 % dropped": partial(messages_dropped, share=0.05),
    "30 % dropped": partial(messages_dropped, share=0.3),
    "reordered": messages_reordered,
    "corrupted": messages_corrupted_then_all_of_them,
    "delayed by 40 ms": messages_delayed_by_40_ms,
    "delayed by 200 ms": messages_delayed_beyond_what_is_fresh,
    "second publisher": second_publisher,
    "cleared by a person": a_person_clears_by_the_remote_once_the_cause_is_gone,
    "NaN": partial(sensor_says, line="fail joint_position nan FR_hip", reason="^reading: joint_position is not finite"),
    "pushed over": partial(sensor_says, line="push 0 6", reason="^tilt: "),
    "battery low": partial(sensor_says, line="battery 5", reason="^battery: 5 %"),
    "robot's counter forward": partial(
        robots_counter_jumps, milliseconds=5000, reason=r"^clock: a reading is stamped [45]\.\d+ s in the future"
    ),
    "robot's counter back": partial(
        robots_counter_jumps, milliseconds=-5000, reason="^order: the robot's counter went from"
    ),
    "robot's counter a little back": partial(robots_counter_jumps, milliseconds=-500, reason="^stale: no new reading"),
    "host's clock forward": partial(
        hosts_clock_jumps,
        seconds=1.0,
        reason=r"^(deadline: 1\.\d+ s since the last check|link: the guard damps: silence)",
    ),
    "host's clock back": partial(
        hosts_clock_jumps, seconds=-1.0, reason=r"^(clock: ran backward by|link: the guard damps: silence)"
    ),
    "policy process stopped": policy_process_is_stopped_for_a_while,
}


@pytest.fixture(scope="module")
def playing(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Playing]:
    """The selected scenes, being played from the first test on."""
    parameters = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen = [spec.params["scene"] for spec in parameters if spec is not None]
    with Playing(tmp_path_factory.mktemp("faults"), {name: SCENES[name] for name in chosen}) as playing:
        yield playing


@pytest.mark.parametrize("scene", SCENES)
def test_fault(playing: Playing, scene: str) -> None:
    playing.result(scene)
