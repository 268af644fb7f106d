"""A policy in a simulation of its own that people may disturb: it goes on after a fall, until it is set up again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np
import torch
from torch import Tensor

from agents.checkpoint import LoadedPolicy
from configs.errors import UserError
from envs import physics
from envs.environment import Environment
from envs.state import State
from envs.tasks.task import Task
from watch import play_runs
from watch.play_physics import LivePhysics

EPISODE_S = 3600.0
"""Long enough that no time limit interrupts; it costs nothing."""
PUSH_SHOWN_S = 0.5


@dataclass
class Sample:
    """One control step, for the charts."""

    time_s: float
    components: dict[str, float]
    target: np.ndarray
    """(A,) [rad; m]"""
    position: np.ndarray
    """(A,) [rad; m] of the driven joints"""


def endless(task: Task) -> Task:
    """The task without time limit and without commands of its own: those come from whoever drives."""
    command = task.command
    if command is not None:
        command = dataclasses.replace(command, resample_s=EPISODE_S, standing_share=1.0, until=None)
    return dataclasses.replace(task, episode_length_s=EPISODE_S, command=command)


class PlayedRobot:
    """One robot. Two that are made with the same seed start alike and draw the same physics and pushes."""

    def __init__(self, run: Path, physics_set: str = "nominal", seed: int = 0, trust_reward: bool = False) -> None:
        """Raises UserError for a run or a physics set that cannot be used."""
        self._physics_set, self._seed, self._trust = physics_set, seed, trust_reward
        self._load(play_runs.load(run), run)
        self._build()

    def _load(self, policy: LoadedPolicy, run: Path) -> None:
        self.run, self.policy, self.stamp = run, policy, play_runs.stamp(run)
        self.name = play_runs.name_of(run)
        self.reward, self.reward_note = play_runs.reward_of(run, self._trust)

    def _build(self) -> None:
        self.environment = self.twin()
        self.physics = LivePhysics(self.environment)
        self.environment.on_measured = self._measured
        self._command = torch.zeros(self.environment.episodes.command.shape[1])
        self.push_w, self.push_left_s = np.zeros(2), 0.0
        self._observation: Tensor
        self.reset()

    def twin(self) -> Environment:
        """Another environment like this robot's, for example to film in."""
        return physics.build(
            endless(self.policy.task), self._physics_set, 1, self._seed, reward=self._components, num_threads=1
        )

    def _components(self, state: State) -> dict[str, Tensor]:
        """The run's own reward if it may run; one that fails is put aside instead of stopping the robot."""
        if self.reward is None:
            return physics.no_reward(state)
        try:
            parts = self.reward(state)
            good = {str(name): value for name, value in parts.items() if bool(torch.isfinite(value).all())}
            return good or physics.no_reward(state)
        except Exception as error:
            self.reward, self.reward_note = None, f"The reward failed: {type(error).__name__}."
            return physics.no_reward(state)

    @property
    def dt(self) -> float:
        return self.environment.dt

    @property
    def spec_name(self) -> str:
        return self.environment.robot.name

    @property
    def fallen(self) -> bool:
        return self.fallen_s is not None

    def reset(self) -> None:
        """A new episode: a new start and, unless the physics set is nominal, new draws."""
        self._observation, _ = self.environment.reset()
        self.physics.apply()
        self.fallen_s: float | None = None
        self.time_s = 0.0
        self.push_left_s = 0.0
        self.set_command(self._command.numpy())

    def switch(self, run: Path) -> None:
        """Takes up another run's policy, in mid-stride where its task is the same.

        Raises:
            UserError: it cannot be used, or is another robot's. The robot keeps the policy that it has.
        """
        policy = play_runs.load(run)
        if policy.robot.name != self.spec_name:
            raise UserError(f"run {str(run)!r} is of robot {policy.robot.name}, not {self.spec_name}")
        same = policy.task.name == self.policy.task.name
        held = dict(self.physics.held)
        self._load(policy, run)
        if not same:
            self._build()
            self.physics.held.update(held)
            self.physics.apply()

    def refresh(self) -> bool:
        """Takes up the checkpoint that a training has written since; whether there was one."""
        now = play_runs.stamp(self.run)
        if now is None or now == self.stamp:
            return False
        self.stamp = now
        self._load(play_runs.load(self.run), self.run)
        return True

    def set_command(self, command: np.ndarray) -> None:
        """(C,) what the robot is asked to do from now on."""
        self._command = torch.as_tensor(np.array(command), dtype=torch.float32)
        self.environment.episodes.command[0] = self._command

    def push(self, velocity_b: np.ndarray) -> None:
        """A sudden change of the base's velocity, (2,) [m/s] forward and left; a cart's along its rail only."""
        sim, state = self.environment.sim, self.environment.state
        if not sim.floating:
            sim.qvel[0, 0] += float(velocity_b[0])
            self.push_w = np.array([float(velocity_b[0]), 0.0])
        else:
            w, x, y, z = (float(v) for v in state.base_quaternion_w[0])
            yaw = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
            turn = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]])
            self.push_w = turn @ np.asarray(velocity_b, dtype=float)
            sim.qvel[0, :2] += self.push_w
        self.push_left_s = PUSH_SHOWN_S

    def step(self) -> Sample:
        """One control step."""
        with torch.no_grad():
            result = self.environment.step(self.policy.act(self._observation))
        self._observation = result.observation
        self.time_s += self.dt
        self.push_left_s = max(0.0, self.push_left_s - self.dt)
        if self.fallen_s is not None:
            self.fallen_s += self.dt
        target, position = self._targets
        if len(result.ended):  # it diverged, or the hour is over: the environment has begun anew
            self.physics.apply()
            self.fallen_s = None
            self.set_command(self._command.numpy())
        shown = {} if self.reward is None else {name: float(v[0]) for name, v in result.components.items()}
        return Sample(self.time_s, shown, target, position)

    def _measured(self) -> None:
        """In the middle of a step: notes a fall and lets the episode go on, so that one sees how it ends."""
        state = self.environment.state
        if bool(state.terminated[0]) and self.fallen_s is None:
            self.fallen_s = 0.0
        state.terminated = torch.zeros_like(state.terminated)
        driven = torch.from_numpy(self.environment.robot.driven_index)
        self._targets = state.joint_target[0].numpy().copy(), state.joint_position[0, driven].numpy().copy()

    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Body poses in the simulation's own world, into `data` (xpos, xmat) of a model with the same joints."""
        data.qpos[:] = self.environment.sim.qpos[0]
        mujoco.mj_kinematics(model, data)
