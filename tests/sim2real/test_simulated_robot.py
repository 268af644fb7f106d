"""The simulated robot: its parts with numbers by hand, and the real process on DDS."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from configs.errors import UserError
from envs import tasks
from envs.physics import physics_set
from sim2real.limits import SafetyLimits
from sim2real.links.link import Command, Reading
from sim2real.links.unitree import UnitreeLink
from sim2real.links.unitree_commands import MOTOR_ORDER, low_cmd, motor_indices
from sim2real.links.unitree_dds import (
    LOW_CMD_TOPIC,
    LOW_STATE_TOPIC,
    EncodedReader,
    EncodedWriter,
    make_participant,
)
from sim2real.links.unitree_motion_switcher import MotionSwitcher
from sim2real.links.unitree_remote import decode_remote
from sim2real.links.unitree_types import LowCmd_, LowState_
from sim2real.links.unitree_wire import (
    LOW_CMD,
    LOW_STATE,
    NO_POSITION,
    NO_VELOCITY,
    Message,
    WireError,
    decode,
    encode,
    encode_unchecked,
    start_low_cmd,
)
from sim2real.robot_actions import do
from sim2real.robot_body import LYING_POSE
from sim2real.robot_channel import Channel
from sim2real.robot_console import tell
from sim2real.robot_core import SimulatedRobot
from sim2real.robot_motors import Battery, Motors
from sim2real.robot_physics import TICK_S, RobotPhysics, draw_physics, make_physics
from sim2real.robot_sensors import roll_pitch_yaw
from sim2real.robot_truth import Judge
from sim2real.simulated_robot import main

HOME = np.tile([0.0, 0.9, -1.8], 4)
IN_ORDER = motor_indices(MOTOR_ORDER)
STAND_KP, STAND_KD = 60.0, 3.0


@pytest.fixture
def physics() -> RobotPhysics:
    return make_physics("go2", "nominal", 0)


@pytest.fixture
def robot(physics: RobotPhysics) -> SimulatedRobot:
    return SimulatedRobot(physics)


def run(robot: SimulatedRobot, duration_s: float, command: Command | None = None) -> list[Message]:
    """Messages of so much of the robot's time, sending `command` in every tick."""
    data = [] if command is None else [encode(low_cmd(command, IN_ORDER))]
    return [decode(state, LOW_STATE) for _ in range(round(duration_s / TICK_S)) for state in robot.tick(data)]


def release(robot: SimulatedRobot) -> None:
    robot.service.ask_to_leave(robot.time_s)
    run(robot, 0.4)
    assert not robot.service.active


def stand(robot: SimulatedRobot) -> None:
    """Release, then interpolate to the home pose over 1.5 s."""
    release(robot)
    start = robot.body.joint_position
    for step in range(75):
        target = start + (HOME - start) * step / 74
        run(robot, 0.02, Command.position(target, STAND_KP, STAND_KD))
    run(robot, 0.5, Command.position(HOME, STAND_KP, STAND_KD))
    assert robot.truth.judge.standing


# Motors.


def message(**values: Any) -> Message:
    command = start_low_cmd()
    for name, value in values.items():
        command["motor_cmd"][name][:12] = value
    return command


def test_the_motors_law_is_the_robots(physics: RobotPhysics) -> None:
    motors = Motors(physics)
    motors.obey(message(q=0.5, dq=2.0, kp=10.0, kd=0.5, tau=1.0))
    # 10 (0.5 - 0.2) + 0.5 (2 - 1) + 1
    np.testing.assert_allclose(motors.torque(np.full(12, 0.2), np.full(12, 1.0)), 4.5, atol=1e-6)


