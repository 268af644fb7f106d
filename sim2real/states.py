"""The runtime's states: what may be asked for in each, what each sends, and what leads to the next.

limp --stand--> stand up --(pose reached)--> ready --run--> running --hold--> stand up
  any --damp, quit--> damping          any --stop, or any doubt--> damping, latched --clear--> limp
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim2real.bundle import Bundle
from sim2real.commands import Action, Request, State
from sim2real.contract import Keyframe
from sim2real.links.link import Command, FloatArray, Link, LinkError, Reading
from sim2real.safety import ClearRefused, Decision, Supervisor

HOLD_S = 1.0
"""Time to go back from running to the standing pose."""
FAREWELL_S = 1.0
"""Damping before the runtime leaves."""
CLEAR_S = 1.0
"""So long a clear is tried before it counts as refused."""
STAND_ERROR_RAD = 0.6
"""Largest deviation of a joint from the standing pose at the end of standing up."""


class States:
    """The state of one deployment.  For the control loop's thread."""

    def __init__(
        self, bundle: Bundle, link: Link, supervisor: Supervisor, operator: str, say: Callable[[str], None]
    ) -> None:
        """`operator` is the name under which damping is cleared; `say` writes an event to the log."""
        contract = self._contract = bundle.contract
        self._link, self._supervisor, self._operator, self._say = link, supervisor, operator, say
        self.now = State.LIMP
        self.reading: Reading | None = None
        """The newest one; set by the loop."""
        self.command = np.zeros(len(contract.commands))
        """Values of the reading `command`; set by the loop."""
        self.policy = bundle.policy()
        self.policy_target: FloatArray | None = None
        """(A,) [rad] what the policy wanted in this tick; None if it was not asked."""
        self.leaves_at_s: float | None = None
        """When the loop ends, once it is known."""
        self.reasons: list[str] = []
        """Everything that ever latched damping, oldest first."""
        self._driven = contract.driven_index
        self._kp, self._kd = self._full(contract.kp), self._full(contract.kd)
        self._stand_kp, self._stand_kd = self._full(contract.stand_kp), self._full(contract.stand_kd)
        self._zero = self._full(np.zeros(len(self._driven)))
        self._poses: list[Keyframe] = []
        self._pose_from: FloatArray = contract.home_joint_position
        self._pose_began_s = 0.0
        self._clearing_until_s: float | None = None
        self._damped_for: tuple[str, ...] = ()
        self._link_errors: set[str] = set()

    def act(self, request: Request, now_s: float) -> None:
        """Do what a source asks for, if this state allows it."""
        action, state, latched = request.action, self.now, self._supervisor.latched
        if action is Action.STOP:
            self._supervisor.stop(request.source)
        elif action is Action.QUIT:
            self.leave(now_s, f"{request.source} quits")
        elif action is Action.DAMP:
            self._enter(State.DAMPING, f"{request.source} asks for it")
        elif action is Action.CLEAR and state is State.DAMPING:
            self._begin_clear(now_s, request.source)
        elif action is Action.STAND and (state is State.LIMP or (state is State.DAMPING and not latched)):
            if self.reading is None:
                self._say("cannot stand up: nothing has been read from the robot")
                return
            self._poses = list(self._contract.stand_up)
            self._start_pose(now_s, self.reading.joint_position)
            self._enter(State.STAND_UP, f"{request.source} asks for it")
        elif action is Action.RUN and state is State.READY:
            self.policy.reset()
            self._enter(State.RUNNING, f"{request.source} asks for it")
        elif action is Action.HOLD and state is State.RUNNING and self.reading is not None:
            last = self._contract.stand_up[-1]
            self._poses = [Keyframe(last.name, last.joint_position, HOLD_S)]
            self._start_pose(now_s, self.reading.joint_position)
            self._enter(State.STAND_UP, f"{request.source} asks to hold")
        else:
            self._say(f"{request.source}: {action} is not possible while {state}")

    def propose(self, now_s: float) -> Command | None:
        """What this state wants to send; None if it cannot say."""
        position = self.reading.joint_position if self.reading is not None else self._pose_from
        self.policy_target = None
        if self.now is State.STAND_UP:
            return self._stand_up(now_s)
        if self.now is State.READY:
            return Command.position(self._pose_from, self._stand_kp, self._stand_kd)
        if self.now is State.RUNNING and self.reading is not None:
            return self._run_policy(self.reading)
        if self.now is State.LIMP:
            return Command.limp(position)
        return Command.damping(position, self._supervisor.limits.damping_kd)

    def send(self, command: Command) -> None:
        """Give a command to the link.  One that fails is logged; its `doubts` tell the supervisor at the next tick."""
        try:
            self._link.send(command)
        except LinkError as error:
            self._report(error)

    def follow(self, decision: Decision, now_s: float) -> None:
        """Let the supervisor's decision change the state."""
        new = [reason for reason in decision.reasons if reason not in self._damped_for]
        self._damped_for = decision.reasons if decision.state == "damping" else ()
        if decision.state == "damping":
            self.reasons += new
            if self.now is not State.DAMPING:
                self._enter(State.DAMPING, "; ".join(decision.reasons))
            elif new:
                self._say("; ".join(new))
        if self._clearing_until_s is None:
            return
        try:
            self._supervisor.clear(self._operator)
        except ClearRefused as refused:
            if now_s > self._clearing_until_s:
                self._clearing_until_s = None
                self._say(str(refused))
        else:
            self._clearing_until_s = None
            self._link_errors.clear()
            self._enter(State.LIMP, f"cleared by {self._operator}")

    def leave(self, now_s: float, why: str) -> None:
        """Damp, and end soon."""
        if self.leaves_at_s is None:
            self.leaves_at_s = now_s + (FAREWELL_S if self.now is not State.DAMPING else 0.2)
            self._enter(State.DAMPING, why)

    def _enter(self, state: State, why: str) -> None:
        self.now = state
        self._say(why)

    def _start_pose(self, now_s: float, position: FloatArray) -> None:
        self._pose_from, self._pose_began_s = np.array(position, np.float64), now_s

    def _stand_up(self, now_s: float) -> Command:
        pose = self._poses[0]
        share = min((now_s - self._pose_began_s) / pose.duration_s, 1.0)
        smooth = share * share * (3.0 - 2.0 * share)  # starts and ends at rest
        target = self._pose_from + smooth * (pose.joint_position - self._pose_from)
        if share >= 1.0:
            self._poses.pop(0)
            self._start_pose(now_s, pose.joint_position)
            if not self._poses:
                self._arrive(pose)
        return Command.position(target, self._stand_kp, self._stand_kd)

    def _arrive(self, pose: Keyframe) -> None:
        assert self.reading is not None
        error = np.abs(self.reading.joint_position - pose.joint_position)[self._driven]
        if not error.max() <= STAND_ERROR_RAD:
            name = self._contract.driven_joints[int(np.nan_to_num(error, nan=np.inf).argmax())]
            self._supervisor.stop(f"the runtime: {name} is {error.max():.2f} rad from where standing puts it")
            return
        self._enter(State.READY, f"stands: pose {pose.name!r}")

    def _run_policy(self, reading: Reading) -> Command | None:
        try:
            values = {
                signal.name: self.command if signal.name == "command" else getattr(reading, signal.name)
                for signal in self._contract.readings
            }
            target = self.policy(values).astype(np.float64)
        except Exception as error:  # the supervisor damps for want of a command; the loop goes on
            self._say(f"the policy failed: {type(error).__name__}: {error}")
            return None
        self.policy_target = target
        full = np.array(reading.joint_position, np.float64)
        full[self._driven] = target
        return Command(full, self._zero, self._kp, self._kd, self._zero)

    def _begin_clear(self, now_s: float, source: str) -> None:
        if not self._supervisor.latched:
            self._enter(State.LIMP, f"{source} asks for it")
            return
        try:
            # The link first: the supervisor refuses while the link still damps.
            self._link.clear(self._operator)
        except LinkError as error:
            self._report(error)
        self._clearing_until_s = now_s + CLEAR_S

    def _report(self, error: LinkError) -> None:
        text = str(error)
        if text not in self._link_errors:  # once, not at every tick
            self._link_errors.add(text)
            self._say(text)

    def _full(self, driven: FloatArray) -> FloatArray:
        """(J,) with 0 for joints without a motor."""
        full = np.zeros(len(self._contract.joint_names))
        full[self._driven] = driven
        return full
