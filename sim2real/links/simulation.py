"""The link to a simulated robot inside this process: the task's own simulation behind the `Link` interface.

For trying a bundle without a robot and without DDS.  In lock step, each command advances the simulation by
one control step and its clock is the runtime's clock, so a minute passes in seconds; in real time it follows
the machine's clock.  A robot that walks starts lying on the ground; others start as their task does.

Only position control is simulated: this link refuses velocity targets and feed-forward torque.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim2real.commands import Pose
from sim2real.contract import Contract
from sim2real.links.link import Command, FloatArray, LinkError, LinkHealth, Reading

if TYPE_CHECKING:
    from envs.environment import Environment

_KP, _KD = 4, 6
"""Where a dcmotor's controller gains stand in MuJoCo's gainprm (engine_forward.c)."""
_SETTLE_S = 0.5
_LYING_HEIGHT_M = 0.12
_CROOKED_RAD = 0.05
_MAX_STEPS_BEHIND = 10


class SimulatedClock:
    """The simulation's own time: waiting takes none, because commands advance it."""

    def __init__(self, dt_s: float) -> None:
        self.steps = 0
        self._dt_s = dt_s

    def now_s(self) -> float:
        return self.steps * self._dt_s

    def wait_until(self, time_s: float) -> None:
        """Return at once; only a command moves time."""


