"""Try a reward on recorded states: shapes, finite numbers, the same twice, and the state left as it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agents.reward_load import runtime_error
from agents.reward_problem import RewardCodeError

if TYPE_CHECKING:
    from torch import Tensor


def _default_state(fields: Mapping[str, Tensor]) -> SimpleNamespace:
    """Fields as attributes; 0-dimensional tensors (constants of the robot or task) as plain numbers."""
    return SimpleNamespace(**{name: value.item() if value.ndim == 0 else value for name, value in fields.items()})


def _at_batch_size(recorded: Mapping[str, Tensor], constants: frozenset[str], size: int) -> dict[str, Tensor]:
    """Recorded states repeated or cut to `size` rows, in memory of their own."""
    import torch

    made = {}
    for name, value in recorded.items():
        if name in constants or value.ndim == 0:
            made[name] = value.clone()
        else:
            made[name] = value[torch.arange(size) % len(value)].clone()
    return made


def dry_run(
    reward: Callable[[Any], dict[str, Tensor]],
    recorded: Mapping[str, Tensor],
    *,
    constants: Iterable[str] = (),
    make_state: Callable[[Mapping[str, Tensor]], Any] | None = None,
    batch_sizes: Sequence[int] = (1, 3, 4096),
    max_call_s: float = 1.0,
) -> dict[str, Any]:
    """Call a reward on recorded states and report, or raise what is wrong with it.

    Checked at the recorded batch size M and at each of `batch_sizes`: components are (N,), finite, the same
    when called twice, and leave every field as it was (version counter and value). At M: they are not the
    same for all states. At the largest size: one call takes at most `max_call_s` of processor time.

    Args:
        recorded: fields by name, (M, ...) each; 0-dimensional tensors and `constants` are not per simulation.
        constants: names of fields that have no batch dimension.
        make_state: builds what the reward reads from such fields; plain attributes by default.

    Returns:
        ``components``: per name mean, std, low and high over the recorded states; ``call_s``
        at the largest batch; ``rows_independent``: whether a simulation's reward stays the same whatever else
        is in the batch (to 1e-4).

    Raises:
        RewardCodeError: with feedback for the author.
    """
    import torch

    constant_names = frozenset(constants)
    make_state = make_state or _default_state
    rows = next(len(value) for name, value in recorded.items() if value.ndim and name not in constant_names)
    source = getattr(reward, "source", "")
    results: dict[int, dict[str, Tensor]] = {}
    call_s = 0.0
    for size in sorted({rows, *batch_sizes}):
        fields = _at_batch_size(recorded, constant_names, size)
        before = {name: (value._version, value.clone()) for name, value in fields.items()}
        state = make_state(fields)
        try:
            with torch.no_grad():
                first = {name: value.clone() for name, value in reward(state).items()}
                started = time.process_time()
                second = reward(state)
                call_s = time.process_time() - started
        except RewardCodeError:
            raise
        except Exception as error:
            raise runtime_error(error, source) from None
        _require_good_components(first, second, size)
        for name, (version, value) in before.items():
            if fields[name]._version != version or not torch.equal(fields[name].nan_to_num(), value.nan_to_num()):
                raise RewardCodeError(f"the reward changed the state's `{name}`; compute new tensors instead")
        results[size] = first
    if call_s > max_call_s:
        raise RewardCodeError(
            f"one call at {max(results)} simulations takes {call_s:.2f} s of processor time; at most {max_call_s:g} s"
        )
    return _summary(results, rows, call_s)


def _require_good_components(first: Mapping[str, Tensor], second: Mapping[str, Tensor], size: int) -> None:
    import torch

    for name, value in first.items():
        if value.shape != (size,):
            raise RewardCodeError(
                f"component {name!r} has shape {tuple(value.shape)} for {size} simulations, not ({size},)"
            )
        bad = ~torch.isfinite(value)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise RewardCodeError(
                f"component {name!r} is {value[row].item()} for {int(bad.sum())} of {size} recorded states; "
                "guard divisions, logarithms and roots with torch.clamp(x, min=1e-6)"
            )
        if name not in second or not torch.equal(value, second[name]):
            raise RewardCodeError(f"component {name!r} differs between two calls with the same state; keep no memory")


def _summary(results: Mapping[int, Mapping[str, Tensor]], rows: int, call_s: float) -> dict[str, Any]:
    import torch

    recorded = results[rows]
    if rows > 1 and all(bool((value == value[0]).all()) for value in recorded.values()):
        raise RewardCodeError(
            f"every component is the same for all {rows} recorded states; the reward must depend on the state"
        )
    independent = all(
        torch.allclose(value[: min(size, rows)], recorded[name][: min(size, rows)], rtol=1e-4, atol=1e-5)
        for size, components in results.items()
        for name, value in components.items()
        if name in recorded
    )
    components = {
        name: {
            "mean": value.mean().item(),
            "std": value.std(correction=0).item(),
            "low": value.min().item(),
            "high": value.max().item(),
        }
        for name, value in recorded.items()
    }
    return {"components": components, "call_s": call_s, "rows_independent": independent}