def test_no_position_and_no_velocity_switch_their_part_off(physics: RobotPhysics) -> None:
    motors = Motors(physics)
    motors.obey(message(q=NO_POSITION, dq=1.0, kp=60.0, kd=2.0))
    assert not motors.stiff
    np.testing.assert_allclose(motors.torque(np.full(12, 0.2), np.zeros(12)), 2.0)
    motors.obey(message(q=0.1, dq=NO_VELOCITY, kp=10.0, kd=2.0))
    np.testing.assert_allclose(motors.torque(np.zeros(12), np.full(12, 5.0)), 1.0, atol=1e-6)


def test_a_motor_out_of_servo_mode_or_with_nan_keeps_its_command(physics: RobotPhysics) -> None:
    motors = Motors(physics)
    motors.obey(message(q=0.5, dq=0.0, kp=10.0))
    second = message(q=-0.5, dq=0.0, kp=10.0)
    second["motor_cmd"]["mode"][3] = 0
    second["motor_cmd"]["tau"][7] = np.nan
    motors.obey(second)
    expected = np.full(12, -5.0)
    expected[[3, 7]] = 5.0
    np.testing.assert_allclose(motors.torque(np.zeros(12), np.zeros(12)), expected)
    assert motors.ignored == 2


def test_torque_falls_with_speed(physics: RobotPhysics) -> None:
    motors = Motors(physics)
    motors.obey(message(q=0.0, dq=0.0, tau=1000.0))
    zero = np.zeros(12)
    np.testing.assert_allclose(motors.torque(zero, zero)[:3], [23.7, 23.7, 35.55])
    half_way = np.tile([(13.5 + 30.1) / 2, (13.5 + 30.1) / 2, (9.0 + 20.07) / 2], 4)
    np.testing.assert_allclose(motors.torque(zero, half_way)[:3], [11.85, 11.85, 17.775])
    no_load = np.tile([30.1, 30.1, 20.07], 4)
    np.testing.assert_allclose(motors.torque(zero, no_load), 0.0, atol=1e-12)
    np.testing.assert_allclose(motors.torque(zero, -no_load)[:3], [23.7, 23.7, 35.55])  # braking


def test_a_joint_that_rests_needs_more_to_move_than_one_that_slides(physics: RobotPhysics) -> None:
    motors = Motors(physics)
    resting = motors.friction(np.full(12, 0.18), np.zeros(12))
    sliding = motors.friction(np.full(12, 0.18), np.full(12, 1.0))
    np.testing.assert_allclose(resting, 0.18 * physics.stiction)
    np.testing.assert_allclose(sliding, 0.18)
    assert physics.stiction > 1.0


def test_motors_heat_with_the_square_of_the_torque_and_the_battery_empties() -> None:
    motors = Motors(make_physics("go2", "nominal", 0))
    before = motors.temperature_c.copy()
    motors.heat(np.array([0.0, 10.0, 20.0] * 4), 1.0)
    cooling = (before - 25.0) / 300.0
    np.testing.assert_allclose((motors.temperature_c - before + cooling)[:3], [0.0, 0.2, 0.8], atol=1e-9)
    battery = Battery(50.0)
    full_v = battery.voltage_v
    battery.drain(np.full(12, 10.0), np.full(12, 1.0), 600.0)
    assert battery.soc < 50.0 and battery.voltage_v < full_v
    # 120 W of work, 144 W in the windings, 35 W of electronics
    assert battery.current_a == pytest.approx(299.0 / full_v)


# Physics draws.


@pytest.mark.parametrize("name", ["randomized", "select", "report"])
def test_a_draw_lies_in_the_sets_ranges_and_belongs_to_its_seed(name: str) -> None:
    chosen = physics_set(tasks.get("go2-walk"), name)
    ranges, shifts = chosen.ranges, chosen.shifts
    first, again, other = draw_physics(name, 3), draw_physics(name, 3), draw_physics(name, 4)
    moved = [t for t, (low, high) in shifts.items() if t in first and ((low <= first[t]) & (first[t] <= high)).all()]
    assert len(moved) == chosen.at_once
    assert set(first) == {term for term in ranges if not term.startswith("push")} | set(moved)
    for term, value in first.items():
        low, high = shifts[term] if term in moved else ranges[term]
        assert (value >= low).all() and (value <= high).all()
        np.testing.assert_array_equal(value, again[term])
    assert any((first[term] != other[term]).any() for term in first)


