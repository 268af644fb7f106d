"""The judge on the wire can say no: commands just inside and just outside the limits, published as they are."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from sim2real.bundle import Bundle
from sim2real.contract import Contract
from sim2real.links.link import Command
from sim2real.links.unitree_commands import low_cmd, motor_indices
from sim2real.links.unitree_dds import LOW_CMD_TOPIC, LOW_STATE_TOPIC, EncodedWriter
from sim2real.links.unitree_types import LowCmd_, LowState_
from sim2real.links.unitree_wire import LOW_STATE, encode
from tests.sim2real.processes import BUNDLE
from tests.sim2real.wire_watch import WireWatch


@pytest.fixture(scope="module")
def contract() -> Contract:
    return Bundle.load(BUNDLE, verify=False).contract


class Wire:
    """A writer of commands, and of one state before, with a judge."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.watch = WireWatch(contract, random.SystemRandom().randint(1, 100))
        self._motors = motor_indices(contract.joint_names)
        self._commands = EncodedWriter(self.watch.participant, LOW_CMD_TOPIC, LowCmd_)
        states = EncodedWriter(self.watch.participant, LOW_STATE_TOPIC, LowState_)
        state = np.zeros((), LOW_STATE)
        state["motor_state"]["q"][self._motors] = contract.home_joint_position
        deadline_s = time.monotonic() + 5.0
        while not self.watch.states and time.monotonic() < deadline_s:
            states.write(encode(state))
            time.sleep(0.02)
        self._states, self._state = states, encode(state)

    def send(self, *commands: Command, damage: bool = False) -> None:
        self._states.write(self._state)
        for command in commands:
            data = bytearray(encode(low_cmd(command, self._motors)))
            data[100] ^= damage
            self._commands.write(bytes(data))
        deadline_s = time.monotonic() + 5.0
        while len(self.watch.commands) + self.watch.damaged < len(commands) and time.monotonic() < deadline_s:
            time.sleep(0.01)
        self.watch.close()


@pytest.fixture
def wire(contract: Contract) -> Iterator[Wire]:
    wire = Wire(contract)
    yield wire
    wire.watch.close()


def hold(contract: Contract) -> Command:
    return Command.position(np.array(contract.home_joint_position), 20.0, 0.5)


def changed(command: Command, part: str, value: float) -> Command:
    array = getattr(command, part).copy()
    array[4] = value
    return replace(command, **{part: array})


def test_commands_inside_pass_and_states_are_read(wire: Wire, contract: Contract) -> None:
    damping = Command.damping(np.array(contract.home_joint_position), contract.safety.damping_kd)
    wire.send(hold(contract), hold(contract), damping)
    assert wire.watch.check() == 3 and wire.watch.damping() and wire.watch.states
    assert wire.watch.damped_since() == wire.watch.commands[-1].time_s
    assert abs(wire.watch.commands[-1].time_s - time.monotonic()) < 5.0


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("joint_target", 9.0, "position"),
        ("joint_target", float("nan"), "finite"),
        ("joint_velocity_target", 40.0, "velocity"),
        ("kp", 90.0, "kp"),
        ("kp", -1.0, "kp"),
        ("kd", 5.0, "kd"),  # allowed for damping only
        ("joint_torque", 30.0, "torque"),
        ("joint_target", 2.3, "torque"),  # 20 N·m/rad over 1.4 rad
    ],
)
def test_a_command_outside_is_named(wire: Wire, contract: Contract, part: str, value: float, said: str) -> None:
    wire.send(changed(hold(contract), part, value))
    with pytest.raises(AssertionError, match=said):
        wire.watch.check()


def test_a_step_beyond_the_rate_is_named(wire: Wire, contract: Contract) -> None:
    soft = Command.position(np.array(contract.home_joint_position), 1.0, 0.5)
    name = contract.joint_names[4]
    wire.send(soft, changed(soft, "joint_target", float(contract.home_joint_position[4]) - 2.3))
    with pytest.raises(AssertionError, match=f"rate: \\['{name}'\\]"):
        wire.watch.check()


def test_a_damaged_command_is_counted(wire: Wire, contract: Contract) -> None:
    wire.send(hold(contract), damage=True)
    with pytest.raises(AssertionError, match="1 damaged"):
        wire.watch.check()
