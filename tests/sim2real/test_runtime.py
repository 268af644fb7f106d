"""The runtime: states, deadlines, sources, the log of every tick, and that a robot needs neither torch nor mujoco."""

from __future__ import annotations

import gc
import json
import math
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from configs.errors import UserError
from sim2real import deploy
from sim2real.clock import MonotonicClock
from sim2real.commands import Action, Pose, ProgramSource, Request, Situation, State
from sim2real.keyboard import Keyboard
from sim2real.limits import command_violation
from sim2real.links.link import Link, LinkError, Remote
from sim2real.links.simulation import SimulationLink
from sim2real.log import read_log
from sim2real.runtime import Runtime
from sim2real.script import Step, load_script, parse_script, tour
from sim2real.script_source import Script
from sim2real.sticks import Gamepad, RemoteSource, sticks_to_command
from tests.sim2real.fake_link import FakeLink, nan_gyro
from tests.sim2real.untrained import exported

ROOT = Path(__file__).resolve().parents[2]
DT_S = 0.02


class Plan:
    """A source that asks for actions at given ticks; everything it saw is kept."""

    def __init__(self, actions: dict[int, Action], command: tuple[float, ...] | None = None) -> None:
        self.actions, self.command = actions, command
        self.seen: list[Situation] = []
        self.closed = False

    def poll(self, situation: Situation) -> Request:
        action = self.actions.get(len(self.seen))
        self.seen.append(situation)
        return Request(action, None if self.command is None else np.array(self.command), "plan")

    def close(self) -> None:
        self.closed = True

    def states(self) -> list[State]:
        """The states in the order in which they were entered."""
        return [s.state for i, s in enumerate(self.seen) if i == 0 or s.state is not self.seen[i - 1].state]


@pytest.fixture
def go2() -> FakeLink:
    contract = exported("go2-walk").contract
    return FakeLink(contract.joint_names, contract.stand_up[0].joint_position + 0.02)


def run(link: FakeLink, actions: dict[int, Action], ticks: int, **options):
    """A runtime on the go2 bundle for so many ticks in lock step."""
    plan = Plan(actions, options.pop("command", None))
    runtime = Runtime(exported("go2-walk"), link, [plan], **options)
    summary = runtime.run(ticks * DT_S)
    return runtime, plan, summary


STANDING_TICKS = 180  # 1.5 s folding, 2 s rising


def test_the_way_from_limp_to_running_and_back(go2):
    stand, running = 5, 5 + STANDING_TICKS
    actions = {
        stand: Action.STAND,
        running: Action.RUN,
        running + 50: Action.HOLD,
        running + 110: Action.DAMP,
        running + 120: Action.STAND,
    }
    runtime, plan, summary = run(go2, actions, running + 140, command=(0.5, 0.0, 9.0))
    assert plan.states() == [
        *(State.LIMP, State.STAND_UP, State.READY, State.RUNNING),
        *(State.STAND_UP, State.READY, State.DAMPING, State.STAND_UP, State.DAMPING),
    ]
    assert not summary.reasons and summary.state == "damping"
    contract, sent = runtime.contract, go2.sent
    assert all((c.kp == 0).all() and (c.kd == 0).all() for c in sent[:stand])  # limp
    assert np.allclose(sent[stand + 60].kp, contract.stand_kp)
    assert np.allclose(sent[running + 10].kp, contract.kp) and np.allclose(sent[running + 10].kd, contract.kd)
    assert (sent[-1].kp == 0).all() and (sent[-1].kd == contract.safety.damping_kd).all()
    assert np.allclose(runtime.command, (0.5, 0.0, 1.0))  # clipped to the contract's range
    assert plan.closed and go2.closed == 1 and gc.isenabled()


def test_standing_up_is_slow_and_ends_at_home(go2):
    runtime, _, _ = run(go2, {0: Action.STAND}, STANDING_TICKS + 10)
    targets = np.array([command.joint_target for command in go2.sent[:STANDING_TICKS]])
    assert np.abs(np.diff(targets, axis=0)).max() / DT_S < 2.0  # rad/s
    assert np.allclose(targets[-1], runtime.contract.home_joint_position, atol=1e-3)