def test_a_draw_is_in_the_model_and_not_the_physics_of_training() -> None:
    physics = make_physics("go2", "report", 1)
    nominal = make_physics("go2", "nominal", 1)
    values, model = physics.values, physics.model
    foot = model.geom("FR_foot").id
    assert model.geom_friction[foot, 0] == pytest.approx(values["friction"][0])
    added = model.body("base").mass[0] - nominal.model.body("base").mass[0]
    assert added == pytest.approx(values["base_mass"][0])
    assert model.opt.gravity[2] == pytest.approx(-9.81 - values["gravity"][0])
    assert physics.command_delay_s == values["action_delay"][0] > 0
    for one in (physics, nominal):
        assert one.model.opt.timestep <= 0.001
        assert one.model.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        assert one.model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC
    assert physics.stiction == 1.5


def test_per_joint_draws_reach_their_motor_by_name() -> None:
    physics = make_physics("go2", "report", 1)
    drawn = dict(zip(physics.robot.joint_names, physics.values["motor_offset"], strict=True))
    expected = [drawn[f"{name}_joint"] for name in MOTOR_ORDER]
    np.testing.assert_array_equal(physics.by_motor("motor_offset"), expected)


def test_bad_names_are_told() -> None:
    with pytest.raises(UserError, match="did you mean 'report'"):
        make_physics("go2", "repotr", 0)
    with pytest.raises(UserError, match="valid: go2"):
        main(["go1"])
    with pytest.raises(UserError, match="silence-s"):
        main(["go2", "--silence-s", "0"])


# The body and what it measures.


def test_it_lies_still_and_measures_gravity(robot: SimulatedRobot) -> None:
    states = run(robot, 1.0)[-200:]
    assert robot.body.data.qpos[2] < 0.13 and robot.body.tilt_rad < 0.05
    accelerometer = np.mean([state["imu_state"]["accelerometer"] for state in states], 0)
    np.testing.assert_allclose(accelerometer, [0.0, 0.0, 9.81], atol=0.05)
    encoders = np.mean([state["motor_state"]["q"][:12] for state in states], 0)
    np.testing.assert_allclose(encoders, LYING_POSE, atol=0.12)
    assert 130.0 < states[-1]["foot_force"].sum() < 160.0  # 15.2 kg on four folded legs
    assert (states[-1]["motor_state"]["q"][12:] == 0.0).all()


def test_the_imu_is_where_it_is_and_sees_the_spin(robot: SimulatedRobot) -> None:
    """Proper acceleration against the change of the site's velocity, in free flight."""
    robot.motors.damp(0.0)
    model, data = robot.body.model, robot.body.data
    data.qpos[2] = 5.0
    data.qvel[3:6] = (1.0, -2.0, 6.0)
    site = model.site("imu").id

    def site_velocity() -> np.ndarray:
        spatial = np.zeros(6)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        mujoco.mj_comVel(model, data)
        mujoco.mj_objectVelocity(model, data, mujoco.mjtObj.mjOBJ_SITE, site, spatial, 0)
        return spatial[3:]

    before = site_velocity()
    mujoco.mj_step(model, data)
    measured = robot.sensors.true_accelerometer()
    rotation = data.site_xmat[site].reshape(3, 3).copy()
    acceleration = (site_velocity() - before) / model.opt.timestep
    expected = rotation.T @ (acceleration - model.opt.gravity)
    np.testing.assert_allclose(measured, expected, atol=0.05 * float(np.linalg.norm(expected)))
    assert np.linalg.norm(expected) > 1.0  # the lever arm at 6 rad/s, or the test says nothing
    gyro = run(robot, TICK_S)[0]["imu_state"]["gyroscope"]
    np.testing.assert_allclose(gyro, data.qvel[3:6], atol=0.011)


