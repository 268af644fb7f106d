"""The supervisor: each doubt by name, each limit by number, and no bad command whatever comes in."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sim2real.limits import command_violation, limit_command
from sim2real.links.link import Command, Reading, Remote
from sim2real.safety import ClearRefused, Decision, SafetyLimits, Supervisor

DT_S = 0.02
LIMITS = SafetyLimits(
    joint_names=("hip", "thigh", "calf"),
    position_lower_rad=(-1.0, -1.5, -2.7),
    position_upper_rad=(1.0, 3.4, -0.8),
    velocity_rad_s=(30.0, 30.0, 20.0),
    torque_nm=(23.7, 23.7, 45.0),
    target_rate_rad_s=(10.0, 12.0, 15.0),
    kp_max=(40.0, 40.0, 60.0),
    kd_max=(2.0, 2.0, 3.0),
    control_dt_s=DT_S,
)
HOME = np.array([0.0, 0.9, -1.8])


def make_reading(k: int, **changes: object) -> Reading:
    """Healthy reading number `k`, at rest in the home pose, with some fields changed."""
    healthy = Reading(
        stamp_s=100.0 + k * DT_S,
        tick=1000 + 20 * k,
        joint_position=HOME.copy(),
        joint_velocity=np.zeros(3),
        joint_torque=np.zeros(3),
        quaternion=np.array([1.0, 0.0, 0.0, 0.0]),
        angular_velocity=np.zeros(3),
        gravity=np.array([0.0, 0.0, -1.0]),
        acceleration=np.array([0.0, 0.0, 9.81]),
        motor_temperature=np.full(3, 30.0),
        battery_soc=80.0,
        remote=Remote(),
    )
    return dataclasses.replace(healthy, **changes)  # type: ignore[arg-type]


HOLD = Command.position(HOME, 30.0, 1.0)


def healthy_supervisor(limits: SafetyLimits = LIMITS) -> Supervisor:
    supervisor = Supervisor(limits)
    assert supervisor.check(make_reading(0), HOLD, 100.0).state == "pass"
    return supervisor


def codes(decision: Decision) -> list[str]:
    return [reason.split(":")[0] for reason in decision.reasons]


def test_a_healthy_command_passes_unchanged() -> None:
    decision = healthy_supervisor().check(make_reading(1), HOLD, 100.02)
    assert decision.state == "pass" and decision.reasons == ()
    for name, value in vars(decision.command).items():
        np.testing.assert_array_equal(value, getattr(HOLD, name))
        assert value is not getattr(HOLD, name)


def tilted(angle_rad: float) -> np.ndarray:
    return np.array([math.cos(angle_rad / 2), math.sin(angle_rad / 2), 0.0, 0.0])


BAD_READINGS = {
    "nan position": ({"joint_position": np.array([0.0, np.nan, -1.8])}, "reading"),
    "infinite gyroscope": ({"angular_velocity": np.array([0.0, np.inf, 0.0])}, "reading"),
    "nan acceleration": ({"acceleration": np.full(3, np.nan)}, "reading"),
    "wrong shape": ({"joint_velocity": np.zeros(4)}, "reading"),
    "zero quaternion": ({"quaternion": np.zeros(4)}, "reading"),
    "position beyond its stop": ({"joint_position": np.array([1.4, 0.9, -1.8])}, "reading"),
    "tilt by orientation": ({"quaternion": tilted(1.0)}, "tilt"),
    "tilt by gravity": ({"gravity": np.array([math.sin(1.0), 0.0, -math.cos(1.0)])}, "tilt"),
    "upside down": ({"quaternion": tilted(math.pi)}, "tilt"),
    "far too fast": ({"joint_velocity": np.array([61.0, 0.0, 0.0])}, "overspeed"),
    "hot motor": ({"motor_temperature": np.array([30.0, 90.0, 30.0])}, "temperature"),
    "low battery": ({"battery_soc": 5.0}, "battery"),
    "unknown battery": ({"battery_soc": math.nan}, "reading"),
    "stop on the remote": ({"remote": Remote(buttons=frozenset({"L2", "B", "A"}))}, "stop"),
    "counter runs backward": ({"tick": 990}, "order"),
    "older than the last": ({"stamp_s": 99.5}, "order"),
    "from the future": ({"stamp_s": 101.0}, "clock"),
    "stamp is not a number": ({"stamp_s": math.nan}, "clock"),
}


@pytest.mark.parametrize("changes, code", BAD_READINGS.values(), ids=list(BAD_READINGS))
def test_a_bad_reading_latches_damping_until_a_person_clears(changes: dict[str, object], code: str) -> None:
    supervisor = healthy_supervisor()
    decision = supervisor.check(make_reading(1, **changes), HOLD, 100.02)
    assert decision.state == "damping" and codes(decision)[0] == code
    np.testing.assert_array_equal(decision.command.kp, 0.0)
    np.testing.assert_array_equal(decision.command.kd, LIMITS.damping_kd)
    np.testing.assert_array_equal(decision.command.joint_torque, 0.0)
    with pytest.raises(ClearRefused, match=code):
        supervisor.clear("Ada")
    # Healthy again: still damped, with the first reason, until cleared by name.  Nothing need be proposed.
    for k, proposed in ((2, HOLD), (3, None)):
        decision = supervisor.check(make_reading(k), proposed, 100.0 + k * DT_S)
        assert decision.state == "damping" and codes(decision)[0] == code
    with pytest.raises(ValueError, match="name"):
        supervisor.clear("  ")
    supervisor.clear("Ada")
    assert supervisor.check(make_reading(4), HOLD, 100.08).state == "pass"


def test_a_doubt_about_the_last_reading_holds_while_no_newer_one_arrives() -> None:
    supervisor = healthy_supervisor()
    supervisor.check(make_reading(1, quaternion=tilted(1.0)), HOLD, 100.02)
    supervisor.check(None, HOLD, 100.04)
    with pytest.raises(ClearRefused, match="tilt"):
        supervisor.clear("Ada")


def test_tilt_just_inside_the_limit_passes() -> None:
    assert healthy_supervisor().check(make_reading(1, quaternion=tilted(0.89)), HOLD, 100.02).state == "pass"


def test_two_fast_readings_are_forgiven_and_the_third_is_not() -> None:
    supervisor = healthy_supervisor()
    fast = {"joint_velocity": np.array([31.0, 0.0, 0.0])}
    states = [supervisor.check(make_reading(k, **fast), HOLD, 100.0 + k * DT_S).state for k in (1, 2, 3)]
    assert "damping" not in states[:2] and states[2] == "damping"


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen counter", "no message"])
def test_data_is_stale_after_the_limit_and_not_before(frozen: bool) -> None:
    supervisor = healthy_supervisor()
    for k in range(1, 6):
        reading = make_reading(k, tick=1000) if frozen else None
        assert supervisor.check(reading, HOLD, 100.0 + k * DT_S - 1e-6).state == "pass"
    reading = make_reading(6, tick=1000) if frozen else None
    decision = supervisor.check(reading, HOLD, 100.12)
    assert decision.state == "damping" and codes(decision) == ["stale"]


def test_the_counter_may_wrap_around() -> None:
    supervisor = Supervisor(LIMITS)
    assert supervisor.check(make_reading(0, tick=2**32 - 5), HOLD, 100.0).state == "pass"
    assert supervisor.check(make_reading(1, tick=15), HOLD, 100.02).state == "pass"


def test_a_robot_that_restarted_can_be_cleared() -> None:
    supervisor = healthy_supervisor()
    assert codes(supervisor.check(make_reading(1, tick=3), HOLD, 100.02)) == ["order"]
    supervisor.check(make_reading(2, tick=23), HOLD, 100.04)
    supervisor.clear("Ada")
    assert supervisor.check(make_reading(3, tick=43), HOLD, 100.06).state == "pass"


def test_nothing_moves_before_the_first_reading() -> None:
    decision = Supervisor(LIMITS).check(None, HOLD, 100.0)
    assert decision.state == "damping" and codes(decision) == ["no_data"]
    with pytest.raises(ClearRefused, match="no_data"):
        Supervisor(LIMITS).clear("Ada")


def test_deadlines() -> None:
    supervisor = healthy_supervisor()

    def tick(k: int, missed: bool) -> str:
        return supervisor.check(make_reading(k), HOLD, 100.0 + k * DT_S, deadline_missed=missed).state

    # Two in a row are forgiven, a met one starts the count anew, the third in a row is not.
    assert [tick(k + 1, m) for k, m in enumerate([True, True, False, True, True])] == ["pass"] * 5
    assert tick(6, True) == "damping"
    assert supervisor.latched[0].startswith("deadline: 3 missed in a row")


@pytest.mark.parametrize(
    "now_s, code", [(99.0, "clock"), (math.nan, "clock"), (100.5, "deadline"), (-math.inf, "clock")]
)
def test_a_jumping_clock_damps(now_s: float, code: str) -> None:
    supervisor = healthy_supervisor()
    stamp_s = now_s if math.isfinite(now_s) else 100.02
    decision = supervisor.check(make_reading(1, stamp_s=stamp_s), HOLD, now_s)
    assert decision.state == "damping" and codes(decision)[0] == code


def test_doubts_from_outside_and_the_emergency_stop() -> None:
    supervisor = healthy_supervisor()
    decision = supervisor.check(make_reading(1), HOLD, 100.02, foreign_publishers=["writer 7"], link_doubts=["guard"])
    assert codes(decision) == ["publisher", "link"] and "writer 7" in decision.reasons[0]
    supervisor.check(make_reading(2), HOLD, 100.04)
    supervisor.clear("Ada")
    supervisor.stop("keyboard")
    with pytest.raises(ClearRefused, match="stop"):
        supervisor.clear("Ada")
    decision = supervisor.check(make_reading(3), HOLD, 100.06)
    assert codes(decision) == ["stop"] and "keyboard" in decision.reasons[0]


@pytest.mark.parametrize(
    "proposed",
    [
        None,
        "walk",
        dataclasses.replace(HOLD, joint_target=np.array([0.0, np.nan, -1.8])),
        dataclasses.replace(HOLD, kp=np.array([np.inf, 0.0, 0.0])),
        dataclasses.replace(HOLD, joint_target=np.zeros((1, 3))),
        dataclasses.replace(HOLD, kd=np.array(["a", "b", "c"])),
    ],
)
def test_a_bad_proposal_damps(proposed: Command) -> None:
    decision = healthy_supervisor().check(make_reading(1), proposed, 100.02)
    assert decision.state == "damping" and codes(decision) == ["policy"]


def test_an_error_inside_damps() -> None:
    supervisor = healthy_supervisor()
    decision = supervisor.check(make_reading(1, tick=None), HOLD, 100.02)
    assert decision.state == "damping" and codes(decision) == ["internal"]
    np.testing.assert_array_equal(decision.command.joint_target, HOME)


def test_rate_limit_counts_from_what_was_sent() -> None:
    supervisor = healthy_supervisor()
    far = Command.position(np.array([0.9, 0.9, -1.8]), 10.0, 0.5)
    sent = [supervisor.check(make_reading(k), far, 100.0 + k * DT_S) for k in (1, 2, 3)]
    assert [d.state for d in sent] == ["limited"] * 3 and sent[0].reasons == ("rate: limited for hip",)
    np.testing.assert_allclose([d.command.joint_target[0] for d in sent], [0.2, 0.4, 0.6])


def test_after_a_clear_the_target_starts_where_the_joint_is() -> None:
    supervisor = healthy_supervisor()
    supervisor.stop("keyboard")
    sagged = {"joint_position": np.array([0.5, 1.4, -2.4])}
    for k in (1, 2):
        supervisor.check(make_reading(k, **sagged), HOLD, 100.0 + k * DT_S)
    supervisor.clear("Ada")
    decision = supervisor.check(make_reading(3, **sagged), HOLD, 100.06)
    np.testing.assert_allclose(decision.command.joint_target, [0.3, 1.16, -2.1])


def test_torque_limit_moves_the_target_first_and_then_takes_gain() -> None:
    position, still = HOME, np.zeros(3)
    stiff = Command.position(HOME + np.array([0.9, 0.0, 0.0]), 40.0, 0.0)
    limited, reasons = limit_command(LIMITS, stiff, position, still, HOME, 1.0)
    assert limited.joint_target[0] == pytest.approx(23.7 / 40.0) and limited.kp[0] == 40.0
    assert reasons == ("torque: limited for hip",)
    # No time to move the target: the gain must go down instead, 0.9 rad at kp gives 23.7 N·m.
    limited, _ = limit_command(LIMITS, stiff, position, still, HOME + np.array([0.9, 0.0, 0.0]), 0.0)
    assert limited.joint_target[0] == 0.9 and limited.kp[0] == pytest.approx(23.7 / 0.9)


def test_damping_keeps_its_gain_at_any_speed_and_a_soft_target_follows_the_joint() -> None:
    damping = Command.damping(np.zeros(3), 5.0)
    limited, reasons = limit_command(LIMITS, damping, HOME, np.full(3, 25.0), np.zeros(3), DT_S)
    np.testing.assert_array_equal(limited.kd, 5.0)
    np.testing.assert_array_equal(limited.joint_target, HOME)
    assert reasons == ()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"kp_max": (1.0,)}, "kp_max has 1 numbers"),
        ({"position_lower_rad": (2.0, -1.5, -2.7)}, r"not for \['hip'\]"),
        ({"torque_nm": (math.nan, 1.0, 1.0)}, "torque_nm .* finite"),
        ({"joint_names": ("hip", "hip", "calf")}, "every joint once"),
        ({"stale_s": 0.0}, "stale_s = 0.0"),
        ({"damping_kg": 5.0}, "unknown safety limits .*damping_kg"),
        ({"deadline_misses": "two"}, "ill-typed"),
    ],
)
def test_bad_limits_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SafetyLimits.from_dict(LIMITS.to_dict() | change)


def test_limits_survive_json() -> None:
    import json

    assert SafetyLimits.from_dict(json.loads(json.dumps(LIMITS.to_dict()))) == LIMITS


@pytest.mark.parametrize(
    "change, message",
    [
        ({"joint_target": np.array([1.2, 0.9, -1.8])}, "joint_target of hip is 1.2"),
        ({"kp": np.array([30.0, 41.0, 30.0])}, "kp of thigh is 41"),
        ({"kp": np.array([30.0, -1.0, 30.0])}, "kp of thigh is -1"),
        ({"kd": np.array([1.0, 1.0, 5.0])}, "kd of calf is 5"),
        ({"joint_torque": np.array([0.0, 0.0, math.nan])}, "joint_torque of calf is nan"),
        ({"joint_velocity_target": np.array([0.0, 0.0, 21.0])}, "joint_velocity_target of calf"),
        ({"joint_target": HOME + np.array([0.3, 0.0, 0.0])}, "step of joint_target of hip is 0.3"),
    ],
)
def test_the_guards_check_names_what_is_outside(change: dict[str, object], message: str) -> None:
    assert command_violation(LIMITS, HOLD, HOME) is None
    assert command_violation(LIMITS, Command.damping(HOME, 5.0), HOME) is None
    bad = dataclasses.replace(HOLD, **change)  # type: ignore[arg-type]
    violation = command_violation(LIMITS, bad, HOME)
    assert violation is not None and violation.startswith(message)


# Property tests: whatever comes in.

ANY_FLOAT = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, width=64),
    st.sampled_from([0.0, -0.0, 1e-320, 1e308, -1e308, math.inf, -math.inf, math.nan]),
    st.floats(-3.0, 3.0),
)
SANE_FLOAT = st.floats(-3.5, 3.5)


def vector(size: int, elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float64, size, elements=elements)


@st.composite
def readings(draw: st.DrawFn, k: int) -> Reading | None:
    """Mostly healthy, sometimes missing, frozen, shuffled, of a wrong shape, or with anything in it."""
    kind = draw(st.sampled_from(["healthy"] * 6 + ["moving"] * 3 + ["none", "frozen", "shuffled", "wild", "shape"]))
    moving = {
        "joint_position": np.clip(
            HOME + draw(vector(3, st.floats(-1.0, 1.0))), LIMITS.position_lower_rad, LIMITS.position_upper_rad
        ),
        "joint_velocity": draw(vector(3, st.floats(-19.0, 19.0))),
    }
    if kind == "none":
        return None
    if kind == "frozen":
        return make_reading(k, tick=1000)
    if kind == "shuffled":
        return make_reading(draw(st.integers(0, 12)), **moving)
    if kind == "shape":
        return make_reading(k, joint_position=np.zeros(draw(st.integers(0, 5))))
    if kind == "wild":
        size = {"joint_position": 3, "joint_velocity": 3, "joint_torque": 3, "quaternion": 4, "gravity": 3}
        name = draw(st.sampled_from(sorted(size)))
        wild = {name: draw(vector(size[name], ANY_FLOAT))}
        return make_reading(k, stamp_s=draw(st.one_of(ANY_FLOAT, st.just(100.0 + k * DT_S))), **wild)
    return make_reading(k, **(moving if kind == "moving" else {}))


@st.composite
def proposals(draw: st.DrawFn) -> Command | None:
    kind = draw(st.sampled_from(["sane"] * 6 + ["wild", "none", "shape"]))
    if kind == "none":
        return None
    size = draw(st.integers(0, 5)) if kind == "shape" else 3
    elements = ANY_FLOAT if kind == "wild" else SANE_FLOAT
    gain = ANY_FLOAT if kind == "wild" else st.floats(0.0, 80.0)
    with np.errstate(over="ignore"):
        return Command(
            draw(vector(size, elements)),
            draw(vector(size, elements)) * 10.0,
            draw(vector(size, gain)),
            draw(vector(size, gain)) / 20.0,
            draw(vector(size, elements)) * 10.0,
        )


def assert_within_limits(command: Command, reading: Reading, previous: Command | None, elapsed_s: float) -> None:
    """Every limit by its own formula, written out a second time and independently of `limits.py`."""
    for name, part in vars(command).items():
        assert part.shape == (3,) and np.isfinite(part).all(), name
    assert (command.joint_target >= LIMITS.position_lower_rad).all()
    assert (command.joint_target <= LIMITS.position_upper_rad).all()
    assert (np.abs(command.joint_velocity_target) <= LIMITS.velocity_rad_s).all()
    assert (np.abs(command.joint_torque) <= LIMITS.torque_nm).all()
    assert (command.kp >= 0).all() and (command.kp <= LIMITS.kp_max).all() and (command.kd >= 0).all()
    for j in range(3):
        pure_damping = command.kp[j] == command.joint_velocity_target[j] == command.joint_torque[j] == 0.0
        if pure_damping:
            assert command.kd[j] <= max(LIMITS.kd_max[j], LIMITS.damping_kd)
            continue
        assert command.kd[j] <= (LIMITS.damping_kd if command.kp[j] == 0 else LIMITS.kd_max[j])
        torque = (
            command.kp[j] * (command.joint_target[j] - reading.joint_position[j])
            + command.kd[j] * (command.joint_velocity_target[j] - reading.joint_velocity[j])
            + command.joint_torque[j]
        )
        assert abs(torque) <= LIMITS.torque_nm[j] * (1 + 1e-9)
        if command.kp[j] > 0 and previous is not None:
            step = abs(command.joint_target[j] - previous.joint_target[j])
            assert step <= LIMITS.target_rate_rad_s[j] * min(elapsed_s, DT_S) + 1e-12


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_comes_in_no_command_outside_the_limits_leaves(data: st.DataObject) -> None:
    supervisor = Supervisor(LIMITS)
    previous: Command | None = None
    used: Reading | None = None  # the reading that the supervisor may act on
    damped_since_clear = False
    before_s = 100.0 - DT_S
    for k in range(10):
        now_s = 100.0 + k * DT_S + data.draw(st.sampled_from([0.0, 0.001, 0.015]))
        if data.draw(st.integers(0, 19)) == 19:
            now_s = data.draw(ANY_FLOAT)
        reading = data.draw(readings(k))
        if data.draw(st.integers(0, 9)) == 9:
            supervisor.stop("hypothesis")
        proposed = data.draw(proposals())
        decision = supervisor.check(reading, proposed, now_s, deadline_missed=data.draw(st.booleans()))
        if decision.state == "damping":
            damped_since_clear = True
            assert decision.reasons
            command = decision.command
            for part in vars(command).values():
                assert part.shape == (3,) and np.isfinite(part).all()
            assert not (command.kp.any() or command.joint_velocity_target.any() or command.joint_torque.any())
            np.testing.assert_array_equal(command.kd, LIMITS.damping_kd)
            assert (command.joint_target >= LIMITS.position_lower_rad).all()
            assert (command.joint_target <= LIMITS.position_upper_rad).all()
        else:
            assert not damped_since_clear, "damping must stay until cleared"
            # A reading whose stamp and tick repeat counts as the old one; all others are the newest.
            if reading is not None and (used is None or (reading.tick, reading.stamp_s) != (used.tick, used.stamp_s)):
                used = reading
            assert used is not None
            assert_within_limits(decision.command, used, previous, now_s - before_s)
        previous, before_s = decision.command, now_s
        if damped_since_clear:
            # The supervisor does not take one that is stamped in the future.
            taken = reading is not None and math.isfinite(reading.stamp_s) and reading.stamp_s <= now_s + 1e-3
            if reading is not None and taken and reading.joint_position.shape == (3,):
                used = reading
            try:
                supervisor.clear("hypothesis")
                damped_since_clear = False
            except ClearRefused:
                pass


@settings(max_examples=300, deadline=None)
@given(
    proposals(),
    vector(3, st.floats(-4.0, 4.0)),
    vector(3, st.floats(-60.0, 60.0)),
    vector(3, st.floats(-4.0, 4.0)),
    st.floats(0.0, DT_S),
)
def test_limiting_any_finite_command_leaves_it_inside(
    proposed: Command | None,
    position: np.ndarray,
    velocity: np.ndarray,
    previous: np.ndarray,
    elapsed_s: float,
) -> None:
    if proposed is None or any(p.shape != (3,) or not np.isfinite(p).all() for p in vars(proposed).values()):
        return
    previous = np.clip(previous, LIMITS.position_lower_rad, LIMITS.position_upper_rad)
    with np.errstate(all="ignore"):
        limited, _ = limit_command(LIMITS, proposed, position, velocity, previous, elapsed_s)
    reading = make_reading(0, joint_position=position, joint_velocity=velocity)
    assert_within_limits(limited, reading, Command.position(previous, 0.0, 0.0), elapsed_s)
    assert command_violation(LIMITS, limited, previous) is None