def test_every_command_is_inside_the_limits(go2):
    _, _, summary = run(
        go2, {0: Action.STAND, STANDING_TICKS: Action.RUN, STANDING_TICKS + 50: Action.STOP}, STANDING_TICKS + 60
    )
    limits, before = exported("go2-walk").contract.safety, None
    for command in go2.sent:
        assert command_violation(limits, command, before) is None
        before = command.joint_target
    assert summary.reasons == ("stop: by plan",)


@pytest.mark.parametrize(
    ("action", "state"),
    [(Action.RUN, State.LIMP), (Action.HOLD, State.LIMP), (Action.CLEAR, State.LIMP)],
)
def test_what_is_not_possible_is_logged_and_changes_nothing(go2, tmp_path, action, state):
    _, plan, _ = run(go2, {3: action}, 10, log=tmp_path / "log.mcap")
    assert plan.states()[0] is state and State.RUNNING not in plan.states()
    texts = [event["text"] for event in read_log(tmp_path / "log.mcap").messages["/event"]]
    assert f"plan: {action} is not possible while {state}" in texts


def test_a_stop_latches_until_a_person_clears_it(go2, tmp_path):
    actions = {5: Action.STAND, 20: Action.STOP, 30: Action.STAND, 40: Action.CLEAR, 50: Action.STAND}
    _, plan, _ = run(go2, actions, 60, log=tmp_path / "log.mcap", operator="Ada")
    assert plan.states()[:5] == [
        *(State.LIMP, State.STAND_UP, State.DAMPING, State.LIMP, State.STAND_UP),
    ]
    events = read_log(tmp_path / "log.mcap").messages["/event"]
    assert {"state": "limp", "text": "cleared by Ada"} in events
    assert go2.cleared_by == ["Ada"]


def test_a_clear_is_refused_while_the_cause_is_there(go2, tmp_path):
    go2.spoil = lambda r: nan_gyro(r) if r.tick > 10 else r
    _, plan, summary = run(go2, {5: Action.STAND, 20: Action.CLEAR}, 100, log=tmp_path / "log.mcap")
    assert plan.states() == [State.LIMP, State.STAND_UP, State.DAMPING]
    assert summary.reasons[0].startswith("reading: angular_velocity is not finite")
    texts = [event["text"] for event in read_log(tmp_path / "log.mcap").messages["/event"]]
    assert any(text.startswith("damping stays: reading") for text in texts)


def test_a_robot_that_falls_silent_is_damped(go2):
    go2.spoil = lambda r: None if r.tick > 30 else r
    _, plan, summary = run(go2, {5: Action.STAND}, 60)
    assert plan.states()[-1] is State.DAMPING and summary.reasons[0].startswith("stale")


def test_a_robot_that_never_speaks_is_an_error(go2):
    go2.spoil = lambda r: None
    with pytest.raises(LinkError, match="said nothing"):
        run(go2, {}, 10)
    assert go2.closed == 1


def test_a_link_that_cannot_send_is_named_once_and_damps(go2, tmp_path):
    def fail(tick: int) -> None:
        if tick == 30:
            go2.send_error = "the guard is gone"

    go2.before_read = fail
    _, plan, summary = run(go2, {5: Action.STAND, 50: Action.CLEAR}, 80, log=tmp_path / "log.mcap")
    assert plan.states()[-1] is State.DAMPING
    assert summary.reasons[0] == "link: the guard is gone"
    texts = [event["text"] for event in read_log(tmp_path / "log.mcap").messages["/event"]]
    assert texts.count("the guard is gone") == 1 and "it cannot be cleared" in texts


def test_a_policy_that_fails_is_damped(go2, tmp_path):
    plan = Plan({0: Action.STAND, STANDING_TICKS: Action.RUN})
    runtime = Runtime(exported("go2-walk"), go2, [plan], log=tmp_path / "log.mcap")

    class Broken:
        def reset(self) -> None: ...
        def __call__(self, readings: object) -> object:
            raise RuntimeError("no such operator")

    runtime.states.policy = Broken()  # type: ignore[assignment]
    summary = runtime.run((STANDING_TICKS + 20) * DT_S)
    assert summary.reasons[0].startswith("policy:") and plan.states()[-1] is State.DAMPING
    events = read_log(tmp_path / "log.mcap").messages["/event"]
    assert any(event["text"] == "the policy failed: RuntimeError: no such operator" for event in events)


