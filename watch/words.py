"""Numbers and outcomes in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from watch.evaluation import SetResult
from watch.run_reader import Run
from watch.values import Interval, number

DASH = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """The number with that many significant digits, as people write it: 0.831, 12 300, 1.2e-5."""
    if value is None:
        return DASH
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e9 or size < 1e-4:
        shown = f"{value:.{digits - 1}e}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    elif size >= 10 ** (digits - 1):
        shown = f"{value:,.0f}".replace(",", "\u202f")
    else:
        shown = f"{float(f'{value:.{digits}g}'):.10f}".rstrip("0").rstrip(".")
    return shown.replace("-", "−")


def fixed(value: float | None, decimals: int = 2) -> str:
    """0.80, also where the last digit is a zero."""
    return DASH if value is None else f"{value:.{decimals}f}".replace("-", "−")


def plus_minus(value: Interval, scale: float = 1.0) -> tuple[str, str]:
    """(mean, half the interval), both to the digits that the interval gives meaning to: 0.800, 0.009."""
    mean = value.mean * scale
    if value.low is None or value.high is None:
        return significant(mean), ""
    half = (value.high - value.low) / 2 * scale
    if half <= 0 or abs(mean) >= 1e6:
        return significant(mean), significant(half, 2) if half > 0 else ""
    # Two digits of the uncertainty while it starts with 1 or 2, else one (as the Particle Data Group does).
    first, exponent = f"{half:.1e}".split("e")
    decimals = min(6, max(0, -int(exponent) + (1 if float(first) < 3 else 0)))
    return fixed(mean, decimals), fixed(half, decimals)


def with_unit(value: float | None, unit: str = "", digits: int = 3) -> str:
    """0.12 m/s; degrees and percent without a space."""
    shown = significant(value, digits)
    if value is None or not unit:
        return shown
    return shown + {"deg": "°", "%": "\u202f%"}.get(unit, "\u202f" + readable_unit(unit))


def readable_unit(unit: str) -> str:
    """m/s^2 as m/s²."""
    return unit.replace("^2", "²").replace("^3", "³").replace("deg", "°")


def spread(value: Interval | None, scale: float = 1.0) -> str:
    """The 95 % interval, such as 0.82 to 0.84; empty where there is none."""
    if value is None or value.low is None or value.high is None or value.low == value.high:
        return ""
    return f"{significant(value.low * scale)} to {significant(value.high * scale)}"


def percent(share: float | None) -> str:
    return DASH if share is None else f"{significant(100 * share, 2 if share < 0.1 else 3)}\u202f%"


def duration(seconds: float | None) -> str:
    """Such as 4 min 05 s."""
    if seconds is None or seconds < 0:
        return DASH
    if seconds < 60:
        return f"{significant(seconds, 2)}\u202fs"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours}\u202fh {minutes_left:02d}\u202fmin" if hours else f"{minutes}\u202fmin {rest:02d}\u202fs"


def count(value: float | None) -> str:
    """Such as 4.0 million."""
    if value is None:
        return DASH
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= size:
            return f"{value / size:.3g}\u202f{word}"
    return f"{value:,.0f}".replace(",", "\u202f")


def bytes_size(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.3g}\u202f{unit}" if unit != "B" else f"{value:.0f}\u202fB"
        value /= 1000
    raise AssertionError


def label(name: str) -> str:
    """velocity_error as velocity error."""
    return name.replace("_", " ")


def shell(argv: Sequence[str]) -> str:
    """The command as one would type it; the installed script's folder is left out."""
    if not argv:
        return ""
    program = argv[0].rsplit("/", 1)[-1]
    return " ".join([program if " " in program else shlex.quote(program), *map(shlex.quote, argv[1:])])


def headline(run: Run) -> tuple[str, str]:
    """(verdict, explanation): how the run did, in one line and in a few sentences."""
    best = run.evaluation.main
    if best is not None and best.fitness is not None:
        return _judged(run, best, best.fitness)
    fitness, steps = run.progress.last("fitness"), run.env_steps
    so_far = f"Fitness while training was last {fixed(fitness)}." if fitness is not None else ""
    if run.state == "running":
        aim = number(run.record.get("target_env_steps")) or _config_number(run, "env_steps")
        part = f" of {count(aim)}" if aim else ""
        return f"Training: {count(steps or 0)}{part} steps done", so_far
    why = {
        "failed": "The run failed",
        "stopped": "The run was stopped before it was evaluated",
        "killed": "The run ended without a word",
        "broken": "This run cannot be read in full",
    }.get(run.state, "Not evaluated yet")
    return why, " ".join(part for part in (f"{run.reason}." if run.reason else "", so_far) if part)


def _judged(run: Run, best: SetResult, fitness: Interval) -> tuple[str, str]:
    threshold = run.evaluation.threshold
    verdict = f"Fitness {fixed(fitness.mean)} on {best.label} physics"
    if threshold is not None:
        reached = fitness.mean >= threshold
        verdict += f", {'above' if reached else 'below'} the task’s threshold of {significant(threshold)}"
    said = []
    if best.fall_rate is not None:
        episodes = f" of {count(run.evaluation.episodes)} episodes" if run.evaluation.episodes else " of the episodes"
        none = best.fall_rate.mean == 0
        said.append(
            f"{'No' if none else percent(best.fall_rate.mean)}{episodes} ended in a fall.".replace("No of", "None of")
        )
    velocity, yaw = best.measures.get("velocity_error"), best.measures.get("yaw_rate_error")
    if velocity and yaw:
        said.append(
            f"The commanded velocity is followed within {with_unit(velocity.mean, velocity.unit)} and "
            f"{with_unit(yaw.mean, yaw.unit)} on average."
        )
    if best.diverged:
        said.append(f"{best.diverged} simulations diverged and are left out.")
    if run.seconds:
        said.append(
            f"Training took {duration(run.seconds)}" + (f" and {count(run.env_steps)} steps." if run.env_steps else ".")
        )
    if run.state != "finished":
        said.append(f"The run itself is {run.state}{f': {run.reason}' if run.reason else ''}.")
    return verdict, " ".join(said)


def _config_number(run: Run, key: str) -> float | None:
    try:
        return float(run.config[key])
    except (KeyError, ValueError):
        return None