class SimulationLink:
    """One simulation of the contract's robot.  For one thread."""

    def __init__(
        self, contract: Contract, *, physics: str = "randomized", seed: int = 0, real_time: bool = False
    ) -> None:
        """`physics` names one of the physics sets: nominal (no sensor noise), randomized, select or report.

        Raises UserError for an unknown task or set, LinkError if the task's robot is not the contract's.
        """
        from envs.physics import build
        from envs.tasks import get

        task = get(contract.task)
        self.health = LinkHealth()
        self._env: Environment = build(task, physics, 1, seed, num_threads=1)
        robot = self._env.robot
        if robot.name != contract.robot or robot.joint_names != contract.joint_names:
            raise LinkError(f"task {task.name} simulates {robot.name!r}, the bundle drives {contract.robot!r}")
        self._contract = contract
        self.clock: SimulatedClock | None = None if real_time else SimulatedClock(robot.control_dt_s)
        self._random = np.random.default_rng(seed)
        self._stepped = 0
        self._began_s = 0.0
        self._reported = -1
        self._command: Command | None = None
        self._gains = self._env.sim.expand("actuator_gainprm")
        self._damping = self._env.sim.expand("dof_damping")
        self._drawn = self._drawn_damping = np.ones(0)
        self._index = robot.driven_index
        self._dofs = self._env.sim.joint_dofs[self._index]

    @property
    def joint_names(self) -> Sequence[str]:
        """Joint names in policy order."""
        return self._contract.joint_names

    def open(self) -> None:
        """Draw the physics and put the robot where it starts."""
        env, robot = self._env, self._env.robot
        env.reset()
        self._drawn, self._drawn_damping = self._gains[0].copy(), self._damping[0].copy()
        if env.sim.floating:
            # Never exactly symmetric: a mirror-symmetric policy without noise could not put one foot first.
            crooked = self._random.uniform(-_CROOKED_RAD, _CROOKED_RAD, robot.num_joints)
            env.sim.qpos[0, env.sim.joint_qpos] = self._contract.stand_up[0].joint_position + crooked
            env.sim.qpos[0, :7] = (0.0, 0.0, _LYING_HEIGHT_M, 1.0, 0.0, 0.0, 0.0)
            env.sim.qvel[0] = 0.0
            for _ in range(round(_SETTLE_S / robot.control_dt_s)):
                self._apply(Command.limp(self._position()))
                env.sim.step()

    def read(self, timeout_s: float = 0.0) -> Reading | None:
        """What the sensors say after the newest step; None if it was returned before."""
        self._follow_clock()
        if self._reported == self._stepped:
            return None
        self._reported = self._stepped
        sim = self._env.sim
        joints = self._env.robot.num_joints
        quaternion = np.array([1.0, 0.0, 0.0, 0.0])
        spin = np.zeros(3)
        if sim.floating:
            quaternion, spin = sim.qpos[0, 3:7].copy(), sim.qvel[0, 3:6].copy()
        w, x, y, z = quaternion
        # The world's -z axis in the base frame: minus the third row of the rotation matrix of w, x, y, z.
        gravity = np.array([2 * (w * y - x * z), -2 * (y * z + w * x), 2 * (x * x + y * y) - 1])
        exact = np.concatenate([self._position(), sim.qvel[0, sim.joint_dofs], spin, gravity])
        noisy = self._sense(exact)
        torque = np.zeros(joints)
        torque[self._index] = sim.actuator_force[0]
        self.health.received += 1
        felt = noisy[2 * joints + 3 :]
        return Reading(
            stamp_s=self.clock.now_s() if self.clock is not None else time.monotonic(),
            tick=self._stepped,
            joint_position=noisy[:joints],
            joint_velocity=noisy[joints : 2 * joints],
            joint_torque=torque,
            quaternion=quaternion,
            angular_velocity=noisy[2 * joints : 2 * joints + 3],
            # Sensor noise changes the length too; a real robot computes gravity from a unit quaternion.
            gravity=felt / np.linalg.norm(felt),
        )

    def send(self, command: Command) -> None:
        """Apply one command; in lock step also advance by one control step.  Raises LinkError if it moves."""
        if command.joint_velocity_target.any() or command.joint_torque.any():
            raise LinkError("the simulation link takes position targets only")
        if self._command is None:
            self._began_s = time.monotonic()
        self._command = command
        self.health.sent += 1
        if self.clock is not None:
            self._step()
            self.clock.steps += 1

    def foreign_publishers(self) -> tuple[str, ...]:
        """Nobody: the simulation is private."""
        return ()

    def doubts(self) -> tuple[str, ...]:
        """The simulation latches nothing by itself, unless it has diverged."""
        return tuple(self.health.notes)

    def clear(self, by: str) -> None:
        """Raises LinkError after a divergence: that cannot be undone."""
        if self.health.notes:
            raise LinkError(f"{self.health.notes[-1]}; open the link anew")

    def close(self) -> None:
        """Nothing to disconnect."""

    def truth(self) -> Pose | None:
        """Where the base truly is; None for a robot that does not move about."""
        sim = self._env.sim
        if not sim.floating:
            return None
        w, x, y, z = sim.qpos[0, 3:7]
        heading = math.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
        return Pose(sim.qpos[0, :3].copy(), heading)

    def _follow_clock(self) -> None:
        """In real time: catch up with the machine's clock, under the command that was sent last."""
        if self.clock is not None or self._command is None:
            return
        due = round((time.monotonic() - self._began_s) / self._env.dt)
        for _ in range(min(due - self._stepped, _MAX_STEPS_BEHIND)):
            self._step()
        if due > self._stepped:  # a pause: the simulation waited with its robot
            self._began_s += (due - self._stepped) * self._env.dt

    def _step(self) -> None:
        assert self._command is not None
        env = self._env
        self._apply(self._command)
        env.episodes.push()
        env.sim.step()
        env.episodes.step += 1
        self._stepped += 1
        if env.sim.diverged(np.abs(env.sim.qvel).max(1))[0]:
            self.health.notes.append("the simulation diverged")

    def _apply(self, command: Command) -> None:
        """Targets and gains to the motors, with this episode's motor strength and encoder errors."""
        robot, sim = self._env.robot, self._env.sim
        self._gains[0, :, _KP] = self._drawn[:, _KP] * command.kp[self._index] / robot.kp
        # A large kd makes the explicit motor model unstable at the training's step; joint damping is implicit.
        kd = command.kd[self._index]
        motor_kd = np.minimum(kd, robot.kd)
        self._gains[0, :, _KD] = self._drawn[:, _KD] * motor_kd / robot.kd
        self._damping[0, self._dofs] = self._drawn_damping[self._dofs] + kd - motor_kd
        offset = self._env.randomizer.values.get("motor_offset")
        target = command.joint_target[self._index]
        # A joint whose encoder reads q + offset and that is sent to a target stops at target - offset.
        sim.ctrl[0] = target if offset is None else target - offset[0]

    def _position(self) -> FloatArray:
        return self._env.sim.qpos[0, self._env.sim.joint_qpos].copy()

    def _sense(self, exact: FloatArray) -> FloatArray:
        """Noise and biases of the physics set, as in training."""
        import torch

        sensing, episodes = self._env.sensing, self._env.episodes
        row = torch.from_numpy(exact.astype(np.float32))[None]
        return sensing.noisy(row, episodes.episode, episodes.step)[0].numpy().astype(np.float64)