def test_a_joint_that_does_not_follow_ends_the_standing_up(go2):
    go2.stuck = 2  # a calf
    _, plan, summary = run(go2, {0: Action.STAND}, STANDING_TICKS + 20)
    assert State.READY not in plan.states()
    assert "FR_calf_joint is 0.8" in summary.reasons[0]


def test_an_error_in_the_loop_closes_the_link(go2, tmp_path):
    class Faulty(Plan):
        def poll(self, situation: Situation) -> Request:
            if len(self.seen) == 10:
                raise ZeroDivisionError("a fault of ours")
            return super().poll(situation)

    runtime = Runtime(exported("go2-walk"), go2, [Faulty({})], log=tmp_path / "log.mcap")
    with pytest.raises(ZeroDivisionError):
        runtime.run()
    assert go2.closed == 1 and gc.isenabled()
    assert read_log(tmp_path / "log.mcap").complete


def test_stop_may_come_from_any_thread(go2):
    runtime = Runtime(exported("go2-walk"), go2, [Plan({})])
    go2.before_read = lambda tick: runtime.stop("a test") if tick == 20 else None
    assert runtime.run(1.0).reasons == ("stop: by a test",)


def test_another_robots_link_is_refused():
    contract = exported("cartpole-swingup").contract
    link = FakeLink(contract.joint_names, contract.home_joint_position)
    assert isinstance(link, Link)
    with pytest.raises(UserError, match="joints are"):
        Runtime(exported("go2-walk"), link)


# Deadlines.


def test_lateness_does_not_add_up_and_no_tick_is_skipped(go2):
    clock = go2.clock
    began_s = clock.now_s()

    def slow(tick: int) -> None:
        clock.time_s += 0.03 if tick == 50 else 0.005  # one tick takes a period and a half

    go2.before_read = slow
    runtime, plan, summary = run(go2, {}, 100)
    woke_s = np.array(runtime.timing.wake_late_s)
    assert summary.skipped_ticks == 0
    assert summary.missed_deadlines == 1  # tick 50 is sent 1.5 periods after its deadline
    assert woke_s[50] == pytest.approx(0.01, abs=1e-6) and woke_s[51] == pytest.approx(0.0, abs=1e-6)
    assert len(woke_s) == pytest.approx((clock.now_s() - began_s) / DT_S, abs=1.5)
    assert not summary.reasons and plan.states()[0] is State.LIMP


def test_repeated_misses_are_counted_and_damped(go2):
    go2.before_read = lambda tick: setattr(go2.clock, "time_s", go2.clock.time_s + 0.025)
    _, _, summary = run(go2, {}, 40)
    assert summary.missed_deadlines > 3
    assert any(reason.startswith("deadline") for reason in summary.reasons)


def test_a_long_pause_starts_the_schedule_anew_and_says_so(go2, tmp_path):
    def pause(tick: int) -> None:
        if tick == 30:
            go2.clock.time_s += 1.0

    go2.before_read = pause
    runtime, _, summary = run(go2, {}, 100, log=tmp_path / "log.mcap")
    assert summary.skipped_ticks == 49 and summary.missed_deadlines == 1
    assert summary.ticks + summary.skipped_ticks == pytest.approx(summary.seconds / DT_S, abs=1.5)
    assert summary.reasons[0].startswith("deadline: 1.0")
    texts = [event["text"] for event in read_log(tmp_path / "log.mcap").messages["/event"]]
    assert any(text.endswith("49 ticks fell out") for text in texts)
    assert max(runtime.timing.wake_late_s[35:]) < DT_S  # no burst afterwards


def test_a_clock_that_runs_backward_is_doubted(go2):
    def jump(tick: int) -> None:
        if tick == 30:
            go2.clock.time_s -= 0.5

    go2.before_read = jump
    _, _, summary = run(go2, {}, 60)
    assert summary.reasons[0].startswith("clock: ran backward")


def test_real_time_ticks_come_at_their_rate():
    contract = exported("go2-walk").contract
    link = FakeLink(contract.joint_names, contract.home_joint_position, lock_step=False)
    interval_s = sys.getswitchinterval()
    began_s = time.monotonic()
    summary = Runtime(exported("go2-walk"), link, clock=MonotonicClock(spin_s=1e-4)).run(0.5)
    seconds = time.monotonic() - began_s
    assert sys.getswitchinterval() == interval_s
    # 0.5 s and one of damping; on a busy machine ticks may fall out, but never unseen.
    assert summary.ticks + summary.skipped_ticks == pytest.approx(summary.seconds / DT_S, abs=2)
    assert seconds > 1.45


