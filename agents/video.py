"""`gantry video RUN`: renders a video of a run's policy."""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

from configs.errors import UserError

MAX_SIMULATIONS = 16


def film(
    run: Path,
    *,
    seconds: float = 20.0,
    physics: str = "randomized",
    seed: int = 0,
    width: int = 640,
    height: int = 480,
    fps: int | None = None,
    simulations: int = 1,
    camera: str = "track",
    output: Path | None = None,
) -> Path:
    """Renders a video of the run's policy, without exploration. Returns the file.

    Args:
        run: the run's folder.
        seconds: length of the video, in real time.
        physics: name of the physics set.
        seed: of starts, commands and physics.
        width: of each simulation's picture [pixel].
        height: of each simulation's picture [pixel].
        fps: frames a second; None means one a control step.
        simulations: how many to show side by side.
        camera: one of the robot's MJCF.
        output: an .mp4 file; None means `video.mp4` in the run's folder.

    Raises:
        UserError: the run or an option is of no use, or no OpenGL back end works.
    """
    if not 1 <= simulations <= MAX_SIMULATIONS:
        raise UserError(f"simulations {simulations} is out of range; valid: 1 to {MAX_SIMULATIONS}")
    output = run / "video.mp4" if output is None else output
    if output.suffix.lower() != ".mp4":
        raise UserError(f"output {str(output)!r} is no MP4 file; end its name in .mp4")
    # Imported late, so that --help and bad options answer at once.
    from agents.checkpoint import load_policy
    from envs import physics as physics_sets
    from envs.rendering import record

    policy = load_policy(run)
    environment = physics_sets.build(policy.task, physics, simulations, seed, num_threads=1)
    return record(
        environment,
        policy.act,
        output,
        seconds,
        width=width,
        height=height,
        fps=fps,
        simulations=range(simulations),
        physics=physics,
        camera=camera,
    )


def parser() -> argparse.ArgumentParser:
    """The command line of `film`, whose defaults are its own."""
    made = argparse.ArgumentParser(
        prog="gantry video",
        description="Render a video of a run's policy, with the command and the episode's physics on it.",
    )
    made.add_argument("run", type=Path, metavar="RUN", help="the run's folder")
    made.add_argument("--seconds", type=float, help="length of the video (%(default)s)")
    made.add_argument("--physics", help="nominal, randomized, or the held-out select or report (%(default)s)")
    made.add_argument("--seed", type=int, help="of starts, commands and physics (%(default)s)")
    made.add_argument("--width", type=int, help="of each simulation's picture, in pixels (%(default)s)")
    made.add_argument("--height", type=int, help="of each simulation's picture, in pixels (%(default)s)")
    made.add_argument("--fps", type=int, help="frames a second (default: one a control step)")
    made.add_argument("--simulations", type=int, help="how many to show side by side (%(default)s)")
    made.add_argument("--camera", help="a camera of the robot's MJCF (%(default)s)")
    made.add_argument("--output", type=Path, help="the file (default: RUN/video.mp4)")
    made.set_defaults(**{p.name: p.default for p in inspect.signature(film).parameters.values() if p.name != "run"})
    return made


def main() -> None:
    print(film(**vars(parser().parse_args())))


if __name__ == "__main__":
    main()
