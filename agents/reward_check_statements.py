"""Which statements reward code may use, and what becomes of them."""

from __future__ import annotations

import ast
import copy
from collections.abc import Sequence

from agents.reward_check_expressions import Expressions
from agents.reward_lists import ADVICE, ANNOTATION_PACKAGES, CONSTANTS, FUNCTIONS, GENERIC_TYPES, NAMESPACES
from agents.reward_syntax import Refusal, bindings


class Statements(Expressions):
    """Checks statements; what is dropped becomes no statement at all."""

    def body(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Visit each statement; one that is refused is noted and the next one is still looked at."""
        kept: list[ast.stmt] = []
        for statement in statements:
            try:
                new = self.visit(statement)
            except Refusal as refusal:
                self.problems.append(refusal)
                continue
            kept += new if isinstance(new, list) else [new]
        return kept

    def _block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        return self.body(statements) or [ast.Pass()]

    def module(self, tree: ast.Module) -> ast.Module:
        self._scopes.append(bindings(tree.body))
        statements = [statement for statement in tree.body if not self._is_dropped_at_top(statement)]
        return ast.Module(body=self.body(statements), type_ignores=[])

    def _is_dropped_at_top(self, node: ast.stmt) -> bool:
        """`if __name__ == "__main__":`, `if TYPE_CHECKING:`, names of types, a sketch of the State class."""
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Subscript | ast.Attribute):
            whole = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            is_generic = isinstance(whole, ast.Name) and whole.id in GENERIC_TYPES - self.variables
            return is_generic or (isinstance(whole, ast.Attribute) and self._path(whole) == "torch.Tensor")
        if isinstance(node, ast.If):
            test = node.test.left if isinstance(node.test, ast.Compare) else node.test
            return isinstance(test, ast.Name) and test.id in ("__name__", "TYPE_CHECKING") and not node.orelse
        return isinstance(node, ast.ClassDef) and node.name == "State"

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        for item in node.names:
            first = item.name.split(".")[0]
            if (item.asname or first) not in self.used or first in ANNOTATION_PACKAGES:
                continue
            if item.name not in NAMESPACES:
                raise Refusal(node, f"`import {item.name}` is not allowed; {ADVICE['Import']}")
        return []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        package = (node.module or "").split(".")[0]
        names = {item.name for item in node.names if (item.asname or item.name) in self.used | {"*"}}
        if names == {"State"} or (package in ANNOTATION_PACKAGES and not node.level):
            return []
        for name in names:
            path = f"{node.module}.{name}"
            if node.level or path not in FUNCTIONS | CONSTANTS | NAMESPACES | {
                "torch.Tensor",
                "torch.no_grad",
            }:
                raise Refusal(node, f"`from {node.module} import {name}` is not allowed; {ADVICE['Import']}")
        return []

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if getattr(node, "type_params", None):
            raise Refusal(node, "type parameters are not allowed; drop them")
        if node.name in self.variables:
            if node.name != "reward":
                raise Refusal(node, f"`{node.name}` is a function and a variable; rename one of them")
            if self._inside:
                raise Refusal(node, "an inner function must not be called `reward`")
        scope = bindings(node.body, node.args)  # before anything in it is renamed
        node.args = self._arguments(node.args)
        original, node.name = node.name, self._name(node, node.name)
        node.decorator_list, node.returns, node.type_comment = [], None, None
        self._inside.append(original)
        self._scopes.append(scope)
        outer, self._iterations = self._iterations, 1
        try:
            node.body = self._block(node.body)
        finally:
            self._inside.pop()
            self._scopes.pop()
            self._iterations = outer
        return node

    def visit_Return(self, node: ast.Return) -> ast.Return:
        node.value = node.value and self.visit(node.value)
        return node

    def visit_Pass(self, node: ast.Pass) -> ast.Pass:
        return node

    visit_Break = visit_Continue = visit_Pass

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        return []

    def visit_Delete(self, node: ast.Delete) -> list[ast.stmt]:
        if not all(isinstance(target, ast.Name) for target in node.targets):
            raise Refusal(node, "deleting entries is not allowed; build the dict without them")
        return []

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        value = node.value
        if isinstance(value, ast.Constant):
            return []  # a docstring
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
            return []
        node.value = self.visit(value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        node.type_comment = None
        if isinstance(node.value, ast.Lambda):
            target = node.targets[0]
            if len(node.targets) != 1 or not isinstance(target, ast.Name) or target.id in self.variables:
                raise Refusal(node, "a lambda needs one name of its own: `f = lambda x: ...`")
            node.value.args = self._arguments(node.value.args)
            self._inside.append(target.id)
            try:
                node.value.body = self.visit(node.value.body)
            finally:
                self._inside.pop()
            target.id = self._name(target, target.id)
            return node
        node.value = self.visit(node.value)
        node.targets = [self._target(target) for target in node.targets]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | list[ast.stmt]:
        if node.value is None:
            return []
        plain = ast.Assign(targets=[node.target], value=node.value)
        return self.visit_Assign(ast.copy_location(plain, node))

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """`r += x` as `r = r + x`: on a tensor the former writes into whatever `r` shares its memory with."""
        old = copy.deepcopy(node.target)
        for inner in ast.walk(old):
            if isinstance(inner, ast.Name | ast.Subscript | ast.Attribute):
                inner.ctx = ast.Load()
        value = ast.BinOp(left=old, op=node.op, right=node.value)
        plain = ast.Assign(targets=[node.target], value=ast.copy_location(value, node))
        return self.visit_Assign(ast.copy_location(plain, node))

    def visit_If(self, node: ast.If) -> ast.If:
        node.test = self.visit(node.test)
        node.body, node.orelse = self._block(node.body), self.body(node.orelse)
        return node

    def visit_With(self, node: ast.With) -> list[ast.stmt]:
        for item in node.items:
            call = item.context_expr
            plain = isinstance(call, ast.Call) and not call.args and not call.keywords and not item.optional_vars
            path = self._path(call.func) if plain and isinstance(call, ast.Call) else None
            if path not in ("torch.no_grad", "torch.inference_mode"):
                raise Refusal(node, "only `with torch.no_grad():` is allowed")
        return self._block(node.body)

    def visit_For(self, node: ast.For) -> ast.For:
        node.iter, outer = self.visit(node.iter), self._iterations
        node.type_comment = None
        try:
            self._enter_loop(node, node.iter)
            node.target = self._target(node.target)
            node.body = self._block(node.body)
        finally:
            self._iterations = outer
        node.orelse = self.body(node.orelse)
        return node