# Sources.


def situation(**changes) -> Situation:
    return replace(Situation(0.0, State.RUNNING, None, None, ()), **changes)


COMMANDS = exported("go2-walk").contract.commands


def wait_for(condition) -> None:
    deadline_s = time.monotonic() + 5.0
    while not condition():
        assert time.monotonic() < deadline_s, "nothing happened"
        time.sleep(0.005)


def test_keys_of_a_terminal_steer_and_stop():
    master, slave = os.openpty()
    keyboard = Keyboard(COMMANDS, file_descriptor=slave)
    try:
        os.write(master, b"1www")
        wait_for(lambda: keyboard._values[0] > 0.29)
        first = keyboard.poll(situation())
        assert first.action is Action.STAND and np.allclose(first.command, (0.3, 0.0, 0.0))
        os.write(master, b"2a\x1b[Adqq\x1bOPe")  # arrow and function keys begin like Esc, but do not stop
        wait_for(lambda: np.isclose(keyboard._values[2], 0.1))
        assert [keyboard.poll(situation()).action for _ in range(2)] == [Action.RUN, None]
        os.write(master, b" ")
        requests = []
        wait_for(lambda: requests.append(keyboard.poll(situation())) or requests[-1].action is Action.STOP)
        assert np.allclose(requests[-1].command, 0.0)
        os.write(master, b"c")
        wait_for(lambda: keyboard.poll(situation()).action is Action.CLEAR)
    finally:
        keyboard.close()
        keyboard.close()
        os.close(master)
        os.close(slave)


def test_nothing_typed_before_a_stop_comes_after_it():
    read, write = os.pipe()
    keyboard = Keyboard(COMMANDS, file_descriptor=read)
    for key in "12\x1b":
        keyboard.press(key)
    assert [keyboard.poll(situation()).action for _ in range(3)] == [Action.STOP, None, None]
    os.close(write)  # the terminal is closed
    wait_for(lambda: keyboard.poll(situation()).action is Action.STOP)
    keyboard.close()
    os.close(read)


def test_sticks_reach_the_ends_of_the_ranges_and_rest_in_the_middle():
    assert np.allclose(sticks_to_command(Remote(), COMMANDS), 0.0)
    assert np.allclose(sticks_to_command(Remote(0.05, -0.05, 0.05), COMMANDS), 0.0)
    assert np.allclose(sticks_to_command(Remote(left_y=1.0), COMMANDS), (1.5, 0.0, 0.0))
    assert np.allclose(sticks_to_command(Remote(left_y=-1.0), COMMANDS), (-0.5, 0.0, 0.0))
    assert np.allclose(sticks_to_command(Remote(left_x=1.0, right_x=1.0), COMMANDS), (0.0, -0.5, -1.0))
    assert sticks_to_command(Remote(), ()) is None


def test_the_robots_remote_acts_when_buttons_go_down(go2):
    source = RemoteSource(COMMANDS)

    def poll(*buttons: str) -> Action | None:
        go2.remote = Remote(buttons=frozenset(buttons))
        return source.poll(situation(reading=go2.read())).action

    assert poll("start") is None  # held since before
    assert [poll("L2"), poll("L2", "A"), poll("L2", "A"), poll()] == [None, Action.STAND, None, None]
    assert [poll("start"), poll(), poll("L2", "B"), poll("select")] == [
        *(Action.RUN, None, Action.STOP, Action.HOLD),
    ]
    assert np.allclose(source.poll(situation()).command, 0.0)  # no remote, no motion


def test_a_gamepad_steers_and_its_loss_stops(tmp_path):
    device = tmp_path / "js0"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(device, os.O_WRONLY)
    gamepad = Gamepad(COMMANDS, device)
    assert gamepad.poll(situation()).action is None
    os.write(writer, Gamepad.EVENT.pack(0, -32767, Gamepad.AXIS, 1) + Gamepad.EVENT.pack(0, 1, Gamepad.BUTTON, 7))
    request = gamepad.poll(situation())
    assert request.action is Action.RUN and np.allclose(request.command, (1.5, 0.0, 0.0))
    os.write(writer, Gamepad.EVENT.pack(0, 1, 1, 1) + Gamepad.EVENT.pack(0, 1, 1, 0))
    assert gamepad.poll(situation()).action is Action.STOP  # whatever is pressed beside it
    os.close(writer)
    lost = gamepad.poll(situation())
    assert lost.action is Action.STOP and np.allclose(lost.command, 0.0)
    gamepad.close()
    os.close(reader)
    with pytest.raises(UserError, match=r"gamepad .*js9.*present"):
        Gamepad(COMMANDS, tmp_path / "js9")