def test_biases_and_zero_errors_show_in_the_readings() -> None:
    physics = make_physics("go2", "report", 2)
    robot = SimulatedRobot(physics)
    states = run(robot, 2.0)[-500:]
    off = np.mean([state["motor_state"]["q"][:12] for state in states], 0) - robot.body.joint_position
    np.testing.assert_allclose(off, physics.by_motor("motor_offset"), atol=0.01)
    w, x, y, z = np.mean([state["imu_state"]["quaternion"] for state in states], 0)
    seen = np.array([2 * (w * y - x * z), -2 * (y * z + w * x)])
    true_w, true_x, true_y, true_z = robot.body.data.qpos[3:7]
    true = np.array([2 * (true_w * true_y - true_x * true_z), -2 * (true_y * true_z + true_w * true_x)])
    np.testing.assert_allclose(seen - true, physics.values["gravity_bias"][:2], atol=0.01)
    gyro = np.mean([state["imu_state"]["gyroscope"] for state in states], 0)
    np.testing.assert_allclose(gyro, physics.values["angular_velocity_bias"], atol=0.03)


def test_roll_pitch_yaw_by_hand() -> None:
    s = np.sqrt(0.5)
    np.testing.assert_allclose(roll_pitch_yaw(np.array([s, s, 0.0, 0.0])), [np.pi / 2, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(roll_pitch_yaw(np.array([s, 0.0, 0.0, s])), [0.0, 0.0, np.pi / 2], atol=1e-9)
    pitch = roll_pitch_yaw(np.array([np.cos(0.2), 0.0, np.sin(0.2), 0.0]))
    np.testing.assert_allclose(pitch, [0.0, 0.4, 0.0], atol=1e-9)


def test_it_stands_up_falls_when_pushed_and_that_is_recorded(physics: RobotPhysics, tmp_path: Path) -> None:
    robot = SimulatedRobot(physics, truth=tmp_path / "truth.jsonl")
    stand(robot)
    assert robot.body.data.qpos[2] > 0.24 and robot.truth.judge.falls == 0
    assert json.loads(do(robot, "push 0 4"))["ok"]
    run(robot, 1.5, Command.position(HOME, STAND_KP, STAND_KD))
    robot.truth.end(robot.time_s, {})
    lines = [json.loads(line) for line in (tmp_path / "truth.jsonl").read_text().splitlines()]
    assert lines[0]["kind"] == "start" and lines[0]["physics"] == "nominal"
    events = [line["event"] for line in lines if line["kind"] == "event"]
    assert events[:3] == ["service released the motors", "stood", "console: push 0 4"]
    assert events[3].startswith("fall") and lines[-1]["falls"] == 1
    poses = [line for line in lines if line["kind"] == "pose"]
    assert len(poses) == pytest.approx(robot.time_s * 50, abs=1)
    assert max(pose["position_w"][2] for pose in poses) > 0.24


def test_sinking_down_while_damped_is_no_fall(robot: SimulatedRobot) -> None:
    stand(robot)
    run(robot, 3.0, Command.damping(HOME, 2.0))
    assert robot.truth.events[-1] == "lay_down" and robot.truth.judge.falls == 0


def test_the_judge_by_hand() -> None:
    judge = Judge()
    assert judge.look(0.0, 0.1, 0.0, True, True) == ""  # it lies: nothing to fall from
    assert judge.look(0.1, 0.27, 0.0, False, True) == ""
    assert judge.look(0.5, 0.27, 0.0, False, True) == "stood"
    assert judge.look(0.6, 0.27, np.radians(59.0), False, True) == ""
    assert judge.look(0.7, 0.27, np.radians(61.0), False, False) == "fall: tilt"
    assert judge.look(0.8, 0.1, np.radians(80.0), True, True) == "" and judge.falls == 1
    judge.look(1.0, 0.27, 0.0, False, True)
    assert judge.look(1.4, 0.27, 0.0, False, True) == "stood"
    assert judge.look(1.5, 0.27, 0.0, True, True) == "fall: contact"


def test_it_hangs_from_the_rope_and_can_be_let_down(physics: RobotPhysics) -> None:
    robot = SimulatedRobot(physics, start="hanging")
    release(robot)
    run(robot, 2.0)
    assert not robot.body.foot_force_n.any() and robot.body.data.qpos[2] > 0.45
    assert robot.truth.events == ["service released the motors"]
    do(robot, "lower 0.5")
    run(robot, 6.0)
    assert robot.body.data.qpos[2] < 0.2 and robot.truth.judge.falls == 0
    do(robot, "unhook")
    assert "error" in json.loads(do(robot, "lower 0.1"))


# What commands it obeys, and when.


def test_commands_are_ignored_until_the_service_leaves(robot: SimulatedRobot) -> None:
    run(robot, 0.3)
    held = robot.body.joint_position
    run(robot, 0.5, Command.position(HOME, STAND_KP, STAND_KD))
    np.testing.assert_allclose(robot.body.joint_position, held, atol=0.03)
    assert robot.counters["while_service"] > 200 and robot.counters["obeyed"] == 0


def test_damaged_commands_are_ignored(robot: SimulatedRobot) -> None:
    release(robot)
    damaged = low_cmd(Command.position(HOME, STAND_KP, STAND_KD), IN_ORDER)
    damaged["crc"] = 12345
    for data in (encode_unchecked(damaged), encode(damaged)[:-8], b""):
        robot.tick([data])
    assert not robot.motors.stiff
    assert robot.counters == {"damaged": 3}
    robot.tick([encode(damaged)])
    assert robot.motors.stiff


def test_a_command_takes_effect_after_the_delay_that_was_drawn() -> None:
    physics = make_physics("go2", "report", 5)
    robot = SimulatedRobot(physics)
    release(robot)
    sent = [encode(low_cmd(Command.position(HOME, 20.0, 1.0), IN_ORDER))]
    ticks = 0
    robot.tick(sent)
    while not robot.motors.stiff:
        robot.tick([])
        ticks += 1
    assert ticks * TICK_S == pytest.approx(physics.command_delay_s, abs=TICK_S)


@pytest.mark.parametrize("on_silence", ["hold", "limp", "damp"])
def test_what_happens_on_silence(physics: RobotPhysics, on_silence: str) -> None:
    robot = SimulatedRobot(physics, on_silence=on_silence)
    stand(robot)
    run(robot, 0.09)
    assert robot.motors.stiff
    run(robot, 0.02)
    assert robot.motors.stiff == (on_silence == "hold")
    run(robot, 1.0)
    assert robot.truth.events.count(f"commands fell silent: {on_silence}") == 1
    height_m = float(robot.body.data.qpos[2])
    assert height_m > 0.24 if on_silence == "hold" else height_m < 0.2
    robot.tick([encode(low_cmd(Command.position(HOME, STAND_KP, STAND_KD), IN_ORDER))])
    assert robot.motors.stiff  # the same command as before the silence is obeyed again


def test_an_unknown_silence_is_told(physics: RobotPhysics) -> None:
    with pytest.raises(UserError, match="valid: damp, hold, limp"):
        SimulatedRobot(physics, on_silence="freeze")


# Channel and console.


def test_the_channel_drops_delays_reorders_and_corrupts() -> None:
    data = [encode(message(tau=float(number))) for number in range(400)]

    def through(**faults: float) -> list[tuple[int, bytes]]:
        channel = Channel(0.004, seed=1)
        for name, value in faults.items():
            setattr(channel.faults, name, value)
        arrived = []
        for tick in range(450):
            if tick < len(data):
                channel.put(data[tick], tick * TICK_S)
            arrived += [(tick, out) for out in channel.take(tick * TICK_S + 1e-9)]
        return arrived

    assert through() == [(tick + 2, one) for tick, one in enumerate(data)]
    assert through(delay_s=0.04) == [(tick + 22, one) for tick, one in enumerate(data)]
    assert len(through(drop=0.3)) == pytest.approx(280, abs=40)
    late = [out for _, out in through(reorder=0.2)]
    assert late != data and sorted(late) == sorted(data)
    bad = 0
    for _, out in through(corrupt=0.5):
        try:
            decode(out, LOW_CMD)
        except WireError:
            bad += 1
    assert bad == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("presss L2", "did you mean 'press'"),
        ("press L9", "unknown button 'L9'"),
        ("push 1", "write: push FORWARD LEFT"),
        ("battery 120", "valid is 0 to 100"),
        ("drop nan", "valid is 0 to 1"),
        ("drop 0.3 sideways", "valid: both, commands, states"),
        ("fail eyes nan", "unknown sensor"),
        ("temperature 90 FX_calf", "unknown joint"),
        ("", "empty line"),
    ],
)
def test_bad_lines_are_told(robot: SimulatedRobot, line: str, said: str) -> None:
    assert said in json.loads(do(robot, line))["error"]
    assert robot.truth.events == []


