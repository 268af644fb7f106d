"""N MuJoCo simulations of one robot, stepped together by mjbatch, each with its own physics."""

import sys

import mujoco
import numpy as np
from mjbatch import Batch

from envs.ball import BALL
from envs.robots.spec import RobotSpec

_STATE_PARTS = ("TIME", "QPOS", "QVEL", "ACT", "HISTORY", "WARMSTART", "CTRL", "QFRC_APPLIED", "XFRC_APPLIED",
                "EQ_ACTIVE", "MOCAP_POS", "MOCAP_QUAT", "USERDATA", "PLUGIN")  # fmt: skip

MAX_VELOCITY = 100.0
"""[m/s, rad/s] no part of these robots moves this fast; a simulation that does has diverged."""


def _hear(warning: str) -> None:
    """MuJoCo's warnings, of this whole process: on stderr, without its MUJOCO_LOG.TXT in the working directory.

    Not that a simulation is unstable: these are counted (`Simulation.diverged`), and a physics prior has hundreds.
    """
    if "simulation is unstable" not in warning:
        sys.stderr.write(f"MuJoCo warns: {warning}\n")  # in one piece: several threads may warn at once


mujoco.set_mju_user_warning(_hear)


class Simulation:
    """The physics of a batch. Arrays named here are live views: written before a step, fresh after it.

    `qpos` (N, nq), `qvel` (N, nv) and `ctrl` (N, nu) are MuJoCo's; `actuator_force` (N, nu) and `sensordata`
    (N, nsensordata) describe the last physics step, as with `mj_step`.
    """

    def __init__(self, model: mujoco.MjModel, robot: RobotSpec, num_sims: int, num_threads: int = 0) -> None:
        substeps = robot.control_dt_s / model.opt.timestep
        if abs(substeps - round(substeps)) > 1e-6:
            raise ValueError(f"control step {robot.control_dt_s} s is no multiple of {model.opt.timestep} s")
        self.model, self.robot, self.num_sims = model, robot, num_sims
        self.substeps = round(substeps)
        joints = [model.joint(name) for name in robot.joint_names]
        self.joint_ids = np.array([j.id for j in joints])
        self.joint_dofs = np.array([int(j.dofadr[0]) for j in joints])
        self.joint_qpos = np.array([int(j.qposadr[0]) for j in joints])
        self.floating = model.nq > len(joints)
        """Whether the base moves freely (its pose is qpos[:7], its velocity qvel[:6])."""
        ball = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, BALL)
        self.ball_qpos = int(model.jnt_qposadr[ball]) if ball >= 0 else None
        """Where the ball's pose begins in qpos, and `ball_dofs` its velocity in qvel; None without a ball."""
        self.ball_dofs = int(model.jnt_dofadr[ball]) if ball >= 0 else None
        self._batch = Batch(model, num_sims, num_threads)
        self.rows: np.ndarray = self._batch.bind("state")
        self.qpos: np.ndarray = self._batch.bind("qpos")
        self.qvel: np.ndarray = self._batch.bind("qvel")
        self.ctrl: np.ndarray = self._batch.bind("ctrl")
        self.actuator_force: np.ndarray = self._batch.bind("actuator_force")
        self.sensordata: np.ndarray = self._batch.bind("sensordata")
        self._all_warnings: np.ndarray = self._batch.bind("warning")
        self._warnings = self._all_warnings[..., 1]  # how often each kind was raised
        self._columns = self._find_columns()
        self._initial_row, self.history_columns = self._make_initial_row()
        """history_columns (nu, samples): where the control history's values lie in a row, oldest first."""
        self.expanded: dict[str, np.ndarray] = {}
        """(N, ...) the per-simulation model fields that `expand` has made."""
        self.active: np.ndarray | None = None
        """(N,) bool: the simulations that `step` advances, the others stand still; None: all."""

    @property
    def num_threads(self) -> int:
        return self._batch.num_threads

    def step(self) -> None:
        """One control step: all physics steps of it, for every active simulation."""
        self._batch.step(self.active, nstep=self.substeps)

    def expand(self, field: str) -> np.ndarray:
        """(N, ...) live per-simulation values of a model field."""
        if field not in self.expanded:
            self.expanded[field] = self._batch.expand(field)
        return self.expanded[field]

    def set_const(self, ids: np.ndarray) -> None:
        """Recomputes constants derived from mass, inertia and armature, for these simulations."""
        self._batch.set_const(ids)

    def initial_rows(self, qpos: np.ndarray, qvel: np.ndarray, ctrl: np.ndarray) -> np.ndarray:
        """(K, nstate) rows of fresh simulations in these states, whose motors have always held ctrl (K, nu)."""
        rows = np.tile(self._initial_row, (len(qpos), 1))
        rows[:, self._columns["QPOS"]] = qpos
        rows[:, self._columns["QVEL"]] = qvel
        rows[:, self._columns["CTRL"]] = ctrl
        rows[:, self.history_columns] = ctrl[:, :, None]
        return rows

    def reset(self, ids: np.ndarray, rows: np.ndarray, ctrl_offset: np.ndarray | None = None) -> None:
        """Puts simulations ids (K,) into the states of rows (K, nstate), with ctrl_offset (K, nu) on their targets."""
        if ctrl_offset is not None:
            rows[:, self._columns["CTRL"]] += ctrl_offset
            rows[:, self.history_columns] += ctrl_offset[:, :, None]
        self.rows[ids] = rows
        self.actuator_force[ids] = 0.0
        self.sensordata[ids] = 0.0

    def diverged(self, speed: np.ndarray) -> np.ndarray:
        """(N,) bool: MuJoCo warned about the simulation since the last call, or its greatest speed (N,) is impossible.

        MuJoCo resets a simulation by itself when it diverges, so that looking for NaN is not enough.
        """
        bad = ~(speed < MAX_VELOCITY)  # a NaN compares false
        if self._all_warnings.any():
            warned = self._warnings.any(-1)
            bad |= warned
            # MuJoCo's own reset sets the counters to 0 and then counts the new warning: they never exceed 1, so
            # only counters that are cleared here show that a simulation diverged once more.
            self._warnings[warned] = 0
        return bad

    def _find_columns(self) -> dict[str, slice]:
        """Where each part of the state (QPOS, QVEL, CTRL, ...) lies in a row."""
        sizes = [mujoco.mj_stateSize(self.model, getattr(mujoco.mjtState, f"mjSTATE_{p}")) for p in _STATE_PARTS]
        ends = np.cumsum(sizes)
        spans = zip(_STATE_PARTS, sizes, ends, strict=True)
        return {part: slice(int(end - size), int(end)) for part, size, end in spans}

    def _make_initial_row(self) -> tuple[np.ndarray, np.ndarray]:
        """The state of a fresh simulation, and where in it (nu, samples) the control history's values lie."""
        model = self.model
        data = mujoco.MjData(model)
        samples = model.actuator_history[:, 0]
        # Per actuator: user value, cursor, times (n), values (n).
        slots = model.actuator_historyadr[:, None] + 2 + samples[:, None] + np.arange(int(samples.max()))
        row = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
        mujoco.mj_getState(model, data, row, mujoco.mjtState.mjSTATE_INTEGRATION)
        return row, self._columns["HISTORY"].start + slots
