"""The checker's base: which names mean what, what may be assigned, and how often loops run."""

from __future__ import annotations

import ast
from typing import Any

from agents.reward_lists import ADVICE, MAX_CONSTANT_ITERATIONS, MAX_INTEGER, NAMESPACES
from agents.reward_syntax import Refusal, dropped_parts, is_word


class Names:
    """Knows a module's names; statements and expressions are checked by the classes that build on it."""

    def __init__(self, tree: ast.Module, allowed_fields: frozenset[str]) -> None:
        self.fields = allowed_fields
        self.problems: list[Refusal] = []
        dropped = {id(node) for part in dropped_parts(tree) for node in ast.walk(part)}
        self.used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in dropped}
        self.aliases = {"torch": "torch", "math": "math"}
        self.functions: set[str] = set()
        self.variables: set[str] = set()
        self.integers: dict[str, int] = {}
        self.calls: dict[str, dict[str, ast.AST]] = {}
        self._inside: list[str] = []
        self._scopes: list[dict[str, bool]] = []
        self._iterations = 1
        self._collect_names(tree)

    def _collect_names(self, tree: ast.Module) -> None:
        """Before visiting: which names are modules, functions, variables and constant integers."""
        lambdas: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for item in node.names:
                    if item.asname and item.name in NAMESPACES:
                        self.aliases[item.asname] = item.name
            elif isinstance(node, ast.ImportFrom) and node.module in NAMESPACES and not node.level:
                for item in node.names:
                    self.aliases[item.asname or item.name] = f"{node.module}.{item.name}"
            elif isinstance(node, ast.FunctionDef):
                self.functions.add(node.name)
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda):
                lambdas |= {id(target) for target in node.targets}
                self.functions |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in lambdas:
                self.variables.add(node.id)
            elif isinstance(node, ast.arg):
                self.variables.add(node.arg)
        taken = self.functions | self.variables | set(self.aliases)
        self._renamed: dict[str, str] = {}
        for name in sorted(name for name in taken if name.startswith("_") and not name.startswith("__")):
            new = "u" + name
            while new in taken:
                new = "u" + new
            self._renamed[name] = new
            taken.add(new)
        counts: dict[str, int] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                counts[node.id] = counts.get(node.id, 0) + 1
        for statement in tree.body:
            if isinstance(statement, ast.Assign | ast.AnnAssign):
                targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                value = self._integer(statement.value)
                if isinstance(targets[0], ast.Name) and value is not None and counts[targets[0].id] == 1:
                    self.integers[targets[0].id] = value

    def _name(self, node: ast.AST, name: str) -> str:
        if name.startswith("__"):
            raise Refusal(node, f"`{name}`: names with two leading underscores are not allowed")
        return self._renamed.get(name, name)

    def _path(self, node: ast.expr) -> str | None:
        """`torch.nn.functional.relu` for any way of spelling it; None for what is no module's attribute."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self.aliases:
            return None
        if node.id in self.variables or node.id in self.functions:
            raise Refusal(node, f"`{node.id}` is the module here; give your variable another name")
        return ".".join([self.aliases[node.id], *reversed(parts)])

    def _integer(self, node: ast.expr | None) -> int | None:
        """Value of a constant integer expression, or None."""
        if isinstance(node, ast.Constant) and type(node.value) is int:
            return node.value
        if isinstance(node, ast.Name):
            return self.integers.get(node.id)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._integer(node.operand)
            return None if value is None else -value
        if isinstance(node, ast.BinOp):
            left, right = self._integer(node.left), self._integer(node.right)
            if left is None or right is None or max(abs(left), abs(right)) > MAX_INTEGER:
                return None
            if isinstance(node.op, ast.Add):
                return left + right
            if isinstance(node.op, ast.Sub):
                return left - right
            if isinstance(node.op, ast.Mult):
                return left * right
            if isinstance(node.op, ast.FloorDiv) and right:
                return left // right
            if isinstance(node.op, ast.Pow) and 0 <= right <= 64:
                return min(left**right, MAX_INTEGER)
        return None

    def visit(self, node: Any) -> Any:
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is None:
            kind = type(node).__name__
            advice = ADVICE.get(kind, "allowed: assignments, if, for, return, functions and expressions")
            raise Refusal(node, f"{kind} is not allowed here; {advice}")
        return method(node)

    def _target(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name):
            if node.id in self.aliases:
                raise Refusal(node, f"`{node.id}` is the module here; give your variable another name")
            if node.id in self.functions and node.id != "reward":
                raise Refusal(node, f"`{node.id}` is a function and a variable; rename one of them")
            node.id = self._name(node, node.id)
            return node
        if isinstance(node, ast.Tuple | ast.List):
            node.elts = [self._target(element) for element in node.elts]
            return node
        if isinstance(node, ast.Subscript):
            name = node.value
            by_string = is_word(node.slice)
            if isinstance(name, ast.Name) and (self._is_local_dict(name) or by_string):
                name.id = self._name(name, name.id)
                node.slice = self.visit(node.slice)
                return node
            raise Refusal(
                node,
                "assigning to a part of a tensor or list is not allowed; use torch.where(mask, new, old), "
                "torch.cat or torch.stack (entries of a dict made in this function can be assigned)",
            )
        raise Refusal(node, "only names and entries of a dict can be assigned; the state is read-only")

    def _binding(self, name: str) -> tuple[int, bool]:
        """The scope that binds a name (0 is the module, -1 none) and whether it is a dict made there."""
        for level in range(len(self._scopes) - 1, -1, -1):
            if name in self._scopes[level]:
                return level, self._scopes[level][name]
        return -1, False

    def _is_local_dict(self, node: ast.Name) -> bool:
        level, is_dict = self._binding(node.id)
        if level == 0 and self._inside:
            raise Refusal(node, f"`{node.id}` belongs to the module; {ADVICE['Global']}")
        return is_dict

    def _bound(self, node: ast.expr) -> int | None:
        """How often a loop over this runs, where that can be seen."""
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            return len(node.elts)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            return None
        if node.func.id == "range" and 1 <= len(node.args) <= 3:
            values = [self._integer(argument) for argument in node.args]
            known = [value for value in values if value is not None]
            if len(known) == len(values) and not (len(known) == 3 and known[2] == 0):
                return min(len(range(*known)), MAX_INTEGER) if max(map(abs, known)) < MAX_INTEGER else MAX_INTEGER
        if node.func.id in ("enumerate", "reversed", "list", "tuple", "zip", "sorted") and node.args:
            bounds = [bound for bound in map(self._bound, node.args) if bound is not None]
            return min(bounds) if bounds else None
        return None

    def _enter_loop(self, node: ast.AST, iterable: ast.expr) -> None:
        bound = self._bound(iterable)
        self._iterations *= 1 if bound is None else max(1, bound)
        if self._iterations > MAX_CONSTANT_ITERATIONS:
            raise Refusal(
                node if hasattr(node, "lineno") else iterable,
                f"these loops run {self._iterations} times; at most {MAX_CONSTANT_ITERATIONS} are allowed "
                "(operate on whole tensors instead)",
            )

    def _arguments(self, node: ast.arguments) -> ast.arguments:
        """Defaults are code that runs and are checked; annotations are dropped."""
        if node.vararg or node.kwarg:
            raise Refusal(
                node.vararg or node.kwarg or node,
                "`*args` and `**kwargs` are not allowed; name the arguments",
            )
        for argument in (*node.posonlyargs, *node.args, *node.kwonlyargs):
            argument.arg = self._name(argument, argument.arg)
            argument.annotation = None
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [default and self.visit(default) for default in node.kw_defaults]
        return node
