"""Which expressions reward code may use."""

from __future__ import annotations

import ast
from typing import Any

from agents.reward_check_names import Names
from agents.reward_lists import (
    BUILTIN_KEYWORDS,
    BUILTINS,
    CHANGING_METHODS,
    COMPONENT_NAME,
    CONSTANTS,
    FUNCTIONS,
    KEYWORDS,
    MAX_INTEGER,
    MAX_STRING_CHARACTERS,
    METHODS,
    PROPERTIES,
    TYPES,
)
from agents.reward_problem import bad_component_name
from agents.reward_syntax import Refusal, did_you_mean


class Expressions(Names):
    """Checks expressions and returns them as they will run."""

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        value = node.value
        if isinstance(value, str):
            if len(value) > MAX_STRING_CHARACTERS:
                raise Refusal(node, f"strings longer than {MAX_STRING_CHARACTERS} characters are not allowed")
        elif isinstance(value, bytes | complex):
            raise Refusal(node, f"{type(value).__name__} constants are not allowed")
        elif type(value) is int and abs(value) > MAX_INTEGER:
            raise Refusal(node, f"integers beyond {MAX_INTEGER} are not allowed; write a float")
        node.kind = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        name = self._name(node, node.id)
        if node.id in self.variables and node.id not in self.aliases:
            node.id = name
            return node
        if (path := self._path(node)) is not None:
            if path in CONSTANTS:
                return self._spell(path, node)
            raise Refusal(node, f"`{node.id}` cannot be used as a value; call a function of it")
        if node.id in self.functions or (node.id in BUILTINS and node.id not in TYPES):
            raise Refusal(node, f"`{node.id}` is a function; functions can be called, not passed around")
        if node.id in TYPES:
            return node
        known = self.variables | self.functions | BUILTINS | {"torch", "math"}
        raise Refusal(
            node,
            f"unknown name `{node.id}`; {did_you_mean(node.id, known)}known: your own variables and "
            f"functions, torch, math and {' '.join(sorted(BUILTINS))}",
        )

    @staticmethod
    def _spell(path: str, place: ast.AST) -> ast.expr:
        first, *rest = path.split(".")
        node: ast.expr = ast.Name(id=first, ctx=ast.Load())
        for part in rest:
            node = ast.Attribute(value=node, attr=part, ctx=ast.Load())
        return ast.copy_location(node, place)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        path = self._path(node)
        if path is not None:
            # torch.x.shape: the constant may be followed by nothing
            if path in CONSTANTS:
                return self._spell(path, node)
            if path in FUNCTIONS:
                raise Refusal(node, f"`{path}` can be called, not passed around")
            raise Refusal(node, self._unknown_path(path))
        is_name = isinstance(node.value, ast.Name)
        node.value = self.visit(node.value)
        if (is_name and node.attr in self.fields) or node.attr in PROPERTIES:
            return node
        if node.attr.startswith("_"):
            raise Refusal(node, f"`.{node.attr}`: attributes with an underscore in front are not allowed")
        if node.attr in METHODS:
            raise Refusal(node, f"`.{node.attr}` is a method: call it, `.{node.attr}()`")
        raise Refusal(
            node,
            f"`.{node.attr}` is not allowed; {did_you_mean(node.attr, self.fields)}"
            f"fields of the state: {' '.join(sorted(self.fields))}; "
            f"of tensors: {' '.join(sorted(PROPERTIES))}",
        )

    @staticmethod
    def _unknown_path(path: str) -> str:
        module = path.rsplit(".", 1)[0]
        known = sorted(name.removeprefix("torch.") for name in FUNCTIONS if name.startswith(path.split(".")[0] + "."))
        if path.startswith("torch.rand"):
            return f"`{path}` is not allowed: a reward gives the same answer for the same state"
        return (
            f"`{path}` is not on the list; {did_you_mean(path, FUNCTIONS | CONSTANTS)}"
            f"allowed of {module.split('.')[0]}: {' '.join(known)}"
        )

    def _keywords(self, keywords: list[ast.keyword], allowed: frozenset[str] | None) -> list[ast.keyword]:
        for keyword in keywords:
            if keyword.arg is None:
                raise Refusal(keyword, "`**` in a call is not allowed; name the arguments")
            if keyword.arg in ("out", "inplace"):
                raise Refusal(keyword, f"`{keyword.arg}=` is not allowed: the state must stay as it is; use the result")
            if allowed is not None and keyword.arg not in allowed:
                hint = did_you_mean(keyword.arg, allowed)
                raise Refusal(keyword, f"`{keyword.arg}=` is not allowed; {hint}allowed: {' '.join(sorted(allowed))}")
            keyword.arg = self._name(keyword, keyword.arg)
            keyword.value = self.visit(keyword.value)
        return keywords

    def visit_Call(self, node: ast.Call) -> ast.Call:
        allowed: frozenset[str] | None = KEYWORDS
        function = node.func
        path = self._path(function)
        if path is not None:
            if path not in FUNCTIONS:
                raise Refusal(function, self._unknown_path(path))
            node.func = self._spell(path, function)
        elif isinstance(function, ast.Name):
            allowed = self._called_name(node, function)
        elif isinstance(function, ast.Attribute):
            self._called_method(function)
        else:
            self.visit(function)
            raise Refusal(function, "only functions and methods that have a name can be called")
        node.args = [self.visit(argument) for argument in node.args]
        node.keywords = self._keywords(node.keywords, allowed)
        return node

    def _called_name(self, node: ast.Call, function: ast.Name) -> frozenset[str] | None:
        name = function.id
        if name in self.functions and (name not in self.variables or name == "reward"):
            if self._inside:
                self.calls.setdefault(self._inside[-1], {}).setdefault(name, node)
            function.id = self._name(function, name)
            return None
        if name in BUILTINS and name not in self.variables:
            return None if name == "dict" else BUILTIN_KEYWORDS
        if name in self.variables:
            raise Refusal(function, f"`{name}` is a variable here and cannot be called; rename it")
        if name in ("getattr", "hasattr", "setattr", "vars"):
            raise Refusal(function, f"`{name}` is not allowed; the state's fields: {' '.join(sorted(self.fields))}")
        known = self.functions | BUILTINS
        raise Refusal(
            function,
            f"`{name}` is not allowed; {did_you_mean(name, known)}allowed: functions of your own, "
            f"torch.*, math.*, {' '.join(sorted(BUILTINS))}",
        )

    def _called_method(self, function: ast.Attribute) -> None:
        name, value = function.attr, function.value
        function.value = self.visit(value)
        if name.startswith("_"):
            raise Refusal(function, f"`.{name}`: attributes with an underscore in front are not allowed")
        if name.endswith("_"):
            plain = name.rstrip("_")
            raise Refusal(function, f"`.{name}()` changes a tensor in place; use `x = x.{plain}(...)`")
        if isinstance(value, ast.Constant | ast.JoinedStr):
            raise Refusal(function, "methods of strings and numbers are not allowed")
        if name not in METHODS:
            raise Refusal(
                function,
                f"`.{name}()` is not on the list; {did_you_mean(name, METHODS)}"
                f"allowed methods: {' '.join(sorted(METHODS))}",
            )
        if name in CHANGING_METHODS and isinstance(value, ast.Name):
            self._is_local_dict(value)  # refuses what belongs to the module

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        for side in (node.left, node.right):
            text = isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            if text and not isinstance(node.op, ast.Add):
                raise Refusal(node, "formatting and repeating strings is not allowed")
        if isinstance(node.op, ast.Pow | ast.LShift) and (self._integer(node.right) or 0) > 64:
            raise Refusal(node, "constant powers beyond 64 are not allowed")
        node.left, node.right = self.visit(node.left), self.visit(node.right)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.UnaryOp:
        node.operand = self.visit(node.operand)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.BoolOp:
        node.values = [self.visit(value) for value in node.values]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.Compare:
        node.left, node.comparators = self.visit(node.left), [self.visit(value) for value in node.comparators]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.IfExp:
        node.test, node.body, node.orelse = (
            self.visit(node.test),
            self.visit(node.body),
            self.visit(node.orelse),
        )
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.Subscript:
        node.value, node.slice = self.visit(node.value), self.visit(node.slice)
        return node

    def visit_Slice(self, node: ast.Slice) -> ast.Slice:
        node.lower = node.lower and self.visit(node.lower)
        node.upper = node.upper and self.visit(node.upper)
        node.step = node.step and self.visit(node.step)
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.Tuple:
        node.elts = self._elements(node.elts)
        return node

    def visit_List(self, node: ast.List) -> ast.List:
        node.elts = self._elements(node.elts)
        return node

    def _elements(self, elements: list[ast.expr]) -> list[ast.expr]:
        """Values of a list or tuple, `[*these, that]` too."""
        for element in elements:
            if isinstance(element, ast.Starred):
                element.value = self.visit(element.value)
        return [element if isinstance(element, ast.Starred) else self.visit(element) for element in elements]

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        for key in node.keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str) and not COMPONENT_NAME.fullmatch(key.value):
                raise Refusal(key, bad_component_name(key.value))
        node.keys = [key and self.visit(key) for key in node.keys]
        node.values = [self.visit(value) for value in node.values]
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.JoinedStr:
        """f-strings may insert names, entries and sums, without a format: `f"foot_{names[i + 1]}"`."""
        plain = (ast.Name, ast.Constant, ast.BinOp, ast.Subscript, ast.operator, ast.expr_context)
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                simple = all(isinstance(inner, plain) for inner in ast.walk(part.value))
                if not simple or part.format_spec or part.conversion != -1:
                    raise Refusal(node, 'in f-strings only plain names are allowed: f"foot_{i}"')
                part.value = self.visit(part.value)
            else:
                self.visit(part)
        return node

    def _comprehension(self, node: Any) -> Any:
        outer = self._iterations
        try:
            for generator in node.generators:
                if generator.is_async:
                    raise Refusal(node, "async is not allowed")
                generator.iter = self.visit(generator.iter)
                self._enter_loop(node, generator.iter)
                generator.target = self._target(generator.target)
                generator.ifs = [self.visit(test) for test in generator.ifs]
            if isinstance(node, ast.DictComp):
                node.key, node.value = self.visit(node.key), self.visit(node.value)
            else:
                node.elt = self.visit(node.elt)
        finally:
            self._iterations = outer
        return node

    visit_ListComp = visit_DictComp = _comprehension

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.ListComp:
        """As a list: a generator carries its frame, and nothing here is long enough to need one."""
        checked = self._comprehension(node)
        return ast.copy_location(ast.ListComp(elt=checked.elt, generators=checked.generators), node)
