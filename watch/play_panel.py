"""The controls beside the 3D view: command, push, physics, policies, recording, charts."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import viser

from watch import play_runs
from watch.play_plots import Chart, component_labels, joint_groups, joint_labels

if TYPE_CHECKING:
    from watch.play_session import Session

_BRAND, _BRAND_DARK = (11, 110, 105), (42, 157, 146)
_RECORD, _RECORDING = (11, 110, 105), (179, 38, 30)
_WIDTH_PX = 300
_QUIET = (108, 117, 125)
"""Of buttons that are not the main thing."""
_ARROWS = {"↑": "forward", "↓": "back", "←": "left", "→": "right"}


class Panel:
    """Builds the controls and keeps them true. Callbacks come from viser's threads and only post to the session."""

    def __init__(self, session: Session) -> None:
        self._session, self._gui = session, session.door.viser.gui
        self._gui.set_panel_label("Gantry play")
        self._gui.main_panel.dock_right()
        self._gui.main_panel.set_width(_WIDTH_PX)
        self._add_command()
        self._add_push()
        self._add_physics()
        self._add_policies()
        self._add_session()
        self._add_charts()

    # ---- what the session shows

    def show_physics(self) -> None:
        """Sliders to what is in force, of the first robot."""
        physics = self._session.robots[0].physics
        for knob in physics.knobs:
            handle = self._knobs[knob.term]
            value = min(max(physics.value(knob.term) * knob.scale, knob.low), knob.high)
            handle.value = round(value / knob.step) * knob.step

    def show_policies(self) -> None:
        for i, (handle, robot) in enumerate(zip(self._policies, self._session.robots, strict=True)):
            label = self._label_of(i)
            if handle.value != label and label in handle.options:
                handle.value = label
            self._reward_notes[i].content = _plain(robot.reward_note)
            self._reward_notes[i].visible = bool(robot.reward_note)

    def show_recording(self, on: bool) -> None:
        self._record.label = "Stop and save" if on else "Record video"
        self._record.icon = viser.Icon.PLAYER_STOP if on else viser.Icon.VIDEO
        self._record.color = _RECORDING if on else _RECORD

    def show_theme(self, dark: bool) -> None:
        self._gui.configure_theme(dark_mode=dark, show_logo=False, show_share_button=False,
                                  brand_color=_BRAND_DARK if dark else _BRAND)  # fmt: skip
        if self._dark.value != dark:
            self._dark.value = dark

    def show_charts(self) -> None:
        robots = self._session.robots
        i = self._shown_robot
        history, robot = self._session.histories[i], robots[i]
        every = max(1, len(history.time_s) // 120)
        names = history.names
        if robot.reward is None:
            self._rewards.clear()
        else:
            values = [v[::every] for v in history.components(names)]
            self._rewards.show(history.time_s[::every], component_labels(names), values)
        columns = joint_groups(robot).get(self._leg.value, [])
        values = [v[::every] for v in history.joints(columns)] if len(history.time_s) else []
        self._joints.show(history.time_s[::every], joint_labels(robot, columns), values, dashed=True)

    # ---- how it is built

    def _add_command(self) -> None:
        drive = self._session.drive
        self._sliders: list[Any] = []
        if not drive.axes:
            return
        with self._gui.add_folder("Command"):
            for i, axis in enumerate(drive.axes):
                if axis.low == axis.high:
                    continue  # nothing to choose
                slider = self._gui.add_slider(
                    f"{axis.label} ({axis.unit})", min=axis.low, max=axis.high, step=0.05, initial_value=0.0,
                    hint="keys and gamepad have precedence while they are held",
                )  # fmt: skip
                slider.on_update(self._from_page(partial(self._set_command, i)))
                self._sliders.append(slider)
            stand = self._gui.add_button("Stand still", icon=viser.Icon.HAND_STOP, color=_QUIET)
            stand.on_click(lambda _: self._stand_still())

    def _set_command(self, i: int, value: float) -> None:
        self._session.drive.set(i, float(value))

    def _stand_still(self) -> None:
        self._session.drive.stop()
        for slider in self._sliders:
            slider.value = 0.0

    def _add_push(self) -> None:
        session = self._session
        walks = session.robots[0].environment.sim.floating
        with self._gui.add_folder("Push"):
            strength = self._gui.add_slider(
                "Speed (m/s)", min=0.1, max=6.0, step=0.1, initial_value=session.push_m_s,
                hint="a sudden change of the base's velocity",
            )  # fmt: skip
            strength.on_update(self._from_page(lambda value: setattr(session, "push_m_s", float(value))))
            group = self._gui.add_button_group("Push it", tuple(_ARROWS) if walks else ("←", "→"))
            ways = _ARROWS if walks else {"←": "back", "→": "forward"}
            group.on_click(lambda event: session.post(partial(session.push, ways[event.target.value])))

    def _add_physics(self) -> None:
        session = self._session
        self._knobs: dict[str, Any] = {}
        with self._gui.add_folder("Physics"):
            for knob in session.robots[0].physics.knobs:
                value = session.robots[0].physics.value(knob.term) * knob.scale
                slider = self._gui.add_slider(
                    knob.label, min=knob.low, max=knob.high, step=knob.step, hint=knob.hint or None,
                    initial_value=round(min(max(value, knob.low), knob.high) / knob.step) * knob.step,
                )  # fmt: skip

                def changed(value: float, term: str = knob.term, scale: float = knob.scale) -> None:
                    session.post(lambda: session.hold_physics(term, float(value) / scale))

                slider.on_update(self._from_page(changed))
                self._knobs[knob.term] = slider
            undo = self._gui.add_button("As it was", hint="what the physics set says", icon=viser.Icon.ARROW_BACK_UP,
                                        color=_QUIET)  # fmt: skip
            undo.on_click(lambda _: session.post(session.release_physics))

    def _add_policies(self) -> None:
        session = self._session
        self._policies: list[Any] = []
        self._reward_notes: list[Any] = []
        self._choices: list[list[play_runs.Choice]] = []
        with self._gui.add_folder("Policy"):
            for i, robot in enumerate(session.robots):
                self._choices.append(self._find(i))
                labels = [choice.label for choice in self._choices[i]]
                letter = f"Robot {'AB'[i]}" if len(session.robots) > 1 else "Run"
                handle = self._gui.add_dropdown(letter, labels, initial_value=self._label_of(i))
                handle.on_update(self._from_page(partial(self._pick, i)))
                self._policies.append(handle)
                note = self._gui.add_html(_plain(robot.reward_note), visible=bool(robot.reward_note))
                self._reward_notes.append(note)
            follow = self._gui.add_checkbox(
                "Follow training", False, hint="takes up each checkpoint that a running training saves"
            )
            follow.on_update(self._from_page(lambda value: setattr(session, "follow_checkpoints", bool(value))))
            look = self._gui.add_button("Look for new runs", icon=viser.Icon.REFRESH, color=_QUIET)
            look.on_click(lambda _: session.post(self._look))

    def _find(self, i: int) -> list[play_runs.Choice]:
        """The runs to choose from; the one that is played is among them wherever it lies."""
        robot = self._session.robots[i]
        found = play_runs.choices(robot.run, robot.spec_name)
        if not any(choice.run.resolve() == robot.run.resolve() for choice in found):
            found.insert(0, play_runs.Choice(robot.name, robot.run))
        return found

    def _label_of(self, i: int) -> str:
        run = self._session.robots[i].run.resolve()
        return next((c.label for c in self._choices[i] if c.run.resolve() == run), self._choices[i][0].label)

    def _pick(self, i: int, label: str) -> None:
        self._session.post(lambda: self._choose(i, label))

    def _choose(self, i: int, label: str) -> None:
        chosen = next((c.run for c in self._choices[i] if c.label == label), None)
        if chosen is not None:
            self._session.switch(i, chosen)

    def _look(self) -> None:
        for i, handle in enumerate(self._policies):
            self._choices[i] = self._find(i)
            handle.options = tuple(choice.label for choice in self._choices[i])
        self.show_policies()

    def _add_session(self) -> None:
        session = self._session
        with self._gui.add_folder("Session"):
            self._record = self._gui.add_button("Record video", icon=viser.Icon.VIDEO, color=_RECORD)
            self._record.on_click(lambda _: session.post(session.record))
            group = self._gui.add_button_group("Episode", ("Reset", "Pause"))
            once = {"Reset": session.reset, "Pause": session.pause}
            group.on_click(lambda event: session.post(once[event.target.value]))
            stand = self._gui.add_checkbox("Set up after a fall", session.set_up_after_fall)
            stand.on_update(self._from_page(lambda value: setattr(session, "set_up_after_fall", bool(value))))
            follow = self._gui.add_checkbox("Camera follows", True)
            follow.on_update(self._from_page(lambda value: setattr(session.scene, "following", bool(value))))
            self._dark: Any = self._gui.add_checkbox("Dark", False)
            self._dark.on_update(self._from_page(lambda value: session.post(lambda: session.show_dark(bool(value)))))

    def _add_charts(self) -> None:
        gui, robots = self._gui, self._session.robots
        panel = gui.add_panel()
        self._shown_robot = 0
        with panel.add_tab("Charts", viser.Icon.CHART_LINE):
            if len(robots) > 1:
                which = gui.add_button_group("Robot", ("A", "B"))
                which.on_click(lambda event: self._show_robot("AB".index(event.target.value)))
            rewards = gui.add_folder("Reward components")
            joints = gui.add_folder("Joint targets (dashed) and positions")
            with joints:
                groups = tuple(joint_groups(robots[0]))
                self._leg = gui.add_dropdown("Joints", groups, initial_value=groups[0], visible=len(groups) > 1)
        self._rewards = Chart(gui, rewards, "", 230)
        self._joints = Chart(gui, joints, "", 210)
        panel.dock_left()
        panel.set_width(_WIDTH_PX)

    def _show_robot(self, i: int) -> None:
        self._shown_robot = i

    @staticmethod
    def _from_page(action: Callable[[Any], None]) -> Callable[[Any], None]:
        """Calls action(value) for changes that a person made; setting a value from here also calls back."""

        def changed(event: Any) -> None:
            if event.client_id is not None:
                action(event.target.value)

        return changed


def _plain(text: str) -> str:
    """Text as HTML that shows it as it is; viser puts HTML into the page unseen."""
    return f'<div style="font-size: 0.75rem; opacity: 0.7; padding: 0 0.5rem 0.4rem">{html.escape(text)}</div>'
