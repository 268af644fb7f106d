"""How an episode is drawn: physics, start, commands and pushes, all at its beginning, all keyed by counters."""

import numpy as np
import torch
from torch import Tensor

from envs import draws
from envs.ground import Ground
from envs.measurement import Measurement
from envs.pushes import Pushes
from envs.randomizer import Randomizer
from envs.simulation import Simulation
from envs.tasks.task import Task

NUM_STARTS = 1024
"""Start poses are drawn once; each episode takes one of them. Measuring them anew at every reset cost more
than the resets themselves."""


class Starts:
    """The start poses: simulation rows (M, nstate) and their measurements (width, M)."""

    def __init__(self, task: Task, sim: Simulation, ground: Ground, measure: Measurement, seed: int) -> None:
        start, robot, joints = task.start, sim.robot, sim.robot.num_joints
        u = draws.uniform(draws.stream(seed, "starts"), np.arange(NUM_STARTS), size=2 * joints + 12)

        def spread(span: tuple[float, float], first: int, count: int = 1) -> np.ndarray:
            return span[0] + (span[1] - span[0]) * u[:, first : first + count]

        qpos = np.tile(sim.model.qpos0, (NUM_STARTS, 1))
        qvel = np.zeros((NUM_STARTS, sim.model.nv))
        joint = robot.home_joint_position + spread(start.joint_position, 0, joints)
        for name, span in start.joint_override.items():
            column = robot.joint_names.index(name)
            joint[:, column] = spread(span, column)[:, 0]
        qpos[:, sim.joint_qpos] = joint
        qvel[:, sim.joint_dofs] = spread(start.joint_velocity, joints, joints)
        if sim.floating:
            rest = 2 * joints
            xy = ground.spawn(u[:, rest : rest + 2]) if start.spread else np.zeros((NUM_STARTS, 2))
            yaw = spread(start.heading, rest + 2)[:, 0]
            qpos[:, :2] = xy
            qpos[:, 2] = robot.home_base_height_m + spread(start.base_height_m, rest + 3)[:, 0]
            qpos[:, 2] += ground.height(*xy.astype(np.float32).T)
            qpos[:, 3:7] = np.stack([np.cos(yaw / 2), 0 * yaw, 0 * yaw, np.sin(yaw / 2)], 1)
            if sim.ball_qpos is not None:
                qpos[:, sim.ball_qpos : sim.ball_qpos + 2] = xy
                qpos[:, sim.ball_qpos + 2] += ground.height(*xy.astype(np.float32).T)
            qpos[:, :2] += spread(start.base_offset_m, rest + 10, 2)
            qvel[:, :6] = spread(start.base_velocity, rest + 4, 6)
        self.rows = sim.initial_rows(qpos, qvel, np.broadcast_to(robot.home_target, (NUM_STARTS, robot.num_actions)))
        idle = np.zeros((NUM_STARTS, sim.model.nu)), np.zeros((NUM_STARTS, sim.model.nsensordata))
        self.measured = measure(qpos, qvel, *idle)


