"""DrEureka's tables on the stand-in for reality: how ranges are come by, and what that is worth.

    python -m benchmarks.transfer OUT [--pieces prior,dash] [--llm transcript --transcript FOLDER] ... [OVERRIDE ...]

Everything lives below OUT and is done once: killed or stopped, the same command goes on. Pieces:

- **prior**: what the physics prior costs (benchmarks/transfer_prior.py), on the run that `--prior-run` names.
- **calibrate**: the stand-in's severity (benchmarks/reality.py), fixed before any arm may run.
- **dash**: every arm of `gantry randomize task=go2-dash` with the reward of `--reward`; then each final policy on the
  stand-in, as in the next two.
- **people**: human reward and ranges, where `--reward` names another.
- **ablation**, of the safety instruction, with `--reward-without-safety`: `eureka` (neither instruction nor
  randomization) and `no_safety` (designed ranges on that reward).
- **ball**: `designed` and `human` of go2-ball, and a frozen pose.
- **dash-again**, **ball-again**: a second round of `designed` and `human`. Each goes on with its policy that is best on
  `select`; for `designed`, the prior of that policy is measured and a model is asked again.
- **ball-runs**: seconds on the ball of the policies that `--ball-runs` names, wherever they come from.

`--env-steps`, `--tune-env-steps`, `--samples`, `--seeds`, `--robot-runs` set the size; the result states it for each
arm. With `--llm inbox` the questions wait in OUT/runs/sweeps/*/inbox/. A transcript has a folder for each design: dash,
dash-no-safety, dash-again-designed, ball, ball-again-designed. The last line is one JSON object of what is done so far.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.checkpoint import load_policy
from agents.design_arms import ARMS, OF_MODELS
from agents.design_table import paired
from agents.evaluate import interval
from agents.randomization_design import TABLE
from agents.run_folder import read_json, write_atomically
from benchmarks import reality, transfer_prior
from benchmarks.report import finish
from configs.errors import UserError, leave
from envs import physics, robots, tasks
from sim2real.export import export

DASH_PIECES = ("dash", "people", "ablation")
PIECES = ("prior", "calibrate", *DASH_PIECES, "dash-again", "ball", "ball-again", "ball-runs")
ROUND_ARMS = ("designed", "human")
"""What the ball and second rounds compare."""
CALIBRATION_TRAINING_SEED = 77
"""No arm trains with it."""
CALIBRATION_EPISODES = 512
DASH_KEYS = ("velocity_m_s", "metres", "error_m_s", "falls", "finished")
RENAMED = {"dash-people": {"human": "people"}, "dash-no-safety": {"none": "eureka", "designed": "no_safety"}}
"""Names in the table of the arms of designs other than the main one."""


class Bench:
    """The pieces and where they are."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out.absolute()
        self.out.mkdir(parents=True, exist_ok=True)

    def prior(self) -> dict[str, Any] | None:
        """Made once; the time matters, so the machine should be quiet."""
        path = self.out / "prior.json"
        if not path.is_file() and self.options.prior_run is not None:
            self._write(path, transfer_prior.compare(self.options.prior_run, self.options.prior_sample))
        return read_json(path) if path.is_file() else None

    def calibrate(self) -> dict[str, Any]:
        """The severity; made once, before any arm."""
        path = self.out / "calibration.json"
        if path.is_file():
            found = read_json(path)
            if found["physics_hash"] != physics.digest(tasks.get("go2-dash")):
                raise UserError(f"{path} was made on physics sets that have changed since; start in another folder")
            return found
        if list((self.out / "runs" / "sweeps").glob("*-dash*/")):
            raise UserError(f"{path} is missing, and arms have run already; start in another folder")
        task = tasks.get("go2-dash")
        design = self._design("calibration", "go2-dash", ["human"], self.options.reward, [
            f"seed={CALIBRATION_TRAINING_SEED}", "final_seeds=1", "own_bases=false",
        ])  # fmt: skip
        run = self._runs(design, "human")[0]
        loaded = load_policy(run)
        rows = [
            reality.on_track(loaded, severity, CALIBRATION_EPISODES, reality.CALIBRATION_SEED)
            for severity in range(reality.most_severe(task) + 1)
        ]
        severity, within = reality.choose_severity([row["finished"] for row in rows], self.options.severity)
        content = {
            "severity": severity, "finished": [row["finished"] for row in rows], "within": within,
            "wanted": list(reality.FINISHING), "episodes": CALIBRATION_EPISODES, "run": run.name,
            "training_seed": CALIBRATION_TRAINING_SEED, "seed": reality.CALIBRATION_SEED,
            "physics_hash": physics.digest(task),
        }  # fmt: skip
        self._write(path, content)
        return content

    def dash(self, pieces: Sequence[str]) -> dict[str, Any]:
        """The paper's table: the arms of these pieces, and of those that are finished."""
        o = self.options
        calibration = self.calibrate()
        rows: dict[str, dict[str, Any]] = {}
        for piece, (label, arms, reward, more) in {
            "dash": ("dash", o.arms, o.reward, []),
            "people": ("dash-people", ["human"], None, []),
            "ablation": (
                "dash-no-safety", ["designed", "none"], o.reward_without_safety, ["safety_instruction=false"],
            ),
        }.items():  # fmt: skip
            if not (piece in pieces or self._finished(label)):
                continue
            folder = self._design(label, "go2-dash", arms, reward, more)
            table = read_json(folder / TABLE)
            for arm, row in table["arms"].items():
                name = RENAMED.get(label, {}).get(arm, arm)
                seeds = [self._dash_seed(label, run, calibration["severity"]) for run in self._runs(folder, arm)]
                rows[name] = self._dash_arm(seeds, table, row)
        return {"arms": rows, "main_minus_arm": _differences(rows), "severity": calibration["severity"]}

    def dash_again(self) -> dict[str, Any]:
        """The same after a second round."""
        severity, rows = self.calibrate()["severity"], {}
        for arm, folder in self._second_round("dash", "go2-dash", self.options.reward).items():
            table = read_json(folder / TABLE)
            seeds = [self._dash_seed("dash-again", run, severity) for run in self._runs(folder, arm)]
            rows[arm] = self._dash_arm(seeds, table, table["arms"][arm])
        return {"arms": rows, "main_minus_arm": _differences(rows), "severity": severity}

    def _dash_seed(self, label: str, run: Path, severity: int) -> dict[str, Any]:
        """One policy: report physics, then the simulated robot, each run on disk before the next."""
        path = self.out / "reality" / f"{label}.{run.name}.json"
        found = self._measured(path, severity=severity, episodes=self.options.episodes)
        found.setdefault("robot", [])
        if "batch" not in found:
            found["batch"] = reality.on_track(load_policy(run), severity, self.options.episodes)
            self._write(path, found)
        if self.options.robot_runs and not (run / "bundle" / "contract.json").is_file():
            export(load_policy(run))
        while len(found["robot"]) < self.options.robot_runs:
            number = len(found["robot"])
            keep = self.out / "reality" / f"{label}.{run.name}" / str(number)
            found["robot"].append(reality.robot_dash(run / "bundle", severity, reality.ROBOT_SEED + number, keep))
            self._write(path, found)
        return found

    def _dash_arm(self, seeds: list[dict[str, Any]], table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        of_seeds = {key: [seed["batch"][key] for seed in seeds] for key in DASH_KEYS}
        robot = [run for seed in seeds for run in seed["robot"]]
        return {
            **{key: round(sum(values) / len(values), 4) for key, values in of_seeds.items()},
            "intervals": {key: interval(values) for key, values in of_seeds.items()}, "of_seeds": of_seeds,
            "robot": {key: round(sum(r[key] for r in robot) / len(robot), 4) for key in DASH_KEYS} if robot else None,
            "robot_runs": len(robot), **self._size(table, row),
        }  # fmt: skip

    def ball(self) -> dict[str, Any]:
        """Seconds on the ball."""
        o, task = self.options, tasks.get("go2-ball")
        folder = self._design("ball", "go2-ball", ROUND_ARMS, o.ball_reward, [])
        rows = {arm: self._ball_arm(folder, arm) for arm in ROUND_ARMS}
        difference = paired("designed", rows["designed"]["of_seeds"], "human", rows["human"]["of_seeds"])
        still = reality.frozen(robots.get(task.robot).num_actions)
        rows["frozen_pose"] = reality.seconds_on_ball(still, task, o.episodes)
        return {"arms": rows, "designed_minus_human_s": difference, "episodes": o.episodes}

    def ball_again(self) -> dict[str, Any]:
        """The same after a second round."""
        o = self.options
        designs = self._second_round("ball", "go2-ball", o.ball_reward)
        rows = {arm: self._ball_arm(folder, arm) for arm, folder in designs.items()}
        difference = paired("designed", rows["designed"]["of_seeds"], "human", rows["human"]["of_seeds"])
        return {"arms": rows, "designed_minus_human_s": difference, "episodes": o.episodes}

    def ball_runs(self) -> dict[str, Any]:
        """Of single policies; always measured anew, since a folder anywhere may have changed."""
        o = self.options
        if not o.ball_runs:
            raise UserError("the piece `ball-runs` needs --ball-runs RUN [RUN ...]")
        policies = {str(run): load_policy(run) for run in o.ball_runs}
        for run, loaded in policies.items():
            if loaded.task.name != "go2-ball":
                raise UserError(f"{run} is a policy of {loaded.task.name}; --ball-runs takes those of go2-ball")
        rows = {run: reality.seconds_on_ball(p.act, p.task, o.episodes) for run, p in policies.items()}
        return {"runs": rows, "episodes": o.episodes}

    def _second_round(self, piece: str, task: str, reward: Path | None) -> dict[str, Path]:
        """By arm, a design that begins from that arm's policy of the first round that is best on select."""
        if not self._finished(piece):
            raise UserError(f"{self.out} has no finished piece `{piece}`, with whose policies a second round begins")
        first = self._begun(piece)
        assert first is not None
        arms = read_json(first / TABLE)["arms"]
        if missing := [arm for arm in ROUND_ARMS if arm not in arms]:
            raise UserError(f"{first} has no arm {missing[0]!r}, with whose policies a second round begins")
        designs = {}
        for arm in ROUND_ARMS:
            select = arms[arm]["select"]
            best = self._runs(first, arm)[select.index(max(select))]
            more = [f"run={best}", "own_bases=false"]
            designs[arm] = self._design(f"{piece}-again-{arm}", task, [arm], reward, more)
        return designs

    def _ball_arm(self, folder: Path, arm: str) -> dict[str, Any]:
        table = read_json(folder / TABLE)
        seeds = [self._ball_seed(run) for run in self._runs(folder, arm)]
        seconds = [seed["seconds"] for seed in seeds]
        return {
            "seconds": round(sum(seconds) / len(seconds), 3), "interval": interval(seconds), "of_seeds": seconds,
            "std_over_episodes": [seed["std"] for seed in seeds], **self._size(table, table["arms"][arm]),
        }  # fmt: skip

    def _ball_seed(self, run: Path) -> dict[str, Any]:
        path, episodes = self.out / "reality" / f"ball.{run.name}.json", self.options.episodes
        found = self._measured(path, episodes=episodes)
        if "seconds" not in found:
            loaded = load_policy(run)
            found |= reality.seconds_on_ball(loaded.act, loaded.task, episodes)
            self._write(path, found)
        return found

    @staticmethod
    def _measured(path: Path, **asked: int) -> dict[str, Any]:
        """What is known of a policy so far; of a new one, what is asked.

        Raises UserError where it was asked otherwise.
        """
        found = read_json(path) if path.is_file() else asked
        for name, value in asked.items():
            if found.get(name) != value:
                raise UserError(f"{path} was made with {name} {found.get(name)}, not {value}; delete it")
        return found

    def _size(self, table: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
        """At which size an arm ran. base_env_steps: null where it went on with a policy that was there."""
        own_base = table["base_randomization"] is not None
        return {
            "proposal": row["proposal"], "proposals_trained": row["samples"], "seeds": len(table["seeds"]),
            "base_env_steps": table["env_steps"] if own_base else None,
            "base_randomization": table["base_randomization"], "tune_env_steps": table["tune_env_steps"],
            "choose_env_steps": table["choose_env_steps"], "widen": table["widen"],
            "widen_falls_per_minute": table.get("widen_falls_per_minute"), "widths": row.get("widths"),
            "episodes_a_seed": self.options.episodes, "replayed": row["replayed"],
        }  # fmt: skip

    def _runs(self, design: Path, arm: str) -> list[Path]:
        """Run folders of an arm's final seeds."""
        return [design.parent.parent / run for run in read_json(design / TABLE)["arms"][arm]["runs"]]

    def _design(self, label: str, task: str, arms: Sequence[str], reward: Path | None, more: Sequence[str]) -> Path:
        """Folder of a finished design of that label: `gantry randomize`, begun or gone on with."""
        o, runs = self.options, self.out / "runs"
        known = self._begun(label)
        if known is not None and self._finished(label):
            return known
        models = set(arms) & set(OF_MODELS)
        llm = [f"llm={o.llm}"] if models else ["llm=inbox"]
        if models and o.llm == "transcript":
            llm.append(f"llm.transcript={o.transcript / label}")
        overrides = [
            f"task={task}", f"runs={runs}", f"name={label}", f"arms=[{','.join(arms)}]", f"samples={o.samples}",
            f"final_seeds={o.seeds}", f"tune_env_steps={o.tune_env_steps}", f"episodes={o.select_episodes}",
            f"report_episodes={o.episodes}", "own_bases=true", *llm, *more, *o.overrides,
        ]  # fmt: skip
        overrides += [f"env_steps={o.env_steps}"] if o.env_steps else []
        overrides += [f"reward={reward.absolute()}"] if reward is not None else []
        if known is not None:
            overrides.append(f"resume={known}")
        if status := _run_to_its_end([sys.executable, "-m", "gantry", "randomize", *overrides]):
            sys.exit(status)  # it has said why
        return self._design(label, task, arms, reward, more)

    def _begun(self, label: str) -> Path | None:
        """The folder of the design of that label, if there is one."""
        for path in sorted((self.out / "runs" / "sweeps").glob("*/randomize.json")):
            if read_json(path)["config"]["name"] == label:
                return path.parent
        return None

    def _finished(self, label: str) -> bool:
        folder = self._begun(label)
        return folder is not None and (folder / TABLE).is_file()

    @staticmethod
    def _write(path: Path, content: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(content, indent=1) + "\n")


def _differences(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The first arm minus each other one, paired by seed, where both have the same number of them."""
    main, *others = rows
    return {
        name: {
            key: paired(main, rows[main]["of_seeds"][key], name, rows[name]["of_seeds"][key])
            for key in ("velocity_m_s", "metres")
        }
        for name in others
        if len(rows[name]["of_seeds"]["metres"]) == len(rows[main]["of_seeds"]["metres"])
    }


def _run_to_its_end(command: Sequence[str]) -> int:
    """Its exit status. What ends this program ends that one too: nothing goes on training unseen."""
    process = subprocess.Popen(command, stdout=sys.stderr)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached it as well
        raise
    except SystemExit:
        process.terminate()
        process.wait()
        raise


def main() -> None:
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--pieces", default="prior,calibrate,dash,ball", help="comma-separated, of " + ", ".join(PIECES)
    )
    parser.add_argument("--prior-run", type=Path, help="a trained run for the piece `prior`")
    parser.add_argument("--prior-sample", type=int, default=20, help="values of the comparison; 0: all")
    parser.add_argument("--ball-runs", type=Path, nargs="+", default=[], help="run folders for the piece `ball-runs`")
    parser.add_argument("--arms", default=",".join(ARMS), help="of go2-dash, the main one first")
    parser.add_argument(
        "--severity", type=int, help="of the stand-in, as another calibration fixed it; default: the nearest to 65 %%"
    )
    parser.add_argument("--reward", type=Path, help="searched with the safety instruction; default: the human one")
    parser.add_argument("--reward-without-safety", type=Path, help="searched without, for the ablation")
    parser.add_argument("--ball-reward", type=Path, help="searched for go2-ball; default: the human one")
    parser.add_argument("--llm", default="inbox", help="inbox, transcript, or a model (configs/llm)")
    parser.add_argument("--transcript", type=Path, help="with --llm transcript")
    parser.add_argument("--env-steps", type=int, default=0, help="of a base policy; 0: the task's own")
    parser.add_argument("--tune-env-steps", type=int, default=1_000_000)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--select-episodes", type=int, default=128)
    parser.add_argument("--episodes", type=int, default=256, help="of each seed, on the stand-in")
    parser.add_argument("--robot-runs", type=int, default=5, help="of each seed, on the simulated robot")
    parser.add_argument("overrides", nargs="*", help="further Hydra overrides of `gantry randomize`")
    options = parser.parse_intermixed_args()
    options.arms = options.arms.split(",")
    if options.llm == "transcript" and options.transcript is None:
        parser.error("--llm transcript needs --transcript FOLDER")
    bench, pieces = Bench(options), options.pieces.split(",")
    if unknown_pieces := [piece for piece in pieces if piece not in PIECES]:
        parser.error(f"--pieces {unknown_pieces[0]}; valid: {', '.join(PIECES)}")
    figures: dict[str, Any] = {"reality": reality.__doc__.split("\n\n")[0]}  # type: ignore[union-attr]
    prior = bench.prior() if "prior" in pieces else None
    if prior is not None:
        figures |= {"prior_seconds": prior["prior_seconds"], "prior_speedup": prior["prior_speedup"], "prior": prior}
    if "calibrate" in pieces:
        figures["calibration"] = bench.calibrate()
    if dash := [piece for piece in DASH_PIECES if piece in pieces]:
        if "people" in dash and options.reward is None:
            parser.error("--pieces people needs --reward FILE; without it the arm `human` is the same")
        if "ablation" in dash and options.reward_without_safety is None:
            parser.error("--pieces ablation needs --reward-without-safety FILE")
        figures["dash"] = bench.dash(dash)
    rest = {"dash-again": bench.dash_again, "ball": bench.ball, "ball-again": bench.ball_again,
            "ball-runs": bench.ball_runs}  # fmt: skip
    figures |= {piece.replace("-", "_"): measure() for piece, measure in rest.items() if piece in pieces}
    figures["physics_hashes"] = {name: physics.digest(tasks.get(name)) for name in ("go2-dash", "go2-ball")}
    finish("transfer", figures, tasks.get("go2-dash"))


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        leave(error)