def test_python_calls_command_the_robot(go2):
    runtime = Runtime(exported("go2-walk"), go2, [Plan({})])
    runtime.commands.ask("stand")
    runtime.commands.command(0.4, 0.1, 0.0)
    runtime.run(0.1)
    assert np.allclose(runtime.command, (0.4, 0.1, 0.0))
    assert (go2.sent[2].kp > 0).all()
    with pytest.raises(ValueError, match="'jump'"):
        ProgramSource().ask("jump")


def test_the_first_source_that_steers_wins_and_any_may_stop(go2):
    first, second = Plan({}, (0.1, 0.0, 0.0)), Plan({5: Action.STOP}, (0.2, 0.0, 0.0))
    runtime = Runtime(exported("go2-walk"), go2, [first, second])
    summary = runtime.run(0.5)
    assert np.allclose(runtime.command, (0.1, 0.0, 0.0)) and summary.reasons == ("stop: by plan",)


# Scripts.


def test_a_script_reckons_distances_from_the_command(go2):
    steps = (
        Step("stand", Action.STAND),
        Step("run", Action.RUN),
        Step("forward", command=(1.0, 0.0, 0.0), distance_m=2.0),
        Step("turn", command=(0.0, 0.0, -0.5), angle_rad=0.5),
        Step("diagonal", command=(0.3, 0.4, 0.0), distance_m=0.5),
        Step("end", Action.DAMP),
    )
    script = Script(steps, COMMANDS)
    summary = Runtime(exported("go2-walk"), go2, [script]).run()
    assert script.ok and [step.outcome for step in summary.steps] == ["done"] * 6
    assert [s.seconds for s in summary.steps[2:5]] == pytest.approx([2.0, 1.0, 1.0], abs=0.03)
    assert summary.steps[2].distance_m == pytest.approx(2.0, abs=0.03)
    assert summary.steps[3].angle_rad == pytest.approx(-0.5, abs=0.02)
    assert {step.measured for step in summary.steps} == {"dead reckoning"}


def test_a_script_measures_by_the_truth_where_there_is_one():
    script = Script((Step("left", command=(0.0, 0.4, 0.0), distance_m=1.0),), COMMANDS)
    for tick in range(200):
        # Heads along -y, so left is +x; it moves at half the commanded speed.
        pose = Pose(np.array([0.2 * tick * DT_S, 5.0, 0.3]), -math.pi / 2)
        if script.poll(situation(time_s=tick * DT_S, truth=pose)).action is Action.QUIT:
            break
        assert tick < 252
    else:
        for tick in range(200, 300):
            pose = Pose(np.array([0.2 * tick * DT_S, 5.0, 0.3]), -math.pi / 2)
            if script.poll(situation(time_s=tick * DT_S, truth=pose)).action is Action.QUIT:
                break
    (step,) = script.results
    assert step.outcome == "done" and step.measured == "truth"
    assert step.distance_m == pytest.approx(1.0, abs=0.01) and step.seconds == pytest.approx(5.0, abs=0.05)


def test_turns_are_followed_past_the_half_circle():
    script = Script((Step("turn", command=(0.0, 0.0, 1.0), angle_rad=6.0),), COMMANDS)
    for tick in range(400):
        heading = math.remainder(1.0 * tick * DT_S, math.tau)
        if script.poll(situation(time_s=tick * DT_S, truth=Pose(np.zeros(3), heading))).action:
            break
    assert script.ok and script.results[0].angle_rad == pytest.approx(6.0, abs=0.03)