class Episodes:
    """Begins episodes and says, step by step, what is due in them.

    `episode` (N,) counts each simulation's episodes, `step` (N,) the steps within; `command` (N, C) is the
    one in force.
    """

    def __init__(self, task: Task, sim: Simulation, randomizer: Randomizer, starts: Starts, seed: int) -> None:
        self._task, self._sim, self._randomizer, self._starts = task, sim, randomizer, starts
        n, dt = sim.num_sims, sim.robot.control_dt_s
        self.max_steps = round(task.episode_length_s / dt)
        self.episode = np.full(n, -1, dtype=np.int64)
        self.step = np.zeros(n, dtype=np.int64)
        self.identity = np.arange(n)
        """(N,) what keys a simulation's starts, commands and pushes; equal numbers give equal episodes."""
        self._key, self._seed = draws.stream(seed, "episode"), seed
        self._resample_steps, self._commands = 0, np.zeros((n, 1, 0), dtype=np.float32)
        if task.command is not None:
            self._resample_steps = round(task.command.resample_s / dt)
            segments = -(-self.max_steps // self._resample_steps)
            self._command_low = np.array(task.command.low)
            self._command_span = np.array(task.command.high) - self._command_low
            self._commands = np.zeros((n, segments, len(task.command.low)), dtype=np.float32)
        self.command = torch.zeros(n, self._commands.shape[2])
        self._ball_key = draws.stream(seed, "ball pushes")
        self.pushes = self._pushes("push_velocity", 0)
        """Of the base; None where there are none."""
        self.ball_pushes = self._pushes("ball_push_velocity", sim.ball_dofs)

    def _pushes(self, term: str, dof: int | None) -> Pushes | None:
        ranges = self._randomizer.ranges
        if dof is None or not {term, "push_interval"} <= set(ranges):
            return None
        return Pushes(self._sim, dof, ranges[term], ranges["push_interval"], self.max_steps)

    def redraw_pushes(self, term: str, velocity: tuple[float, float]) -> None:
        """Draws the pushes of episodes that begin from now on from another range [m/s]."""
        pushes = self.pushes if term == "push_velocity" else self.ball_pushes
        if pushes is not None:
            pushes.redraw(velocity)

    def begin(self, ids: np.ndarray) -> Tensor:
        """New episodes for simulations ids (K,). Returns the measurements (width, K) of their starts."""
        self.episode[ids] += 1
        self.step[ids] = 0
        episode = self.episode[ids]
        self._randomizer.reset(ids, episode)
        commands = self._commands[0].size + self._commands.shape[1]
        pushes = self.pushes.draws if self.pushes else 0
        u = draws.uniform(self._key, self.identity[ids], episode, size=1 + commands + pushes)
        start = (u[:, 0] * NUM_STARTS).astype(np.int64)
        offset = self._randomizer.values.get("motor_offset")
        self._sim.reset(ids, self._starts.rows[start], None if offset is None else -offset[ids])
        if self._resample_steps:
            self._draw_commands(ids, u[:, 1 : 1 + commands])
        if self.pushes:
            self.pushes.begin(ids, u[:, 1 + commands :])
        if self.ball_pushes:
            size = self.ball_pushes.draws
            self.ball_pushes.begin(ids, draws.uniform(self._ball_key, self.identity[ids], episode, size=size))
        return self._starts.measured[:, torch.from_numpy(start)]

    def stagger(self) -> None:
        """Takes a random part of the time off every episode that has just begun."""
        u = draws.uniform(draws.stream(self._seed, "stagger"), np.arange(len(self.step)), self.episode)[:, 0]
        self.step[:] = (u * self.max_steps).astype(np.int64)
        for pushes in (self.pushes, self.ball_pushes):
            if pushes:
                pushes.skip(self.step)

    def arrays(self) -> dict[str, np.ndarray]:
        """The live arrays that hold where each episode stands."""
        arrays: dict[str, np.ndarray] = {
            "episode": self.episode,
            "step": self.step,
            "commands": self._commands,
            "command": self.command.numpy(),
        }
        for name, pushes in (("push", self.pushes), ("ball_push", self.ball_pushes)):
            if pushes:
                arrays |= {f"{name}_{part}": value for part, value in pushes.arrays().items()}
        return arrays

    def _draw_commands(self, ids: np.ndarray, u: np.ndarray) -> None:
        """All of the episodes' commands, from uniform draws u (K, segments * (1 + C))."""
        command = self._task.command
        assert command is not None
        u = u.reshape(len(ids), self._commands.shape[1], -1)
        moving = u[:, :, :1] >= command.standing_share
        drawn = self._command_low + self._command_span * u[:, :, 1:]
        self._commands[ids] = (drawn if command.fixed is None else np.array(command.fixed)) * moving
        self.command[torch.from_numpy(ids)] = torch.from_numpy(self._commands[ids, 0])

    def push(self) -> None:
        """Pushes the simulations whose time has come: a sudden change of the base's or the ball's velocity."""
        for pushes in (self.pushes, self.ball_pushes):
            if pushes:
                pushes.push(self.step)

    def release(self, done: Tensor) -> None:
        """Nothing more is asked of the simulations done (N,) bool until their next episode."""
        rows = (done & (self.command != 0).any(1)).nonzero()[:, 0]
        if len(rows):
            self._commands[rows.numpy()] = 0.0
            self.command = self.command.clone()  # the last step's state keeps the command it was judged by
            self.command[rows] = 0.0

    def advance(self) -> None:
        """Counts a step; commands that are due take effect."""
        self.step += 1
        if self._resample_steps:
            due = np.flatnonzero(self.step % self._resample_steps == 0)
            due = due[self.step[due] < self.max_steps]
            if len(due):
                self.command = self.command.clone()  # the last step's state keeps the command it was judged by
                segment = self.step[due] // self._resample_steps
                self.command[torch.from_numpy(due)] = torch.from_numpy(self._commands[due, segment])
