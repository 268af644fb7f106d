"""Pushes: sudden changes of a free body's horizontal velocity, drawn for a whole episode at its beginning."""

import numpy as np

from envs.simulation import Simulation

_NEVER = np.iinfo(np.int64).max


class Pushes:
    """One body's pushes in N simulations: when they come, how hard they are, and how many have come."""

    def __init__(
        self, sim: Simulation, dof: int, velocity: tuple[float, float], interval_s: tuple[float, float], max_steps: int
    ) -> None:
        """dof: where the body's linear velocity begins in qvel; velocity [m/s] and interval: ranges of the draws."""
        self._sim, self._dof, self._velocity_range, self._interval_s = sim, dof, velocity, interval_s
        self._dt, n = sim.robot.control_dt_s, sim.num_sims
        count = max(1, min(int(max_steps * self._dt / interval_s[0] + 1e-9), max_steps))
        self.draws = 3 * count
        """Uniform draws that an episode takes."""
        self._steps = np.zeros((n, count), dtype=np.int64)
        self._velocity = np.zeros((n, count, 2))
        self._next = np.full(n, _NEVER)
        self.done = np.zeros(n, dtype=np.int64)
        """(N,) how many of its episode's pushes each simulation has had."""

    def redraw(self, velocity: tuple[float, float]) -> None:
        """Draws the pushes of episodes that begin from now on from another range [m/s]."""
        self._velocity_range = velocity

    def begin(self, ids: np.ndarray, u: np.ndarray) -> None:
        """New episodes for simulations ids (K,), from uniform draws u (K, draws)."""
        count = self._steps.shape[1]
        (low_s, high_s), (low, high) = self._interval_s, self._velocity_range
        times_s = np.cumsum(low_s + (high_s - low_s) * u[:, :count], 1)
        self._steps[ids] = np.maximum(np.round(times_s / self._dt), 1)
        self._velocity[ids] = (low + (high - low) * u[:, count:]).reshape(-1, count, 2)
        self.done[ids] = 0
        self._next[ids] = self._steps[ids, 0]

    def skip(self, step: np.ndarray) -> None:
        """Passes over what would have come up to step (N,) of the episodes."""
        self.done[:] = (self._steps <= step[:, None]).sum(1)
        everything = np.arange(len(step))
        self._next[:] = self._upcoming(everything)

    def push(self, step: np.ndarray) -> None:
        """Pushes the simulations whose time has come, at step (N,) of their episodes."""
        due = np.flatnonzero(step >= self._next)
        if len(due):
            index = self.done[due]
            self._sim.qvel[due, self._dof : self._dof + 2] += self._velocity[due, index]
            self.done[due] = index + 1
            self._next[due] = self._upcoming(due)

    def arrays(self) -> dict[str, np.ndarray]:
        """The live arrays that hold where each episode's pushes stand."""
        return {"steps": self._steps, "velocity": self._velocity, "next": self._next, "done": self.done}

    def _upcoming(self, ids: np.ndarray) -> np.ndarray:
        last = self._steps.shape[1] - 1
        following = self._steps[ids, np.minimum(self.done[ids], last)]
        return np.where(self.done[ids] <= last, following, _NEVER)