def test_what_the_console_breaks_shows_in_the_state(robot: SimulatedRobot) -> None:
    run(robot, 1.0)
    do(robot, "fail joint_position nan FL_calf")
    do(robot, "fail gyroscope inf 2")
    state = run(robot, TICK_S)[0]
    assert np.isnan(state["motor_state"]["q"][5]) and np.isfinite(np.delete(state["motor_state"]["q"], 5)).all()
    assert np.isposinf(state["imu_state"]["gyroscope"][2])
    do(robot, "clear")
    assert np.isfinite(run(robot, TICK_S)[0]["motor_state"]["q"]).all()
    do(robot, "freeze")
    frozen = run(robot, 0.02)
    assert len({int(one["tick"]) for one in frozen}) == 1 and len(frozen) == 10
    do(robot, "clear")
    do(robot, "jump -500")
    assert int(run(robot, TICK_S)[0]["tick"]) < int(frozen[0]["tick"])
    do(robot, "mute")
    assert run(robot, 0.02) == []
    do(robot, "clear")
    do(robot, "sticks 0.1 0.2 0.3 0.4")
    do(robot, "press L2+B 0.1")
    first, *_, last = run(robot, 0.2)
    assert decode_remote(first["wireless_remote"]).buttons == {"L2", "B"}
    remote = decode_remote(last["wireless_remote"])
    np.testing.assert_allclose(
        [remote.left_x, remote.left_y, remote.right_x, remote.right_y], [0.1, 0.2, 0.3, 0.4], atol=1e-6
    )
    assert not remote.buttons