def test_a_script_ends_early_when_the_robot_is_damped(go2):
    go2.spoil = lambda r: nan_gyro(r) if r.tick > 60 else r
    script = Script(tour(COMMANDS), COMMANDS)
    summary = Runtime(exported("go2-walk"), go2, [script]).run()
    assert not script.ok and len(summary.steps) == 1
    assert summary.steps[0].outcome.startswith("damped: reading")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "list of steps"),
        ("stand", "list of steps"),
        ([3], "step 1 of the script is 3"),
        (["jump"], "unknown action of step 1 'jump'"),
        ([{"command": [1, 0], "for_s": 1}], "command has 2 values; this policy takes 3: forward, left"),
        ([{"command": [1, 0, 0], "for": 1}], "unknown key of step 1 'for'.*did you mean 'for_s'"),
        ([{"command": [1, 0, "x"], "for_s": 1}], "no number"),
        ([{"command": [1, 0, 0]}], "give either"),
        ([{"command": [1, 0, 0], "for_s": 1, "distance_m": 1}], "give either"),
        ([{"command": [0, 0, 1], "distance_m": 1}], "does not move"),
        ([{"command": [1, 0, 0], "angle_rad": 1}], "does not move"),
    ],
)
def test_a_wrong_script_is_named_before_anything_moves(content, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_script(content, COMMANDS)


def test_scripts_come_from_yaml_and_json(tmp_path):
    steps = [{"do": "stand"}, "run", {"name": "go", "command": [1, 0, 0], "distance_m": 5}]
    (tmp_path / "a.json").write_text(json.dumps(steps))
    (tmp_path / "a.yaml").write_text("steps:\n- do: stand\n- run\n- {name: go, command: [1, 0, 0], distance_m: 5}\n")
    expected = (
        Step("stand", Action.STAND),
        Step("run", Action.RUN),
        Step("go", None, (1.0, 0.0, 0.0), distance_m=5.0),
    )
    assert load_script(str(tmp_path / "a.json"), COMMANDS) == expected
    assert load_script(str(tmp_path / "a.yaml"), COMMANDS) == expected
    assert load_script("tour", COMMANDS) == tour(COMMANDS)
    with pytest.raises(UserError, match="valid: tour"):
        load_script("tuor", COMMANDS)


# The whole way, in process.


@pytest.mark.parametrize("task", ["cartpole-swingup", "go2-walk"])
def test_deploy_runs_a_bundle_in_the_simulation(task, tmp_path, capsys):
    script, log_path = tmp_path / "script.json", tmp_path / "log.mcap"
    command = {"command": [0.3, 0, 0]} if task == "go2-walk" else {}
    script.write_text(json.dumps(["stand", "run", {"for_s": 0.6} | command, "damp"]))
    bundle = exported(task)
    code = deploy.main([str(bundle.path), "--lock-step", "--script", str(script), "--log", str(log_path), "--json"])
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert code == 0 and [step["outcome"] for step in summary["steps"]] == ["done"] * 4
    assert summary["missed_deadlines"] == 0 and summary["log"] == str(log_path)

    log = read_log(log_path)
    assert log.complete and log.contract["robot"] == bundle.contract.robot
    assert len(log.messages["/timing"]) == summary["ticks"]
    states = [m["state"] for m in log.messages["/decision"]]
    running = [i for i, state in enumerate(states) if state == "running"]
    assert len(running) >= 30
    # What was logged is what happened: the policy, given the logged readings, gives the logged targets.
    policy = bundle.policy()
    for i in running:
        reading = log.messages["/reading"][i] | log.messages["/command"][i]
        target = policy({s.name: reading[s.name] for s in bundle.contract.readings})
        assert np.allclose(target, log.messages["/target"][i]["policy_target"], atol=1e-6)


@pytest.mark.parametrize("physics", ["nominal", "report"])
def test_the_simulated_robot_stands_up_and_sinks_down(physics):
    bundle = exported("go2-walk")
    link = SimulationLink(bundle.contract, physics=physics, seed=1)
    script = Script((Step("up", Action.STAND), Step("stay", for_s=0.5)), bundle.contract.commands)
    heights: list[float] = []

    class Watch(Plan):
        def poll(self, situation: Situation) -> Request:
            heights.append(situation.truth.position_w[2])
            return super().poll(situation)

    assert not Runtime(bundle, link, [script, Watch({})]).run().reasons and script.ok
    assert heights[0] < 0.15 and max(heights[-80:]) > 0.24  # lying, then standing
    assert heights[-1] < 0.18  # and damped to the ground, softly
    assert np.abs(np.diff(heights[-60:])).max() / DT_S < 1.0


def test_the_simulation_follows_the_machines_clock_in_real_time():
    bundle = exported("cartpole-swingup")
    link = SimulationLink(bundle.contract, real_time=True)
    summary = Runtime(bundle, link, [Plan({1: Action.STAND})]).run(0.3)
    # On a busy machine the simulation waits with its robot, but it never runs ahead of the clock.
    assert 5 < link._stepped <= summary.seconds / DT_S + 2
    assert not hasattr(link, "clock") or link.clock is None


def test_deploy_refuses_what_cannot_work(tmp_path):
    with pytest.raises(UserError, match="drives 'cartpole', but the robot is 'go2'"):
        deploy.main([str(exported("cartpole-swingup").path), "--link", "unitree", "--yes"])
    with pytest.raises(UserError, match="add --yes"):
        deploy.main([str(exported("go2-walk").path), "--link", "unitree", "--interface", "eth0"])
    with pytest.raises(UserError, match="made by `gantry export RUN`"):
        deploy.main([str(tmp_path)])
    with pytest.raises(UserError, match="valid: tour"):
        deploy.main([str(exported("go2-walk").path), "--script", "nowhere.yaml"])


# What a robot has installed.

ROBOT_SIDE = """
import sys
from pathlib import Path
FORBIDDEN = {"torch", "mujoco", "mjbatch", "stable_baselines3", "gymnasium", "onnx", "hydra", "envs", "agents"}

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in FORBIDDEN:
            raise ImportError(f"{name} must not be needed on a robot")

sys.meta_path.insert(0, Forbid())
folder, fake, log = sys.argv[1:]
sys.path.insert(0, fake)
from fake_link import FakeLink
from sim2real.bundle import Bundle
from sim2real.script import tour
from sim2real.script_source import Script
from sim2real.log import read_log
from sim2real.runtime import Runtime
import sim2real.deploy
bundle = Bundle.load(folder, robot="go2")
link = FakeLink(bundle.contract.joint_names, bundle.contract.home_joint_position)
script = Script(tour(bundle.contract.commands), bundle.contract.commands)
summary = Runtime(bundle, link, [script], log=Path(log)).run()
assert script.ok and not summary.reasons, summary
assert len(read_log(Path(log)).messages["/timing"]) == summary.ticks
print("ticks", summary.ticks)
"""


def run_robot_side(python: str, tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "fake").mkdir()
    (tmp_path / "fake" / "fake_link.py").write_text((Path(__file__).parent / "fake_link.py").read_text())
    (tmp_path / "robot_side.py").write_text(ROBOT_SIDE)
    result = subprocess.run(
        [
            *(python, str(tmp_path / "robot_side.py"), str(exported("go2-walk").path)),
            *(str(tmp_path / "fake"), str(tmp_path / "log.mcap")),
        ],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 500


def test_a_bundle_runs_without_torch_and_mujoco(tmp_path):
    run_robot_side(sys.executable, tmp_path, {"PYTHONPATH": str(ROOT)})


@pytest.mark.slow
def test_a_bundle_runs_in_an_environment_made_from_the_wheel(tmp_path):
    """A fresh virtual environment with the wheel and its robot extra, nothing else."""

    def succeed(*command: str) -> None:
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
        if "No matching distribution" in result.stderr or "Connection" in result.stderr:
            pytest.skip(f"packages cannot be installed here: {result.stderr.splitlines()[-1]}")
        assert result.returncode == 0, result.stderr[-3000:]

    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    source = tmp_path / "source"
    copy_tree(ROOT, source)
    succeed(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source))
    (wheel,) = tmp_path.glob("gantry_lab-*.whl")
    succeed(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    constraints = ("--constraint", str(ROOT / "constraints.txt"))
    succeed(*pip, "--python", python, "install", *constraints, f"{wheel}[robot]")
    listed = subprocess.run(
        [*pip[:-1], "--python", python, "list", "--format", "json"], capture_output=True, text=True, check=True
    )
    packages = {entry["name"].lower() for entry in json.loads(listed.stdout)}
    assert packages.isdisjoint({"torch", "mujoco", "mjbatch", "stable-baselines3", "onnx", "gymnasium"})
    run_robot_side(python, tmp_path, {})


def copy_tree(source: Path, target: Path) -> None:
    """What the wheel is made from: the working tree's own files, committed or not."""
    listed = subprocess.run(
        ["git", "-C", str(source), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((source / name).read_bytes())
