"""Check reward code against what is allowed and write it anew from the checked syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from agents.reward_check_statements import Statements
from agents.reward_lists import MAX_FUNCTIONS, MAX_PROBLEMS
from agents.reward_problem import Problem, RewardCodeError
from agents.reward_syntax import Refusal, parse


@dataclass(frozen=True)
class CheckedReward:
    """Source that passed `check`; only `check` makes one."""

    source: str
    """Written anew from the checked syntax tree: this, and nothing else, is executed."""
    allowed_fields: frozenset[str]


class Checker(Statements):
    """Walks a syntax tree, builds the cleaned one, and collects what is refused.

    Kinds of syntax without a `visit_` method are refused.
    """

    def refuse_recursion(self) -> None:
        if len(self.functions) > MAX_FUNCTIONS:
            raise RewardCodeError(f"{len(self.functions)} functions; at most {MAX_FUNCTIONS} are allowed")
        finished: set[str] = set()

        def follow(name: str, path: tuple[str, ...]) -> None:
            if name in finished:
                return
            for called, node in self.calls.get(name, {}).items():
                if called in (*path, name):
                    raise Refusal(node, f"`{called}` calls itself (over {' -> '.join((*path, name))}); use a loop")
                follow(called, (*path, name))
            finished.add(name)

        for name in self.calls:
            follow(name, ())

    def refuse_wrong_signature(self, tree: ast.Module) -> None:
        rewards = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "reward"]
        if not rewards:
            raise RewardCodeError("no function `reward` is defined at the top level; write `def reward(s):`")
        arguments = rewards[-1].args
        required = len(arguments.posonlyargs) + len(arguments.args) - len(arguments.defaults)
        if required != 1 or any(default is None for default in arguments.kw_defaults):
            raise Refusal(rewards[-1], "`reward` takes the state and nothing else: `def reward(s):`")


def check(source: str, allowed_fields: Iterable[str]) -> CheckedReward:
    """Check reward code against the lists above and return the cleaned source.

    Args:
        source: Python with `def reward(s)`, as `extract` returns it.
        allowed_fields: names of the state's fields.

    Raises:
        RewardCodeError: up to `MAX_PROBLEMS` problems, each with its line and what is allowed instead.
    """
    fields = frozenset(allowed_fields)
    lines = source.split("\n")
    tree = parse(source)
    checker = Checker(tree, fields)
    cleaned = checker.module(tree)
    problems = checker.problems
    if not problems:
        try:
            checker.refuse_recursion()
            checker.refuse_wrong_signature(cleaned)
        except Refusal as refusal:
            problems = [refusal]
    if problems:
        found = [(p.line, lines[p.line - 1].strip()[:120] if p.line else "", str(p)) for p in problems]
        raise RewardCodeError([Problem(*items) for items in found[:MAX_PROBLEMS]])
    try:
        return CheckedReward(ast.unparse(ast.fix_missing_locations(cleaned)) + "\n", fields)
    except (ValueError, RecursionError) as error:  # quotes inside an f-string that no quoting can express
        raise RewardCodeError(f"the code cannot be written anew: {error}; simplify its strings") from None
