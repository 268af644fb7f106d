"""Timing of a deployment over DDS, and tours of the simulated Go2 on physics that training never saw.

    python -m benchmarks.deploy BUNDLE [--minutes 10] [--tours 20] [--physics report] [--jobs 1]

Three parts, each with fresh processes on a DDS domain of its own over loopback.  Runtime, guard, simulated robot
and this process share the machine; `scheduling` says what the runtime got of it.  A real robot's own loop and
physics do not run on the runtime's computer, so there it has more room than here.

**Timing.**  `gantry deploy` walks `gantry robot go2` for so many minutes at the contract's 50 Hz: full LowCmd_
and LowState_, guard, log.  `tick_p99_ms` is from wake-up to command sent; a missed deadline is a command sent
later than one period after its deadline.  Jitter is the p99 of how far a command's lateness lies from the
run's median lateness.  Meanwhile this process runs an empty loop, the same clock and the same absolute
deadlines, the same scheduling with nothing to do, and measures the same of its wake-ups.

**Round trip.**  LowState_ echoes no command, so the robot's physics answers: every motor is limp but one, to
which a feed-forward torque of alternating sign is sent through the guard; the robot reports it as that motor's
`tau_est` in the first state after it obeyed.  The time is from `send` until a state with the new torque has
been read, at a random phase to the robot's 2 ms.

**Tours.**  The built-in tour on one robot a seed.  A tour is ok if the robot never fell, by its own record and
not by the deployment's belief, and every step was done.  `--jobs 2` is for machines with cores to spare: each
row tells its missed deadlines and the time that the robot lost.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import finish
from configs.errors import UserError
from envs import tasks
from sim2real.bundle import Bundle
from sim2real.clock import MonotonicClock
from sim2real.links.link import Command, FloatArray
from sim2real.log import read_log
from sim2real.realtime import no_garbage_collection, real_time
from sim2real.rehearsal import deploy, robot, summary_of, tour

ROUND = ([0.8, 0.0, 0.0], 8.0), ([0.5, 0.0, 0.6], 6.0), ([0.0, 0.3, 0.0], 4.0), ([0.4, 0.0, -0.6], 6.0)
"""Commands and seconds of the walk that is repeated while time is measured."""
ECHO_NM = 1.0
"""Feed-forward torque of the round trip: enough to be told from noise, too little to lift a leg."""
ECHO_TIMEOUT_S = 0.1
ECHO_SILENCE_S = 1.0
"""The guard of the round trip is patient: a lost echo must not end the measurement."""


def jitter_p99_ms(late_s: FloatArray) -> float:
    """p99 of the distance from the median lateness [ms]."""
    return float(np.percentile(np.abs(late_s - np.median(late_s)), 99) * 1e3)


def empty_loop(period_s: float, ended: threading.Event) -> FloatArray:
    """(T,) [s] lateness of wake-ups on absolute deadlines, with nothing to do, until `ended`."""
    clock = MonotonicClock()
    late_s: list[float] = []
    with real_time(), no_garbage_collection():
        began_s = clock.now_s()
        while not ended.is_set():
            deadline_s = began_s + len(late_s) * period_s
            clock.wait_until(deadline_s)
            late_s.append(clock.now_s() - deadline_s)
    return np.array(late_s)


def measure_timing(bundle: Bundle, minutes: float) -> dict[str, Any]:
    """Walk for `minutes` beside an empty loop."""
    period_s = bundle.contract.control_dt_s
    rounds = max(1, round(60.0 * minutes / sum(seconds for _, seconds in ROUND)))
    walk = [{"command": command, "for_s": 60.0 * minutes / rounds / len(ROUND)} for command, _ in ROUND]
    steps = [{"do": "stand"}, {"do": "run"}, *(walk * rounds), {"do": "hold"}, {"do": "damp"}]
    with tempfile.TemporaryDirectory(prefix="gantry-deploy-") as name:
        folder = Path(name)
        script = folder / "script.json"
        script.write_text(json.dumps(steps))
        with robot(folder) as domain:
            process, path = deploy(bundle.path, domain, folder, str(script))
            ended = threading.Event()
            # Reading the deployment's output blocks, so it is left to a thread: the empty loop needs this one.
            with ThreadPoolExecutor(1) as pool:
                summary_later = pool.submit(summary_of, process)
                summary_later.add_done_callback(lambda _: ended.set())
                idle_s = empty_loop(period_s, ended)
            summary = summary_later.result()
        log = read_log(path)
    states = [decision["state"] for decision in log.messages["/decision"]]
    walking = np.array([state == "running" for state in states])
    late_s, woke_s, sent_s = (log.array("/timing", key)[walking] for key in ("late_s", "woke_s", "sent_s"))
    if not walking.any():
        raise UserError(f"the robot never walked: {summary['reasons'] or [s['outcome'] for s in summary['steps']]}")
    tick_ms = np.percentile((sent_s - woke_s) * 1e3, [50, 99, 100])
    ours, empty = jitter_p99_ms(late_s), jitter_p99_ms(idle_s)
    return {
        "tick_p50_ms": round(float(tick_ms[0]), 3),
        "tick_p99_ms": round(float(tick_ms[1]), 3),
        "tick_max_ms": round(float(tick_ms[2]), 3),
        "policy_p99_ms": round(float(np.percentile(log.array("/timing", "policy_s")[walking], 99) * 1e3), 3),
        "missed_deadlines": summary["missed_deadlines"],
        "skipped_ticks": summary["skipped_ticks"],
        "jitter_p99_ms": round(ours, 3),
        "empty_loop_jitter_p99_ms": round(empty, 3),
        "jitter_beyond_empty_loop_ms": round(ours - empty, 3),
        "minutes": round(float(walking.sum()) * period_s / 60.0, 3),
        "ticks": summary["ticks"],
        "states_received": summary["link"]["received"],
        "states_lost": summary["link"]["lost"],
        "damped_for": summary["reasons"],
        "scheduling": summary["scheduling"],
        "log_dropped": summary["log_dropped"],
    }


def measure_round_trip(bundle: Bundle, samples: int) -> dict[str, Any]:
    """From a command given to the link to a state read from it that shows the command."""
    from sim2real.links.unitree import UnitreeLink

    contract = bundle.contract
    draw = random.Random(0)
    trips_s: list[float] = []
    unseen = 0
    with tempfile.TemporaryDirectory(prefix="gantry-deploy-") as name, robot(Path(name)) as domain, real_time():
        link = UnitreeLink(contract.safety, interface="lo", domain=domain, guard_silence_s=ECHO_SILENCE_S)
        link.open()
        try:
            limp = Command.limp(contract.home_joint_position)
            for sample in range(samples):
                torque = np.zeros(len(contract.joint_names))
                torque[0] = ECHO_NM if sample % 2 else -ECHO_NM
                command = Command(limp.joint_target, torque * 0.0, limp.kp, limp.kd, torque)
                sent_s = time.perf_counter()
                link.send(command)
                while time.perf_counter() - sent_s < ECHO_TIMEOUT_S:
                    state = link.read(0.01)
                    if state is not None and state.joint_torque[0] * torque[0] > 0.25:
                        trips_s.append(time.perf_counter() - sent_s)
                        break
                else:
                    unseen += 1
                time.sleep(draw.uniform(0.01, 0.03))
        finally:
            link.close()
    if not trips_s:
        raise UserError("no command came back: the robot ignores feed-forward torque")
    p50, p99 = np.percentile(np.array(trips_s) * 1e3, [50, 99])
    return {
        "round_trip_p50_ms": round(float(p50), 3),
        "round_trip_p99_ms": round(float(p99), 3),
        "round_trips": len(trips_s),
        "round_trips_unseen": unseen,
    }


def run_tours(
    bundle: Path, physics: str, count: int, jobs: int = 1, video: Path | None = None, keep: Path | None = None
) -> list[dict[str, Any]]:
    """Tours on seeds 0 to `count` - 1, each with fresh processes; `video` films the first.

    With a `keep` folder, logs and records stay in keep/SEED.
    """

    def one(seed: int) -> dict[str, Any]:
        row = tour(bundle, physics, seed, video if seed == 0 else None, keep / f"{seed}" if keep else None)
        verdict = "ok" if row["ok"] else f"falls {row['falls']}, {row['damped_for'] or row['undone']}"
        print(f"tour {seed}: {row['distance_m']} m, {verdict}", file=sys.stderr, flush=True)
        return row

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, range(count)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="bundle folder, or a run folder that holds one")
    parser.add_argument("--minutes", type=float, default=10.0, help="of walking while time is measured; 0: none")
    parser.add_argument("--round-trips", type=int, default=500, help="0: none")
    parser.add_argument("--tours", type=int, default=20, help="0: none")
    parser.add_argument("--physics", default="report", help="physics set of the tours (default report)")
    parser.add_argument("--jobs", type=int, default=1, help="tours at a time (default 1)")
    parser.add_argument("--video", type=Path, metavar="FILE", help="film the first tour")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="keep the tours' logs and records, and tours.json;\nRUN/deploy/tours shows them in the run's report",
    )
    options = parser.parse_args()
    for name, lowest in (("minutes", 0.0), ("round_trips", 0), ("tours", 0), ("jobs", 1)):
        if not getattr(options, name) >= lowest:
            raise UserError(f"--{name.replace('_', '-')} {getattr(options, name)}: valid is {lowest} or more")
    bundle = Bundle.load(options.bundle, robot="go2")
    figures: dict[str, Any] = {}
    if options.minutes:
        figures |= measure_timing(bundle, options.minutes)
    if options.round_trips:
        figures |= measure_round_trip(bundle, options.round_trips)
    if options.tours:
        rows = run_tours(bundle.path, options.physics, options.tours, options.jobs, options.video, options.keep)
        figures |= {"tours_ok": sum(row["ok"] for row in rows), "tours": len(rows), "tours_physics": options.physics}
        figures |= {"tours_without_a_fall": sum(row["falls"] == 0 for row in rows), "tour_rows": rows}
        if options.keep is not None:
            partial = options.keep / ".tours.json"
            partial.write_text(json.dumps({"tours": rows}, indent=1))
            partial.replace(options.keep / "tours.json")
    finish("deploy", figures | {"bundle_sha256": bundle.contract.sha256}, tasks.get(bundle.contract.task))


if __name__ == "__main__":
    try:
        main()
    except UserError as refusal:
        sys.exit(f"benchmarks.deploy: error: {refusal}")
