"""Make checked reward code callable: a handful of builtins, and a `torch` that has only what is listed."""

from __future__ import annotations

import ast
import linecache
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from agents.reward_check import CheckedReward
from agents.reward_lists import (
    BUILTINS,
    COMPONENT_NAME,
    CONSTANTS,
    FILE,
    FUNCTIONS,
    MAX_CALL_ITERATIONS,
    MAX_COMPONENTS,
)
from agents.reward_problem import Problem, RewardCodeError, bad_component_name

if TYPE_CHECKING:
    from torch import Tensor


def namespaces() -> dict[str, SimpleNamespace]:
    """`torch` and `math` with nothing but what is listed."""
    import math

    import torch
    import torch.nn.functional as functional

    # Replaced where the original takes `inplace` or `out` as a positional argument.
    safe: dict[str, Callable[..., Any]] = {
        "torch.norm": lambda input, p="fro", dim=None, keepdim=False, dtype=None: torch.norm(
            input, p, dim, keepdim, dtype=dtype
        ),
        "torch.nn.functional.relu": torch.relu,
        "torch.nn.functional.elu": lambda input, alpha=1.0: functional.elu(input, alpha),
        "torch.nn.functional.leaky_relu": lambda input, negative_slope=0.01: functional.leaky_relu(
            input, negative_slope
        ),
        "torch.nn.functional.silu": lambda input: functional.silu(input),
        "torch.nn.functional.hardsigmoid": lambda input: functional.hardsigmoid(input),
        "torch.nn.functional.normalize": lambda input, p=2.0, dim=1, eps=1e-12: functional.normalize(
            input, p, dim, eps
        ),
    }
    roots = {"torch": torch, "math": math}
    made: dict[str, SimpleNamespace] = {"torch": SimpleNamespace(), "math": SimpleNamespace()}
    for path in sorted(FUNCTIONS | CONSTANTS):
        first, *rest, last = path.split(".")
        real: Any = roots[first]
        shown = made[first]
        for part in rest:
            real = getattr(real, part)
            if not hasattr(shown, part):
                setattr(shown, part, SimpleNamespace())
            shown = getattr(shown, part)
        setattr(shown, last, safe.get(path) or getattr(real, last))
    return made


class _CountLoops(ast.NodeTransformer):
    """Wraps what each loop runs over, so that iterations are counted whatever it is."""

    @staticmethod
    def _counted(iterable: ast.expr) -> ast.expr:
        function = ast.Name(id="__counted__", ctx=ast.Load())
        return ast.copy_location(ast.Call(func=function, args=[iterable], keywords=[]), iterable)

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._counted(node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = self._counted(node.iter)
        return node


class Reward:
    """A loaded reward: call it with the state, get the weighted components by name.

    Returned tensors may share memory with the state; do not write into them.
    """

    def __init__(self, checked: CheckedReward) -> None:
        import builtins

        self.source = checked.source
        self._iterations = 0
        self._names: tuple[Any, ...] = ()
        allowed = {name: getattr(builtins, name) for name in BUILTINS}
        allowed |= {"range": _short_range, "__import__": _import_for_torch}
        scope = {"__builtins__": allowed, "__name__": "reward", "__counted__": self._counted, **namespaces()}
        tree = ast.fix_missing_locations(_CountLoops().visit(ast.parse(checked.source)))
        # So that tracebacks show the line.
        linecache.cache[FILE] = (len(self.source), None, self.source.splitlines(keepends=True), FILE)
        exec(compile(tree, FILE, "exec", dont_inherit=True), scope)
        self._function: Callable[[Any], Any] = scope["reward"]  # type: ignore[assignment]

    def _counted(self, iterable: Iterable[Any]) -> Iterator[Any]:
        for item in iterable:
            self._iterations += 1
            if self._iterations > MAX_CALL_ITERATIONS:
                raise RewardCodeError(
                    f"the loops ran more than {MAX_CALL_ITERATIONS} times in one call; use whole tensors"
                )
            yield item

    def __call__(self, state: Any) -> dict[str, Tensor]:
        """Return components, each (N,) float32 (booleans and integers are converted).

        Raises:
            RewardCodeError: the result is not a dict of (N,) tensors with proper names.
        """
        import torch

        self._iterations = 0
        result = self._function(state)
        if not isinstance(result, dict) or not result:
            what = "an empty dict" if isinstance(result, dict) else f"a {type(result).__name__}"
            raise RewardCodeError(f"`reward` returned {what}; return a dict of components, each a tensor (N,)")
        if (names := tuple(result)) != self._names:
            self._check_names(names)
        length = None
        for name, value in result.items():
            if not isinstance(value, torch.Tensor):
                raise RewardCodeError(
                    f"component {name!r} is a {type(value).__name__}, not a tensor; for a constant use "
                    "torch.full_like(x, value) with any (N,) field x"
                )
            if value.ndim != 1 or (length is not None and len(value) != length):
                hint = "; reduce over joints or feet with .sum(dim=-1) or .squeeze(-1)" if value.ndim > 1 else ""
                raise RewardCodeError(f"component {name!r} has shape {tuple(value.shape)}, not (N,){hint}")
            length = len(value)
            if value.is_complex():
                raise RewardCodeError(f"component {name!r} is complex; return real numbers")
        self._names = names
        return {name: value.to(torch.float32) for name, value in result.items()}

    @staticmethod
    def _check_names(names: Sequence[Any]) -> None:
        if len(names) > MAX_COMPONENTS:
            raise RewardCodeError(f"{len(names)} components; at most {MAX_COMPONENTS} are allowed")
        for name in names:
            if not isinstance(name, str) or not COMPONENT_NAME.fullmatch(name):
                raise RewardCodeError(bad_component_name(str(name)))


def _import_for_torch(name: str, *arguments: Any) -> Any:
    """Some of torch's compiled functions import a part of torch when they first run, through their caller.

    Reward code itself cannot name this.
    """
    if name.split(".")[0] not in ("torch", "numpy"):
        raise ImportError(f"{name} cannot be imported in reward code")
    return __import__(name, *arguments)


def _short_range(*arguments: int) -> range:
    """`range`, but `list(range(10**12))` is an error instead of all the memory."""
    result = range(*arguments)
    if len(result) > MAX_CALL_ITERATIONS:
        raise RewardCodeError(f"range over {len(result)} numbers; at most {MAX_CALL_ITERATIONS} are allowed")
    return result


def load(checked: CheckedReward) -> Reward:
    """Make checked code callable. Module-level constants are computed here, so do it in the confined child.

    Raises:
        RewardCodeError: the module-level code fails.
    """
    try:
        return Reward(checked)
    except RewardCodeError:
        raise
    except Exception as error:
        raise runtime_error(error, checked.source) from None


def runtime_error(error: Exception, source: str) -> RewardCodeError:
    """An error inside reward code as feedback: the innermost line of the reward, and the message."""
    lines = source.splitlines()
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = places[-1] if places else None
    text = lines[line - 1].strip()[:120] if line and line <= len(lines) else ""
    message = f"{type(error).__name__}: {str(error).strip()[:400]}"
    return RewardCodeError([Problem(line, text, message)])
