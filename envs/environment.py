"""The batched environment: physics, episodes, state, reward and observations of N simulations, in tensors."""

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from envs.episodes import Episodes, Starts
from envs.ground import Ground, RoughGround
from envs.measurement import CONTACT_FORCE_N, Measurement
from envs.observations import Observation
from envs.randomization import TERMS, Ranges
from envs.randomizer import Randomizer
from envs.rewards import Reward
from envs.robots import get as get_robot
from envs.scene import Collision, SolverSettings, Terrain, build_model
from envs.sensing import Sensing, critic_frame, critic_size
from envs.simulation import Simulation
from envs.state import State
from envs.tasks.task import Task


@dataclass(slots=True)
class Step:
    """What a step returns. Observations are those after resets; `final_*` those before, for the rows that ended."""

    observation: Tensor
    """(N, observation size)"""
    critic_observation: Tensor
    """(N, critic size) what only the critic may see: a noise-free frame and what no sensor measures."""
    reward: Tensor
    """(N,)"""
    terminated: Tensor
    """(N,) bool: ended by failure."""
    truncated: Tensor
    """(N,) bool: ended by the time limit, or because its simulation diverged, which is no failure of the policy."""
    ended: Tensor
    """(K,) indices of the rows that ended."""
    final_observation: Tensor
    """(K, observation size)"""
    final_critic_observation: Tensor
    """(K, critic size)"""
    components: dict[str, Tensor]
    """(N,) each part of the reward."""


