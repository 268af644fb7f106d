"""Questions about the syntax tree of reward code, before it is checked."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Iterator, Sequence

from agents.reward_lists import MAX_SOURCE_CHARACTERS, MAX_SYNTAX_DEPTH, MAX_SYNTAX_NODES
from agents.reward_problem import Problem, RewardCodeError


class Refusal(Exception):
    def __init__(self, node: ast.AST, message: str) -> None:
        super().__init__(message)
        self.line = getattr(node, "lineno", None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`? " if close else ""


def parse(source: str) -> ast.Module:
    """Parse within limits of size and depth."""
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise RewardCodeError(f"the code has {len(source)} characters; at most {MAX_SOURCE_CHARACTERS} are allowed")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise RewardCodeError(
            [Problem(error.lineno, (error.text or "").strip()[:120], f"syntax error: {error.msg}")]
        ) from None
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise RewardCodeError(f"the code cannot be parsed: {type(error).__name__}: {str(error)[:200]}") from None
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    count = 0
    while waiting:  # not recursive: the depth is what is being measured
        node, depth = waiting.pop()
        count += 1
        if depth > MAX_SYNTAX_DEPTH or count > MAX_SYNTAX_NODES:
            what = f"nested deeper than {MAX_SYNTAX_DEPTH} levels" if depth > MAX_SYNTAX_DEPTH else "too long"
            raise RewardCodeError([Problem(getattr(node, "lineno", None), "", f"the code is {what}; split it up")])
        waiting += [(child, depth + 1) for child in ast.iter_child_nodes(node)]
    return tree


def own_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a function or module without those of the functions inside it."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef):
            for name in ("body", "orelse"):
                yield from own_statements(getattr(statement, name, None) or [])


def dropped_parts(tree: ast.AST) -> Iterator[ast.AST]:
    """Annotations and decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield from (*node.decorator_list, *([node.returns] if node.returns else []))
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation:
            yield node.annotation


def _is_new_dict(value: ast.expr | None) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "dict"
    return isinstance(value, ast.Dict | ast.DictComp)


def is_word(key: ast.expr) -> bool:
    """A string that is not empty: assigning by such a key fails on a tensor, so it can only reach a dict.

    torch takes a string for a sequence of indices and then fails on its letters. The empty one has none, so
    it is left out, whatever a version of torch makes of it.
    """
    parts = key.values if isinstance(key, ast.JoinedStr) else [key]
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value for part in parts)


def bindings(body: Sequence[ast.stmt], arguments: ast.arguments | None = None) -> dict[str, bool]:
    """Names bound here, True for those bound to new dicts only: setting their entries touches no tensor."""
    bound: dict[str, bool] = {}
    if arguments is not None:
        bound |= {item.arg: False for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    for statement in own_statements(body):
        targets: list[ast.expr] = []
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign | ast.For):
            targets = [statement.target]
        is_dict = isinstance(statement, ast.Assign | ast.AnnAssign) and _is_new_dict(statement.value)
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    bound[node.id] = bound.get(node.id, True) and is_dict and node is target
    return bound