# The real process, on DDS over loopback.


@dataclass
class Running:
    """A robot process."""

    process: subprocess.Popen[str]
    domain: int
    control: Path
    truth: Path

    def tell(self, line: str) -> dict[str, Any]:
        return tell(self.control, line)

    def end(self) -> dict[str, Any]:
        """Ask it to end; its last line."""
        self.process.send_signal(signal.SIGTERM)
        output, _ = self.process.communicate(timeout=20)
        record: dict[str, Any] = json.loads(output.splitlines()[-1])
        return record


@contextlib.contextmanager
def running(folder: Path, *arguments: str) -> Iterator[Running]:
    domain = random.SystemRandom().randint(1, 230)
    control, truth = folder / "control", folder / "truth.jsonl"
    root = Path(__file__).parents[2]
    command = [sys.executable, str(root / "gantry.py"), "robot", "go2", "--domain", str(domain)]
    process = subprocess.Popen(
        [*command, "--control", str(control), "--truth", str(truth), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    )
    try:
        assert process.stdout is not None
        assert "rt/lowstate on lo" in process.stdout.readline()
        yield Running(process, domain, control, truth)
    finally:
        process.kill()
        process.wait()


class Listener:
    """A subscriber of its own on the robot's state."""

    def __init__(self, domain: int) -> None:
        self.participant = make_participant("lo", domain)
        self._reader = EncodedReader(self.participant, LOW_STATE_TOPIC, LowState_, depth=4000)
        self.wait_for(lambda state: True)

    def listen(self, duration_s: float) -> list[bytes]:
        """What arrives in so long."""
        self._reader.take()
        time.sleep(duration_s)
        return self._reader.take()

    def wait_for(self, condition: Callable[[Message], bool], timeout_s: float = 10.0) -> Message:
        """The first state for which the condition holds."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self._reader.wait(0.05)
            for data in self._reader.take():
                with contextlib.suppress(WireError):
                    state = decode(data, LOW_STATE)
                    if condition(state):
                        return state
        raise AssertionError("not seen on the wire in time")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One robot for the tests that leave it as they found it."""
    with running(tmp_path_factory.mktemp("robot")) as robot:
        yield robot


@pytest.fixture(scope="module")
def listener(shared: Running) -> Listener:
    return Listener(shared.domain)


def test_it_publishes_500_states_a_second_with_checksums_and_rising_ticks(listener: Listener) -> None:
    rates = []
    for _ in range(8):  # the machine may be busy: one undisturbed window is enough
        messages = listener.listen(0.5)
        states = [decode(data, LOW_STATE) for data in messages]  # raises for a wrong checksum
        ticks = np.array([int(state["tick"]) for state in states])
        assert (np.diff(ticks) == 2).all()
        rates.append(len(states) / 0.5)
        if abs(rates[-1] - 500.0) < 15.0:
            return
    raise AssertionError(f"states a second: {rates}")


def test_what_the_console_changes_is_on_the_wire(shared: Running, listener: Listener) -> None:
    shared.tell("battery 12")
    state = listener.wait_for(lambda state: int(state["bms_state"]["soc"]) == 12)
    assert 25.0 < float(state["power_v"]) < 30.0
    shared.tell("temperature 90 RL_calf")
    state = listener.wait_for(lambda state: int(state["motor_state"]["temperature"][11]) == 90)
    assert (state["motor_state"]["temperature"][:11] < 40).all()
    shared.tell("press L2+B")
    listener.wait_for(lambda state: decode_remote(state["wireless_remote"]).buttons == {"L2", "B"})
    listener.wait_for(lambda state: not decode_remote(state["wireless_remote"]).buttons)
    shared.tell("fail quaternion nan")
    listener.wait_for(lambda state: bool(np.isnan(state["imu_state"]["quaternion"]).all()))
    shared.tell("clear")
    listener.wait_for(lambda state: bool(np.isfinite(state["imu_state"]["quaternion"]).all()))
    with pytest.raises(UserError, match="unknown line"):
        shared.tell("dance")


def test_faults_of_the_network_are_on_the_wire(shared: Running, listener: Listener) -> None:
    def ticks() -> np.ndarray:
        found = []
        for data in listener.listen(0.5):
            with contextlib.suppress(WireError):
                found.append(int(decode(data, LOW_STATE)["tick"]))
        return np.array(found)

    shared.tell("drop 0.3 states")
    steps = np.diff(ticks())
    assert 0.15 < (steps > 2).mean() < 0.45
    shared.tell("clear")
    shared.tell("reorder 0.2 states")
    assert (np.diff(ticks()) < 0).any()
    shared.tell("clear")
    shared.tell("corrupt 0.5 states")
    data = listener.listen(0.5)
    damaged = 0
    for one in data:
        try:
            decode(one, LOW_STATE)
        except WireError:
            damaged += 1
    assert 0.3 < damaged / len(data) < 0.7
    shared.tell("clear")
    shared.tell("freeze")
    assert len(set(ticks())) == 1
    shared.tell("clear")


LIMITS = SafetyLimits(
    joint_names=tuple(f"{name}_joint" for name in MOTOR_ORDER),
    position_lower_rad=(-1.04, -1.5, -2.72) * 4,
    position_upper_rad=(1.04, 3.4, -0.84) * 4,
    velocity_rad_s=(30.0, 30.0, 20.0) * 4,
    torque_nm=(23.7, 23.7, 35.0) * 4,
    target_rate_rad_s=(10.0,) * 12,
    kp_max=(80.0,) * 12,
    kd_max=(5.0,) * 12,
    control_dt_s=0.02,
)


def test_it_is_taken_over_and_stands_up_over_the_wire(tmp_path: Path) -> None:
    with running(tmp_path, "--physics", "randomized", "--seed", "7") as robot:
        participant = make_participant("lo", robot.domain)
        writer = EncodedWriter(participant, LOW_CMD_TOPIC, LowCmd_)
        switcher = MotionSwitcher(participant)
        assert switcher.active_service() == "normal"
        for _ in range(20):
            writer.write(encode(low_cmd(Command.position(HOME, STAND_KP, STAND_KD), IN_ORDER)))
            time.sleep(0.02)
        state = robot.tell("state")
        assert state["counters"]["while_service"] > 0 and "obeyed" not in state["counters"]
        assert state["position_w"][2] < 0.15 and state["service_active"]
        assert switcher.release() == ["normal"]
        damaged = bytearray(encode(low_cmd(Command.position(HOME, STAND_KP, STAND_KD), IN_ORDER)))
        damaged[200] ^= 1
        writer.write(bytes(damaged))
        time.sleep(0.3)
        state = robot.tell("state")
        assert state["counters"]["damaged"] == 1 and not state["stiff"] and not state["service_active"]
        del writer

        link = UnitreeLink(LIMITS, interface="lo", domain=robot.domain, use_guard=False)
        link.open()
        try:
            reading = link.read(1.0)
            assert reading is not None
            start = reading.joint_position
            begin_s = time.monotonic()
            while (elapsed_s := time.monotonic() - begin_s) < 3.0:
                share = min(1.0, elapsed_s / 2.0)
                link.send(Command.position(start + (HOME - start) * share, STAND_KP, STAND_KD))
                reading = link.read(0.02) or reading
                time.sleep(0.02)
            state = robot.tell("state")
            assert state["standing"] and state["position_w"][2] > 0.22 and state["falls"] == 0
            assert_close_to_truth(reading, state)
        finally:
            link.close()
        record = robot.end()
        assert record["obeyed"] > 50 and record["damaged"] == 1 and not record["diverged"]
        assert robot.process.returncode == 0 and not robot.control.exists()
        lines = [json.loads(line) for line in robot.truth.read_text().splitlines()]
        assert lines[0]["seed"] == 7 and lines[-1]["kind"] == "end"
        assert "stood" in lines[-1]["events"]


def assert_close_to_truth(reading: Reading, state: dict[str, Any]) -> None:
    """The robot stands still: what was read through the link is how it truly is, by the link's own order."""
    # noise 0.02, zero error 0.03 rad
    np.testing.assert_allclose(reading.joint_position, state["joint_position"], atol=0.08)
    assert reading.gravity[2] < -0.95 and reading.battery_soc == pytest.approx(state["battery_soc"], abs=1.0)


@pytest.mark.slow
def test_it_films_itself(tmp_path: Path) -> None:
    from envs import gl

    try:
        gl.back_end()
    except UserError as error:
        pytest.skip(str(error))
    video = tmp_path / "robot.mp4"
    with running(tmp_path, "--seconds", "1", "--video", str(video)) as robot:
        assert robot.process.wait(timeout=120) == 0
    import imageio.v3 as imageio

    frames = imageio.imread(video)
    assert frames.shape == (25, 480, 640, 3) and frames.std() > 10.0