class Environment:
    """N episodes of one task, side by side, each restarted as it ends.

    `reset()` starts all; `step(action)` takes (N, A) in -1..1. The tensors of `state` are those of the latest
    step; rows of episodes that ended already hold their new start.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        reward: Reward,
        seed: int = 0,
        randomization: Ranges | None = None,
        shifts: Ranges | None = None,
        at_once: int = 0,
        terrain: Terrain = "flat",
        collision: Collision = "feet",
        solver: SolverSettings | None = None,
        stiction: float = 1.0,
        num_threads: int = 0,
        termination_penalty: float = 0.0,
    ) -> None:
        """randomization: None means the task's own ranges, {} none; shifts: see `Randomizer`.

        Raises UserError for ranges that make no sense.
        """
        if num_envs < 1:
            raise UserError(f"num_envs is {num_envs}; at least 1 simulation is needed")
        self.task, self.num_envs, self.seed = task, num_envs, seed
        self.reward, self.termination_penalty = reward, termination_penalty
        self.robot = get_robot(task.robot)
        self.dt = self.robot.control_dt_s
        self.on_measured: Callable[[], None] | None = None
        """Called in each step once `state` describes its end, before any episode restarts."""
        self.diverged_count = 0
        """Simulations that diverged and were restarted, since the environment was made."""
        self.ground = ground = Ground(RoughGround() if terrain == "rough" and self.robot.feet else None)
        model = build_model(self.robot, terrain=terrain, collision=collision, solver=solver, rough=ground.rough,
                            stiction=stiction, visual=False, ball=task.ball)  # fmt: skip
        self.sim = Simulation(model, self.robot, num_envs, num_threads)
        ranges = task.randomization if randomization is None else randomization
        self.randomizer = Randomizer(self.sim, ranges, seed, shifts or {}, at_once)
        self.observation = Observation(self.robot, task.observation, task.history)
        self._measure = Measurement(self.sim, ground)
        starts = Starts(task, self.sim, ground, self._measure, seed)
        self.episodes = Episodes(task, self.sim, self.randomizer, starts, seed)
        self.sensing = Sensing(self.observation, self.randomizer, self.robot, num_envs, seed)
        self._some_start = starts.measured[:, :1]
        self._set_limits()
        self._packed = torch.zeros(len(starts.measured), num_envs)
        self.state = self._empty_state()

    @property
    def num_actions(self) -> int:
        return self.robot.num_actions

    @property
    def critic_size(self) -> int:
        return critic_size(self.observation, self.robot, self.task.ball is not None)

    def reset(self, stagger: bool = False) -> tuple[Tensor, Tensor]:
        """Starts a new episode everywhere; returns the observation (N, ...) and the critic's (N, ...).

        stagger: the first episodes start with part of their time gone, so that they do not all end in one step.
        """
        everything = np.arange(self.num_envs)
        self._begin(everything)
        if stagger:
            self.episodes.stagger()
        s, e = self.state, self.episodes
        exact = self._measure.sensors(self._packed)
        frame = self.sensing.frame(self.sensing.noisy(exact, e.episode, e.step), s.command, s.action)
        self.sensing.history = torch.empty_like(self.sensing.history)  # the last step's observation stays as it was
        self.sensing.restart(torch.from_numpy(everything), frame)
        return self.sensing.history, self._critic_frame(exact)

    def step(self, action: Tensor) -> Step:
        """One control step of all. Raises UserError when the reward returns a number that is not finite."""
        s, e = self.state, self.episodes
        self._act(action)
        e.push()
        self.sim.step()
        self._read()
        diverged = self.sim.diverged(self._measure.fastest(self._packed))
        if diverged.any():
            self._contain(diverged)
        s.terminated = self.task.terminated(s)
        if self.on_measured is not None:
            self.on_measured()
        reward, components = self._reward()
        if self.task.command is not None and self.task.command.until is not None:
            e.release(self.task.command.until(s))
        e.advance()
        s.command = e.command
        truncated = torch.from_numpy((e.step >= e.max_steps) | diverged) & ~s.terminated
        exact = self._measure.sensors(self._packed)
        frame = self.sensing.frame(self.sensing.noisy(exact, e.episode, e.step), s.command, s.action)
        observation, critic = self.sensing.push(frame), self._critic_frame(exact)
        result = Step(observation, critic, reward, s.terminated, truncated, _NONE, observation[:0], critic[:0],
                      components)  # fmt: skip
        ended = (s.terminated | truncated).nonzero()[:, 0]
        if len(ended):
            result.ended = ended
            result.final_observation, result.final_critic_observation = observation[ended], critic[ended]
            self._restart(ended, critic)
        return result

    def redraw(self, name: str, span: tuple[float, float]) -> None:
        """Draws a term of the randomization from another range from now on, or from the next episode of each."""
        if TERMS[name].when == "reset":
            self.randomizer.redraw(name, span)
        elif TERMS[name].when == "step":
            self.sensing.redraw(name, span)
        else:
            self.episodes.redraw_pushes(name, span)

    def snapshot(self) -> dict[str, np.ndarray]:
        """All that the batch's future depends on, as named arrays."""
        arrays = {f"field/{name}": field for name, field in self.randomizer.fields.live.items()}
        arrays |= {f"value/{name}": value for name, value in self.randomizer.values.items()}
        arrays |= {f"episodes/{name}": value for name, value in self.episodes.arrays().items()}
        for name in _REMEMBERED:
            arrays[f"state/{name}"] = getattr(self.state, name).numpy()
        arrays |= {"rows": self.sim.rows, "packed": self._packed.numpy(), "history": self.sensing.history.numpy(),
                   "error": self.sensing.error.numpy(), "scalars": self.randomizer.scalars,
                   "diverged": np.array(self.diverged_count)}  # fmt: skip
        return arrays

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Continues from a snapshot of an environment made with the same arguments."""
        for name, field in self.randomizer.fields.live.items():
            field[:] = arrays[f"field/{name}"]
        for name, value in self.randomizer.values.items():
            value[:] = arrays[f"value/{name}"]
        for name, value in self.episodes.arrays().items():
            value[:] = arrays[f"episodes/{name}"]
        if self.randomizer.needs_constants:
            self.sim.set_const(np.arange(self.num_envs))
        self.sim.rows[:] = arrays["rows"]
        self._packed = torch.tensor(arrays["packed"])
        self._measure.show(self._packed, self.state)
        for name in _REMEMBERED:
            setattr(self.state, name, torch.tensor(arrays[f"state/{name}"]))
        self.state.command = self.episodes.command
        self.randomizer.scalars[:] = arrays["scalars"]
        self.sensing.history = torch.tensor(arrays["history"])
        self.sensing.error = torch.tensor(arrays["error"])
        self.diverged_count = int(arrays["diverged"])

    def _restart(self, ended: Tensor, critic: Tensor) -> None:
        """New episodes for the rows that ended; their observations are replaced in place by the new starts'."""
        s, e, ids = self.state, self.episodes, ended.numpy()
        self._begin(ids)
        exact = self._measure.sensors(self._packed)[ended]
        sensors = self.sensing.noisy(exact, e.episode[ids], e.step[ids], ids)
        self.sensing.restart(ended, self.sensing.frame(sensors, s.command[ended], s.action[ended]))
        critic[ended] = self._critic_frame(exact, ended)

    def _act(self, action: Tensor) -> None:
        """Action to joint targets to motors."""
        s = self.state
        s.previous_action, s.action = s.action, action.clamp(-1.0, 1.0)
        target = torch.addcmul(self._home_target, self._action_scale, s.action)
        s.joint_target = target.clamp(self._target_lower, self._target_upper)
        offset = self.randomizer.values.get("motor_offset")
        # A joint whose encoder reads q + offset and that is sent to a target stops at target - offset.
        self.sim.ctrl[:] = s.joint_target.numpy() if offset is None else s.joint_target.numpy() - offset

    def _read(self) -> None:
        """MuJoCo's arrays to the state."""
        s, sim, before = self.state, self.sim, self.state.joint_velocity
        self._packed = self._measure(sim.qpos, sim.qvel, sim.actuator_force, sim.sensordata)
        self._measure.show(self._packed, s)
        s.joint_acceleration = (s.joint_velocity - before) / self.dt
        s.time_s = torch.from_numpy((self.episodes.step + 1).astype(np.float32)) * self.dt
        if self.robot.feet:
            contact, had = s.foot_contact_force > CONTACT_FORCE_N, s.foot_contact
            s.foot_contact, s.foot_touchdown = contact, contact & ~had
            # A phase's clock runs through the step that ends it and is back at 0 one step later.
            s.foot_air_time = (s.foot_air_time * ~had + self.dt) * ~(contact & had)
            s.foot_contact_time = (s.foot_contact_time * had + self.dt) * (contact | had)
            s.illegal_contact = self._measure.illegal_contact(sim.sensordata)

    def _contain(self, diverged: np.ndarray) -> None:
        """Diverged simulations: counted, and their garbage kept out of state and reward; they restart at once."""
        rows = torch.from_numpy(np.flatnonzero(diverged))
        self.diverged_count += len(rows)
        self._packed[:, rows] = self._some_start
        self._clear(rows)

    def _reward(self) -> tuple[Tensor, dict[str, Tensor]]:
        s = self.state
        try:
            components = self.reward(s)
        except Exception as error:
            raise UserError(f"the reward fails: {type(error).__name__}: {error}{_line_of(error)}") from error
        if not isinstance(components, dict) or not components:
            kind = "an empty dict" if components == {} else f"a {type(components).__name__}"
            raise UserError(f"the reward returns {kind}; it must return a dict of named tensors (N,)")
        if self.termination_penalty:
            components = {**components, "termination": -self.termination_penalty * s.terminated.float()}
        for name, value in components.items():
            if not isinstance(value, Tensor) or value.shape != (self.num_envs,):
                is_now = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"type {type(value).__name__}"
                raise UserError(f"reward component {name!r} has {is_now}; it must be a tensor of ({self.num_envs},)")
        stacked = torch.stack(list(components.values()))
        total = stacked[0]
        for component in stacked[1:]:  # one by one: the order in which sum(0) adds depends on the batch size
            total = total + component
        if not torch.isfinite(total).all():
            self._refuse(components)
        return total, dict(zip(components, stacked, strict=True))

    def _refuse(self, components: dict[str, Tensor]) -> None:
        for name, value in components.items():
            bad = value[~torch.isfinite(value)]
            if len(bad):
                raise UserError(
                    f"reward component {name!r} is {bad[0].item()} in {len(bad)} of {self.num_envs} simulations; "
                    "rewards must be finite: guard divisions, logarithms and square roots"
                )
        raise UserError("the sum of the reward's components overflows; make them smaller")

    def _critic_frame(self, exact: Tensor, rows: Tensor | None = None) -> Tensor:
        return critic_frame(self.sensing, self.state, exact, rows)

    def _begin(self, ids: np.ndarray) -> None:
        rows = torch.from_numpy(ids)
        self._packed[:, rows] = self.episodes.begin(ids)
        self._clear(rows)
        self.sensing.begin(ids)
        self.state.command = self.episodes.command

    def _clear(self, rows: Tensor) -> None:
        """What a new episode has no past of."""
        s = self.state
        s.joint_target[rows] = self._home_target
        for field in (s.action, s.previous_action, s.joint_acceleration, s.foot_contact, s.foot_touchdown,
                      s.foot_air_time, s.foot_contact_time, s.illegal_contact, s.time_s):  # fmt: skip
            field[rows] = 0

    def _set_limits(self) -> None:
        robot, model = self.robot, self.sim.model
        ranges, limited = (
            model.jnt_range[self.sim.joint_ids],
            model.jnt_limited[self.sim.joint_ids].astype(bool),
        )
        middle, half = ranges.mean(1), np.diff(ranges)[:, 0] / 2 * robot.soft_limit
        self.joint_lower = torch.tensor(np.where(limited, middle - half, -1e6), dtype=torch.float32)
        self.joint_upper = torch.tensor(np.where(limited, middle + half, 1e6), dtype=torch.float32)
        driven = torch.from_numpy(robot.driven_index)
        self._target_lower, self._target_upper = self.joint_lower[driven], self.joint_upper[driven]
        self._home_target = torch.tensor(robot.home_target, dtype=torch.float32)
        self._action_scale = torch.tensor(robot.action_scale, dtype=torch.float32)

    def _empty_state(self) -> State:
        n, a, f = self.num_envs, self.num_actions, len(self.robot.feet)

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(n, *shape, dtype=dtype)

        upright = torch.tensor([0.0, 0.0, -1.0]).repeat(n, 1)
        level = torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(n, 1)
        state = State(
            base_position_w=zeros(3), base_quaternion_w=level, base_height=zeros(), base_linear_velocity_w=zeros(3),
            base_linear_velocity_b=zeros(3), base_angular_velocity_b=zeros(3), gravity_b=upright,
            joint_position=zeros(self.robot.num_joints), joint_velocity=zeros(self.robot.num_joints),
            joint_acceleration=zeros(self.robot.num_joints),
            joint_home=torch.tensor(self.robot.home_joint_position, dtype=torch.float32),
            joint_lower=self.joint_lower, joint_upper=self.joint_upper, joint_torque=zeros(a), joint_power=zeros(a),
            joint_target=zeros(a), action=zeros(a), previous_action=zeros(a), command=self.episodes.command,
            foot_contact=zeros(f, dtype=torch.bool), foot_contact_force=zeros(f), foot_shear_force=zeros(f),
            foot_air_time=zeros(f),
            foot_contact_time=zeros(f), foot_touchdown=zeros(f, dtype=torch.bool), foot_position_b=zeros(f, 3),
            foot_height=zeros(f), foot_velocity_w=zeros(f, 3), illegal_contact=zeros(dtype=torch.bool),
            ball_position_b=zeros(0), ball_linear_velocity_b=zeros(0), ball_angular_velocity_b=zeros(0),
            terminated=zeros(dtype=torch.bool), time_s=zeros(),
        )  # fmt: skip
        self._measure.show(self._packed, state)
        return state


def _line_of(error: Exception) -> str:
    """Where in the reward's file it happened."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    return f" ({Path(frames[0].filename).name}, line {frames[0].lineno})" if frames else ""


_REMEMBERED = ("action", "previous_action", "joint_target", "joint_acceleration", "foot_contact", "foot_touchdown",
               "foot_air_time", "foot_contact_time", "time_s")  # fmt: skip
"""Fields of the state that the packed measurements do not hold."""

_NONE = torch.zeros(0, dtype=torch.long)
