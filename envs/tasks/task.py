"""Task: one whole Markov decision process around a robot, except for its reward, which is a file of its own."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from envs.ball import Ball
from envs.state import State

Measure = Callable[[State], Tensor]
"""A function of the state after a step, (N,)."""


@dataclass(frozen=True)
class Command:
    """What the robot is asked to do: uniform draws, drawn anew every so often."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    units: tuple[str, ...]
    resample_s: float = 5.0
    standing_share: float = 0.1
    """Share of the draws that are all zero."""
    fixed: tuple[float, ...] | None = None
    """What is asked in place of draws; low and high then only bound what a person may ask of the robot."""
    until: Measure | None = None
    """(N,) bool: what was asked for is done; from the next step on the command is zero, until the episode ends."""


@dataclass(frozen=True)
class Start:
    """Where episodes begin: uniform draws about the home pose."""

    joint_position: tuple[float, float] = (0.0, 0.0)
    """[rad; m] added to each joint of the home pose."""
    joint_velocity: tuple[float, float] = (0.0, 0.0)
    """[rad/s; m/s]"""
    joint_override: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Joints that start elsewhere than about home: name to range."""
    base_height_m: tuple[float, float] = (0.0, 0.0)
    """[m] added to the robot's home height."""
    base_offset_m: tuple[float, float] = (0.0, 0.0)
    """[m] added to each horizontal coordinate of the base; a ball stays below where the base would be."""
    base_velocity: tuple[float, float] = (0.0, 0.0)
    """[m/s; rad/s] each component of linear and angular velocity."""
    heading: tuple[float, float] = (0.0, 2 * math.pi)
    """[rad] of the base's x axis from the world's, about the vertical."""
    spread: bool = True
    """On a heightfield, all over its middle; otherwise at the world's origin, as on flat ground."""


@dataclass(frozen=True)
class Task:
    name: str
    description: str
    """One paragraph, for people and language models."""
    robot: str
    episode_length_s: float
    observation: tuple[str, ...]
    """Terms of envs/observations.py."""
    history: int
    """How many frames of it the policy sees."""
    start: Start
    terminated: Measure
    """(N,) bool: the episode has failed."""
    fitness_rate: Measure
    """(N,) within 0..1 at each step. An episode's fitness is its mean over the full length; what is cut off by
    a failure counts 0. Set by people, never a function of the reward."""
    fitness_threshold: float
    """Fitness from which the task counts as done."""
    human_reward: str
    sparse_reward: str
    """Files of envs/rewards."""
    randomization: Mapping[str, tuple[float, float]]
    """The ranges that training uses by default."""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    """What an evaluation reports besides, averaged over the steps of the episodes."""
    command: Command | None = None
    measure_units: Mapping[str, str] = field(default_factory=dict)
    ball: Ball | None = None
    """The ball that the robot starts on."""
    fitness_share: Measure | None = None
    """(N,) how much of the task each step covers, where steps differ in that: all of it adds up to 1, and an
    episode's fitness is the sum of rate times share. None: the steps of the full length, all alike."""
    judged: Measure | None = None
    """(N,) bool: the steps over which measures and the use of the feet are averaged. None: all."""
    measured_at_end: tuple[str, ...] = ()
    """The measures that are not averaged: their value at the episode's last step is what counts."""
