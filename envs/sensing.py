"""From the state to what policy and critic are given: sensor noise and biases, frames, history."""

import numpy as np
import torch
from torch import Tensor

from envs import draws
from envs.observations import Mirror, Observation
from envs.randomization import scalar_terms
from envs.randomizer import Randomizer
from envs.robots.spec import RobotSpec
from envs.state import State

_SENSORS = (("joint_position", "motor_offset"), ("joint_velocity", None),
            ("angular_velocity", "angular_velocity_bias"), ("gravity", "gravity_bias"))  # fmt: skip
"""Each reading that has noise, and the term that is its constant error."""


class Sensing:
    """Keeps the observation history of N simulations and the noise on their sensors."""

    def __init__(self, observation: Observation, randomizer: Randomizer, robot: RobotSpec, num_sims: int, seed: int):
        self.observation, self._robot, self.randomizer = observation, robot, randomizer
        joints = robot.num_joints
        self._parts, start = {}, 0
        low, span = [], []
        for reading, _ in _SENSORS:
            size = joints if reading.startswith("joint") else 3
            self._parts[reading] = slice(start, start + size)
            noise = randomizer.ranges.get(f"{reading}_noise", (0.0, 0.0))
            low += [noise[0]] * size
            span += [noise[1] - noise[0]] * size
            start += size
        self._low, self._span = np.array(low, np.float32), np.array(span, np.float32)
        self._noise = draws.StepNoise(seed, num_sims, start) if any(span) or any(low) else None
        self._num_sims, self._seed, self._sensors = num_sims, seed, start
        columns = {r: torch.arange(part.start, part.stop) for r, part in self._parts.items()}
        columns["joint_position"] = columns["joint_position"][torch.from_numpy(robot.driven_index)]  # have motors
        self._biases = [(columns[r], b) for r, b in _SENSORS if b is not None and b in randomizer.values]
        self.error = torch.zeros(num_sims, start)
        """(N, sensors) constant part of the sensors' errors."""
        self.history = torch.zeros(num_sims, observation.size)

    def fix_noise(self, reading: str, amplitude: np.ndarray) -> None:
        """Gives each simulation noise of its own on a reading: at most amplitude (N,), evenly to both sides."""
        self._make_noise()
        if self._low.ndim == 1:
            self._low, self._span = (np.tile(row, (self._num_sims, 1)) for row in (self._low, self._span))
        self._low[:, self._parts[reading]] = -amplitude[:, None]
        self._span[:, self._parts[reading]] = 2 * amplitude[:, None]

    def _make_noise(self) -> None:
        if self._noise is None:
            self._noise = draws.StepNoise(self._seed, self._num_sims, self._sensors)

    def redraw(self, term: str, span: tuple[float, float]) -> None:
        """Draws a reading's noise from another range from now on. Not after `fix_noise`."""
        self._make_noise()
        part = self._parts[term.removesuffix("_noise")]
        self._low[part], self._span[part] = span[0], span[1] - span[0]

    def begin(self, ids: np.ndarray) -> None:
        """Takes up the constant errors drawn for simulations ids (K,)."""
        rows = torch.from_numpy(ids)[:, None]
        for columns, bias in self._biases:
            self.error[rows, columns] = torch.from_numpy(self.randomizer.values[bias][ids])

    def noisy(self, exact: Tensor, episode: np.ndarray, step: np.ndarray, ids: np.ndarray | None = None) -> Tensor:
        """Exact readings with this step's noise and this episode's biases."""
        error = self.error if ids is None else self.error[ids]
        if self._noise is None:
            return error + exact
        each = slice(None) if ids is None or self._low.ndim == 1 else ids
        noise = self._noise(episode, step, ids) * self._span[each]
        noise += self._low[each]
        noise += error.numpy()
        noise += exact.numpy()
        return torch.from_numpy(noise)

    def readings(self, sensors: Tensor, command: Tensor) -> dict[str, Tensor]:
        """The named readings in a row of sensors (K, sensors)."""
        return {name: sensors[:, part] for name, part in self._parts.items()} | {"command": command}

    def frame(self, sensors: Tensor, command: Tensor, action: Tensor) -> Tensor:
        """(K, frame size)"""
        return self.observation.frame(self.readings(sensors, command), action)

    def push(self, frame: Tensor) -> Tensor:
        """The observation (N, size) with this newest frame; the history keeps it."""
        size = self.observation.frame_size
        self.history = frame if self.observation.history == 1 else torch.cat([self.history[:, size:], frame], 1)
        return self.history

    def restart(self, rows: Tensor, frame: Tensor) -> None:
        """Fills rows (K,) of the newest observation with their first frame (K, frame size), in place."""
        self.history[rows] = frame.repeat(1, self.observation.history)


def critic_size(observation: Observation, robot: RobotSpec, ball: bool = False) -> int:
    """Length of what the critic sees: a noise-free frame, the episode's physics and, with feet, what no sensor
    measures: base velocity (3) and height (1), then contact, air time and height of each foot. With a ball, its
    position, velocity and angular velocity (9) besides."""
    unmeasured = (4 + 3 * len(robot.feet) if robot.feet else 0) + (9 if ball else 0)
    return observation.frame_size + len(scalar_terms(ball)) + unmeasured


def critic_mirror(observation: Observation, robot: RobotSpec, ball: bool = False) -> Mirror:
    """How the left-right mirror maps it."""
    mirror = list(observation.frame_mirror)
    mirror += [(len(mirror) + i, 1.0) for i in range(len(scalar_terms(ball)))]
    if robot.feet:
        feet = [robot.feet.index(name) for name in robot.mirror_feet]
        mirror += [(len(mirror) + i, sign) for i, sign in enumerate((1.0, -1.0, 1.0, 1.0))]
        for _ in range(3):
            start = len(mirror)
            mirror += [(start + foot, 1.0) for foot in feet]
    if ball:
        signs = (1.0, -1.0, 1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0)  # two vectors and a rotation
        mirror += [(len(mirror) + i, sign) for i, sign in enumerate(signs)]
    return mirror


def critic_frame(sensing: Sensing, s: State, exact: Tensor, rows: Tensor | None = None) -> Tensor:
    """(N, critic size), or only rows (K,), from perfect sensors `exact` of the same rows."""

    def pick(x: Tensor) -> Tensor:
        return x if rows is None else x[rows]

    physics = torch.from_numpy(sensing.randomizer.scalars)
    parts = [sensing.frame(exact, pick(s.command), pick(s.action)), pick(physics)]
    if s.foot_contact.shape[1]:
        parts += [pick(s.base_linear_velocity_b), pick(s.base_height)[:, None], pick(s.foot_contact).float(),
                  pick(s.foot_air_time), pick(s.foot_height)]  # fmt: skip
    if s.ball_position_b.shape[1]:
        parts += [pick(s.ball_position_b), pick(s.ball_linear_velocity_b), pick(s.ball_angular_velocity_b)]
    return torch.cat(parts, 1)
