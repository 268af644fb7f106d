"""Reward code that a language model wrote: find it in the answer, check it, load it, try it.

1. `extract` finds the Python in an answer (prose around, several code blocks).
2. `check` keeps what is on a list and refuses the rest: each kind of syntax needs a `visit_` method below,
   and each function of torch, tensor method and keyword its place on a list. What comes out is new source,
   written from the checked syntax tree. Imports, annotations, decorators, docstrings, `print` and `assert`
   are dropped, `r += x` becomes `r = r + x` (on tensors it would change the state in place), `_name` becomes
   `u_name`.
3. `load` runs that source with a handful of builtins and a `torch` that has only the listed functions.
4. `dry_run` calls the reward on recorded states, at several batch sizes.

The lists make accidents and cheap tricks impossible and give a model useful feedback; they are not the
boundary. That is `agents.confinement`: all of this, parsing included, runs in the confined child
(`dry_run_job`).
"""

from __future__ import annotations

import ast
import copy
import difflib
import importlib
import linecache
import re
import textwrap
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from configs.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

MAX_SOURCE_CHARACTERS = 32_000
MAX_SYNTAX_DEPTH = 100
MAX_SYNTAX_NODES = 10_000
MAX_STRING_CHARACTERS = 200
MAX_INTEGER = 10**9
#: Iterations of nested loops over constants, multiplied.
MAX_CONSTANT_ITERATIONS = 1024
#: Iterations of all loops in one call of the reward, whatever they run over.
MAX_CALL_ITERATIONS = 20_000
MAX_COMPONENTS = 64
MAX_FUNCTIONS = 100
MAX_PROBLEMS = 8
#: Component names reach reports, file names and plots.
COMPONENT_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_ -]{0,63}")

_FILE = "<reward>"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions without random numbers, files, threads, global settings or writing: none takes `out` by position.
_TORCH = _names(
    "abs absolute acos add addcmul all allclose amax amin aminmax any arange arccos arcsin arctan arctan2 "
    "argmax argmin asin as_tensor atan atan2 atleast_1d atleast_2d bitwise_and bitwise_not bitwise_or "
    "bitwise_xor bmm broadcast_tensors broadcast_to cat ceil chunk clamp clamp_max clamp_min clip clone "
    "concat concatenate copysign cos cosh count_nonzero cross cummax cummin cumprod cumsum deg2rad diff div "
    "divide dot einsum eq erf erfc exp exp2 expm1 eye flatten flip floor floor_divide fmax fmin fmod frac "
    "full full_like gather ge greater greater_equal gt heaviside hypot index_select is_tensor isclose "
    "isfinite isinf isnan le lerp less less_equal linspace log log10 log1p log2 logaddexp logical_and "
    "logical_not logical_or logical_xor logsumexp lt masked_fill matmul max maximum mean median min minimum "
    "mul multiply nan_to_num nanmean nansum narrow ne neg negative norm not_equal numel ones ones_like outer "
    "permute pow prod quantile rad2deg ravel reciprocal relu remainder reshape roll round rsqrt select sgn "
    "sigmoid sign sin sinc sinh softmax sort split sqrt square squeeze stack std sub subtract sum t take tan "
    "tanh tensor tile topk transpose true_divide trunc unbind unsqueeze var where zeros zeros_like"
)
_FUNCTIONAL = _names(
    "cosine_similarity elu gelu hardsigmoid huber_loss l1_loss leaky_relu log_softmax logsigmoid mse_loss "
    "normalize one_hot relu sigmoid silu smooth_l1_loss softmax softplus softsign tanh"
)
_MATH = _names(
    "acos asin atan atan2 ceil copysign cos cosh degrees exp fabs floor fmod hypot isclose isfinite isinf "
    "isnan log log10 log1p log2 pow radians sin sinh sqrt tan tanh"
)
FUNCTIONS = (
    frozenset(f"torch.{name}" for name in _TORCH)
    | frozenset(f"torch.nn.functional.{name}" for name in _FUNCTIONAL)
    | frozenset({"torch.linalg.norm", "torch.linalg.vector_norm", "torch.linalg.cross", "torch.linalg.vecdot"})
    | frozenset(f"math.{name}" for name in _MATH)
)
CONSTANTS = frozenset(
    f"torch.{name}" for name in _names("pi e inf nan float float32 float64 double int int32 int64 long bool")
) | frozenset(f"math.{name}" for name in _names("pi e inf nan tau"))
METHODS = _names(
    "abs acos add all amax amin any argmax argmin argsort asin atan atan2 bool ceil chunk clamp clamp_max "
    "clamp_min clip clone contiguous copysign cos cosh count_nonzero cross cummax cummin cumprod cumsum "
    "deg2rad detach diff dim div divide dot double eq erf exp expand expand_as expm1 flatten flip float "
    "floor floor_divide fmod frac gather ge gt heaviside hypot index_select int isclose isfinite isinf isnan "
    "item le lerp log log10 log1p log2 logical_and logical_not logical_or logical_xor logsumexp long lt "
    "masked_fill masked_select matmul max maximum mean median min minimum mul multiply mv nan_to_num nanmean "
    "nansum narrow ne neg new_full new_ones new_tensor new_zeros nonzero norm numel outer permute pow prod "
    "quantile rad2deg ravel reciprocal relu remainder repeat reshape roll round rsqrt select sgn sigmoid "
    "sign sin sinh size softmax sort split sqrt square squeeze std sub subtract sum t tan tanh tile to topk "
    "transpose trunc type type_as unbind unflatten unfold unsqueeze var view view_as where "
    # of dicts and lists
    "append copy extend get items keys setdefault update values"
)
_CHANGING_METHODS = _names("append extend setdefault update")
#: Read-only attributes of tensors.
PROPERTIES = _names("T device dtype mT ndim shape")
KEYWORDS = _names(
    "alpha approximate atol axis beta chunks condition correction decimals delta descending device dim dim0 "
    "dim1 dims dtype end eps equal_nan equation exponent fill_value index indices input interpolation k "
    "keepdim keepdims largest mask max min n nan neginf negative_slope num_classes offset ord other p posinf "
    "q reduction repeats rtol rounding_mode shape shifts side size sizes sorted split_size_or_sections "
    "stable start step steps tensors threshold unbiased value values weight x1 x2"
)
BUILTINS = _names(
    "abs all any bool dict enumerate float int len list max min pow range reversed round sorted str sum tuple zip"
)
_BUILTIN_KEYWORDS = _names("default ndigits start strict")
#: Builtins that may also be passed as a value: `x.to(float)`.
_TYPES = _names("bool float int")
#: Packages whose import lines are dropped because only annotations use them.
_ANNOTATION_PACKAGES = _names("__future__ abc collections dataclasses typing typing_extensions jaxtyping torchtyping")
_GENERIC_TYPES = _names("Dict dict List list Mapping Optional Tuple tuple Union Callable")
_NAMESPACES = _names("torch torch.nn torch.nn.functional torch.linalg math")
#: Shown when something of the kind is refused.
_ADVICE = {
    "While": "use `for i in range(4)` with a constant",
    "Import": "`torch` and `math` are there without an import",
    "ImportFrom": "`torch` and `math` are there without an import",
    "Try": "write the expression so that it cannot fail (torch.clamp, torch.where, torch.nan_to_num)",
    "TryStar": "write the expression so that it cannot fail (torch.clamp, torch.where, torch.nan_to_num)",
    "Raise": "return finite numbers for every state instead",
    "ClassDef": "use functions and module-level constants",
    "Global": "a reward keeps nothing between calls; pass values as arguments",
    "Nonlocal": "a reward keeps nothing between calls; pass values as arguments",
    "Match": "use if / elif on constants, or torch.where on tensors",
    "NamedExpr": "assign in a line of its own",
    "Starred": "list the values",
    "Lambda": "give it a name: `f = lambda x: ...`, and call it by that name",
    "Yield": "return a dict",
    "YieldFrom": "return a dict",
    "With": "only `with torch.no_grad():`",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with reward code, as a model is told."""

    line: int | None
    """Line in the extracted source, from 1, or None when it concerns the whole."""
    text: str
    """That line's text."""
    message: str
    """What was refused and what is allowed."""

    def __str__(self) -> str:
        place = "" if self.line is None else f"line {self.line}: `{self.text}`: "
        return place + self.message


class RewardCodeError(UserError):
    """Reward code that cannot be used. Its text is feedback for whoever wrote the code."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = [Problem(None, "", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True)
class CheckedReward:
    """Source that passed `check`; only `check` makes one."""

    source: str
    """Written anew from the checked syntax tree: this, and nothing else, is executed."""
    allowed_fields: frozenset[str]


# --- finding the code in an answer --------------------------------------------------------------------------

_FENCE = re.compile(r"([ \t>]*)(`{3,}|~{3,})[ \t]*([\w+.-]*)[ \t]*(.*)")
_LANGUAGES = ("", "py", "python", "python3", "pytorch", "torch")
_DEFINES_REWARD = re.compile(r"^(?:async[ \t]+)?def[ \t]+reward[ \t]*\(", re.MULTILINE)
_DEFINITION = re.compile(r"^(?:def[ \t]+(\w+)[ \t]*\(|(\w+)[ \t]*(?::[^=\n]+)?=(?!=))", re.MULTILINE)
_TOP_LEVEL_CODE = re.compile(
    r"(?:def[ \t]+\w|import[ \t]+\w|from[ \t]+[\w.]+[ \t]+import|@\w|#|\w+[ \t]*(?::[^=]+)?=(?!=)|[)\]}])"
)
_WORD = re.compile(r"[A-Za-z_]\w*")


def _code_blocks(text: str) -> list[str]:
    """The fenced blocks that may be Python; one that is never closed reaches to the end."""
    blocks: list[str] = []
    current: list[str] | None = None
    fence, wanted = "", False
    for line in text.split("\n"):
        match = _FENCE.fullmatch(line)
        if current is None:
            if match and (match[2][0] == "~" or "`" not in match[4]):
                current, fence, wanted = [], match[2], match[3].lower() in _LANGUAGES
        elif match and match[2].startswith(fence) and not match[3] and not match[4]:
            if wanted:
                blocks.append("\n".join(current))
            current = None
        else:
            current.append(line)
    if current is not None and wanted:
        blocks.append("\n".join(current))
    return [textwrap.dedent(block).strip("\n") for block in blocks if block.strip()]


def _without_prose(text: str) -> str:
    """The code of an answer without fences: from the first line that looks like code to the reward's end."""
    kept: list[str] = []
    seen = False
    for line in text.split("\n"):
        is_code = bool(_TOP_LEVEL_CODE.match(line)) or (bool(kept) and (not line.strip() or line[0] in " \t"))
        if is_code:
            kept.append(line)
            seen = seen or bool(_DEFINES_REWARD.match(line))
        elif seen:
            break
        else:
            kept = []
    return "\n".join(kept).strip("\n") if seen else ""


def _is_only_definitions(block: str) -> bool:
    return all(not line.strip() or line[0] in " \t" or _TOP_LEVEL_CODE.match(line) for line in block.split("\n"))


def _defined(block: str) -> set[str]:
    return {function or constant for function, constant in _DEFINITION.findall(block)}


def extract(answer: str) -> str:
    """Return the reward's source in a model's answer.

    Takes the last code block that defines `reward`, and before it those blocks that only define things which
    it uses and does not define itself. Without code fences, the part of the text that looks like code.

    Raises:
        RewardCodeError: the answer defines no `reward`.
    """
    text = answer.replace("\r\n", "\n").replace("\r", "\n").replace("\u00a0", " ").replace("\ufeff", "")
    if "</think>" in text:  # reasoning models think aloud first, with drafts
        text = text.rsplit("</think>", 1)[1] or text
    blocks = _code_blocks(text)
    mains = [index for index, block in enumerate(blocks) if _DEFINES_REWARD.search(block)]
    if not mains:
        source = _without_prose(text)
        if not source:
            raise RewardCodeError("the answer has no code block that defines `def reward(s):`; write one, in ```python")
        return source + "\n"
    main = mains[-1]
    chosen, used = {main}, set(_WORD.findall(blocks[main]))
    known = _defined(blocks[main])
    grown = True
    while grown:
        grown = False
        for index, block in enumerate(blocks):
            names = _defined(block) - {"s", "state"}
            if index in chosen or index in mains or not _is_only_definitions(block) or known & names:
                continue
            if names & used:
                chosen.add(index)
                known |= names
                used |= set(_WORD.findall(block))
                grown = True
    order = [index for index in sorted(chosen) if index != main] + [main]
    return "\n\n".join(blocks[index] for index in order) + "\n"


# --- checking -----------------------------------------------------------------------------------------------


class _Refusal(Exception):
    def __init__(self, node: ast.AST, message: str) -> None:
        super().__init__(message)
        self.line = getattr(node, "lineno", None)


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`? " if close else ""


def _parse(source: str) -> ast.Module:
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


def _own_statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a function or module without those of the functions inside it."""
    for statement in body:
        yield statement
        if not isinstance(statement, ast.FunctionDef):
            for name in ("body", "orelse"):
                yield from _own_statements(getattr(statement, name, None) or [])


def _dropped_parts(tree: ast.AST) -> Iterator[ast.AST]:
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


def _is_word(key: ast.expr) -> bool:
    """A string that is not empty: assigning by such a key fails on a tensor, so it can only reach a dict.

    torch takes a string for a sequence of indices and then fails on its letters. The empty one has none, so
    it is left out, whatever a version of torch makes of it.
    """
    parts = key.values if isinstance(key, ast.JoinedStr) else [key]
    return any(isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value for part in parts)


def _scope(body: Sequence[ast.stmt], arguments: ast.arguments | None = None) -> dict[str, bool]:
    """Names bound here, True for those bound to new dicts only: setting their entries touches no tensor."""
    bound: dict[str, bool] = {}
    if arguments is not None:
        bound |= {item.arg: False for item in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
    for statement in _own_statements(body):
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


class _Checker:
    """Walks a syntax tree, builds the cleaned one, and collects what is refused.

    Kinds of syntax without a `visit_` method are refused.
    """

    def __init__(self, tree: ast.Module, allowed_fields: frozenset[str]) -> None:
        self.fields = allowed_fields
        self.problems: list[_Refusal] = []
        dropped = {id(node) for part in _dropped_parts(tree) for node in ast.walk(part)}
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

    # Names -----------------------------------------------------------------------------------------------

    def _collect_names(self, tree: ast.Module) -> None:
        """Before visiting: which names are modules, functions, variables and constant integers."""
        lambdas: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for item in node.names:
                    if item.asname and item.name in _NAMESPACES:
                        self.aliases[item.asname] = item.name
            elif isinstance(node, ast.ImportFrom) and node.module in _NAMESPACES and not node.level:
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
            raise _Refusal(node, f"`{name}`: names with two leading underscores are not allowed")
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
            raise _Refusal(node, f"`{node.id}` is the module here; give your variable another name")
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

    # Statements ------------------------------------------------------------------------------------------

    def visit(self, node: Any) -> Any:
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is None:
            kind = type(node).__name__
            advice = _ADVICE.get(kind, "allowed: assignments, if, for, return, functions and expressions")
            raise _Refusal(node, f"{kind} is not allowed here; {advice}")
        return method(node)

    def body(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        """Visit each statement; one that is refused is noted and the next one is still looked at."""
        kept: list[ast.stmt] = []
        for statement in statements:
            try:
                new = self.visit(statement)
            except _Refusal as refusal:
                self.problems.append(refusal)
                continue
            kept += new if isinstance(new, list) else [new]
        return kept

    def _block(self, statements: Sequence[ast.stmt]) -> list[ast.stmt]:
        return self.body(statements) or [ast.Pass()]

    def module(self, tree: ast.Module) -> ast.Module:
        self._scopes.append(_scope(tree.body))
        statements = [statement for statement in tree.body if not self._is_dropped_at_top(statement)]
        return ast.Module(body=self.body(statements), type_ignores=[])

    def _is_dropped_at_top(self, node: ast.stmt) -> bool:
        """`if __name__ == "__main__":`, `if TYPE_CHECKING:`, names of types, a sketch of the State class."""
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Subscript | ast.Attribute):
            whole = node.value.value if isinstance(node.value, ast.Subscript) else node.value
            is_generic = isinstance(whole, ast.Name) and whole.id in _GENERIC_TYPES - self.variables
            return is_generic or (isinstance(whole, ast.Attribute) and self._path(whole) == "torch.Tensor")
        if isinstance(node, ast.If):
            test = node.test.left if isinstance(node.test, ast.Compare) else node.test
            return isinstance(test, ast.Name) and test.id in ("__name__", "TYPE_CHECKING") and not node.orelse
        return isinstance(node, ast.ClassDef) and node.name == "State"

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        for item in node.names:
            first = item.name.split(".")[0]
            if (item.asname or first) not in self.used or first in _ANNOTATION_PACKAGES:
                continue
            if item.name not in _NAMESPACES:
                raise _Refusal(node, f"`import {item.name}` is not allowed; {_ADVICE['Import']}")
        return []

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        package = (node.module or "").split(".")[0]
        names = {item.name for item in node.names if (item.asname or item.name) in self.used | {"*"}}
        if names == {"State"} or (package in _ANNOTATION_PACKAGES and not node.level):
            return []
        for name in names:
            path = f"{node.module}.{name}"
            if node.level or path not in FUNCTIONS | CONSTANTS | _NAMESPACES | {
                "torch.Tensor",
                "torch.no_grad",
            }:
                raise _Refusal(node, f"`from {node.module} import {name}` is not allowed; {_ADVICE['Import']}")
        return []

    def _arguments(self, node: ast.arguments) -> ast.arguments:
        """Defaults are code that runs and are checked; annotations are dropped."""
        if node.vararg or node.kwarg:
            raise _Refusal(
                node.vararg or node.kwarg or node,
                "`*args` and `**kwargs` are not allowed; name the arguments",
            )
        for argument in (*node.posonlyargs, *node.args, *node.kwonlyargs):
            argument.arg = self._name(argument, argument.arg)
            argument.annotation = None
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [default and self.visit(default) for default in node.kw_defaults]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        if getattr(node, "type_params", None):
            raise _Refusal(node, "type parameters are not allowed; drop them")
        if node.name in self.variables:
            if node.name != "reward":
                raise _Refusal(node, f"`{node.name}` is a function and a variable; rename one of them")
            if self._inside:
                raise _Refusal(node, "an inner function must not be called `reward`")
        scope = _scope(node.body, node.args)  # before anything in it is renamed
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
            raise _Refusal(node, "deleting entries is not allowed; build the dict without them")
        return []

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        value = node.value
        if isinstance(value, ast.Constant):
            return []  # a docstring
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print":
            return []
        node.value = self.visit(value)
        return node

    def _target(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Name):
            if node.id in self.aliases:
                raise _Refusal(node, f"`{node.id}` is the module here; give your variable another name")
            if node.id in self.functions and node.id != "reward":
                raise _Refusal(node, f"`{node.id}` is a function and a variable; rename one of them")
            node.id = self._name(node, node.id)
            return node
        if isinstance(node, ast.Tuple | ast.List):
            node.elts = [self._target(element) for element in node.elts]
            return node
        if isinstance(node, ast.Subscript):
            name = node.value
            by_string = _is_word(node.slice)
            if isinstance(name, ast.Name) and (self._is_local_dict(name) or by_string):
                name.id = self._name(name, name.id)
                node.slice = self.visit(node.slice)
                return node
            raise _Refusal(
                node,
                "assigning to a part of a tensor or list is not allowed; use torch.where(mask, new, old), "
                "torch.cat or torch.stack (entries of a dict made in this function can be assigned)",
            )
        raise _Refusal(node, "only names and entries of a dict can be assigned; the state is read-only")

    def _binding(self, name: str) -> tuple[int, bool]:
        """The scope that binds a name (0 is the module, -1 none) and whether it is a dict made there."""
        for level in range(len(self._scopes) - 1, -1, -1):
            if name in self._scopes[level]:
                return level, self._scopes[level][name]
        return -1, False

    def _is_local_dict(self, node: ast.Name) -> bool:
        level, is_dict = self._binding(node.id)
        if level == 0 and self._inside:
            raise _Refusal(node, f"`{node.id}` belongs to the module; {_ADVICE['Global']}")
        return is_dict

    def visit_Assign(self, node: ast.Assign) -> ast.Assign:
        node.type_comment = None
        if isinstance(node.value, ast.Lambda):
            target = node.targets[0]
            if len(node.targets) != 1 or not isinstance(target, ast.Name) or target.id in self.variables:
                raise _Refusal(node, "a lambda needs one name of its own: `f = lambda x: ...`")
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
                raise _Refusal(node, "only `with torch.no_grad():` is allowed")
        return self._block(node.body)

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
            raise _Refusal(
                node if hasattr(node, "lineno") else iterable,
                f"these loops run {self._iterations} times; at most {MAX_CONSTANT_ITERATIONS} are allowed "
                "(operate on whole tensors instead)",
            )

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

    # Expressions -----------------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        value = node.value
        if isinstance(value, str):
            if len(value) > MAX_STRING_CHARACTERS:
                raise _Refusal(node, f"strings longer than {MAX_STRING_CHARACTERS} characters are not allowed")
        elif isinstance(value, bytes | complex):
            raise _Refusal(node, f"{type(value).__name__} constants are not allowed")
        elif type(value) is int and abs(value) > MAX_INTEGER:
            raise _Refusal(node, f"integers beyond {MAX_INTEGER} are not allowed; write a float")
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
            raise _Refusal(node, f"`{node.id}` cannot be used as a value; call a function of it")
        if node.id in self.functions or (node.id in BUILTINS and node.id not in _TYPES):
            raise _Refusal(node, f"`{node.id}` is a function; functions can be called, not passed around")
        if node.id in _TYPES:
            return node
        known = self.variables | self.functions | BUILTINS | {"torch", "math"}
        raise _Refusal(
            node,
            f"unknown name `{node.id}`; {_did_you_mean(node.id, known)}known: your own variables and "
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
                raise _Refusal(node, f"`{path}` can be called, not passed around")
            raise _Refusal(node, self._unknown_path(path))
        is_name = isinstance(node.value, ast.Name)
        node.value = self.visit(node.value)
        if (is_name and node.attr in self.fields) or node.attr in PROPERTIES:
            return node
        if node.attr.startswith("_"):
            raise _Refusal(node, f"`.{node.attr}`: attributes with an underscore in front are not allowed")
        if node.attr in METHODS:
            raise _Refusal(node, f"`.{node.attr}` is a method: call it, `.{node.attr}()`")
        raise _Refusal(
            node,
            f"`.{node.attr}` is not allowed; {_did_you_mean(node.attr, self.fields)}"
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
            f"`{path}` is not on the list; {_did_you_mean(path, FUNCTIONS | CONSTANTS)}"
            f"allowed of {module.split('.')[0]}: {' '.join(known)}"
        )

    def _keywords(self, keywords: list[ast.keyword], allowed: frozenset[str] | None) -> list[ast.keyword]:
        for keyword in keywords:
            if keyword.arg is None:
                raise _Refusal(keyword, "`**` in a call is not allowed; name the arguments")
            if keyword.arg in ("out", "inplace"):
                raise _Refusal(
                    keyword, f"`{keyword.arg}=` is not allowed: the state must stay as it is; use the result"
                )
            if allowed is not None and keyword.arg not in allowed:
                hint = _did_you_mean(keyword.arg, allowed)
                raise _Refusal(keyword, f"`{keyword.arg}=` is not allowed; {hint}allowed: {' '.join(sorted(allowed))}")
            keyword.arg = self._name(keyword, keyword.arg)
            keyword.value = self.visit(keyword.value)
        return keywords

    def visit_Call(self, node: ast.Call) -> ast.Call:
        allowed: frozenset[str] | None = KEYWORDS
        function = node.func
        path = self._path(function)
        if path is not None:
            if path not in FUNCTIONS:
                raise _Refusal(function, self._unknown_path(path))
            node.func = self._spell(path, function)
        elif isinstance(function, ast.Name):
            allowed = self._called_name(node, function)
        elif isinstance(function, ast.Attribute):
            self._called_method(function)
        else:
            self.visit(function)
            raise _Refusal(function, "only functions and methods that have a name can be called")
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
            return None if name == "dict" else _BUILTIN_KEYWORDS
        if name in self.variables:
            raise _Refusal(function, f"`{name}` is a variable here and cannot be called; rename it")
        if name in ("getattr", "hasattr", "setattr", "vars"):
            raise _Refusal(function, f"`{name}` is not allowed; the state's fields: {' '.join(sorted(self.fields))}")
        known = self.functions | BUILTINS
        raise _Refusal(
            function,
            f"`{name}` is not allowed; {_did_you_mean(name, known)}allowed: functions of your own, "
            f"torch.*, math.*, {' '.join(sorted(BUILTINS))}",
        )

    def _called_method(self, function: ast.Attribute) -> None:
        name, value = function.attr, function.value
        function.value = self.visit(value)
        if name.startswith("_"):
            raise _Refusal(function, f"`.{name}`: attributes with an underscore in front are not allowed")
        if name.endswith("_"):
            plain = name.rstrip("_")
            raise _Refusal(function, f"`.{name}()` changes a tensor in place; use `x = x.{plain}(...)`")
        if isinstance(value, ast.Constant | ast.JoinedStr):
            raise _Refusal(function, "methods of strings and numbers are not allowed")
        if name not in METHODS:
            raise _Refusal(
                function,
                f"`.{name}()` is not on the list; {_did_you_mean(name, METHODS)}"
                f"allowed methods: {' '.join(sorted(METHODS))}",
            )
        if name in _CHANGING_METHODS and isinstance(value, ast.Name):
            self._is_local_dict(value)  # refuses what belongs to the module

    def visit_BinOp(self, node: ast.BinOp) -> ast.BinOp:
        for side in (node.left, node.right):
            text = isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            if text and not isinstance(node.op, ast.Add):
                raise _Refusal(node, "formatting and repeating strings is not allowed")
        if isinstance(node.op, ast.Pow | ast.LShift) and (self._integer(node.right) or 0) > 64:
            raise _Refusal(node, "constant powers beyond 64 are not allowed")
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
                raise _Refusal(key, _bad_component_name(key.value))
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
                    raise _Refusal(node, 'in f-strings only plain names are allowed: f"foot_{i}"')
                part.value = self.visit(part.value)
            else:
                self.visit(part)
        return node

    def _comprehension(self, node: Any) -> Any:
        outer = self._iterations
        try:
            for generator in node.generators:
                if generator.is_async:
                    raise _Refusal(node, "async is not allowed")
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

    # The whole -------------------------------------------------------------------------------------------

    def refuse_recursion(self) -> None:
        if len(self.functions) > MAX_FUNCTIONS:
            raise RewardCodeError(f"{len(self.functions)} functions; at most {MAX_FUNCTIONS} are allowed")
        finished: set[str] = set()

        def follow(name: str, path: tuple[str, ...]) -> None:
            if name in finished:
                return
            for called, node in self.calls.get(name, {}).items():
                if called in (*path, name):
                    raise _Refusal(node, f"`{called}` calls itself (over {' -> '.join((*path, name))}); use a loop")
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
            raise _Refusal(rewards[-1], "`reward` takes the state and nothing else: `def reward(s):`")


def _bad_component_name(name: str) -> str:
    return (
        f"component name {name[:40]!r} is not allowed; use letters, digits, `_`, `-` and spaces, "
        "starting with a letter, at most 64"
    )


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
    tree = _parse(source)
    checker = _Checker(tree, fields)
    cleaned = checker.module(tree)
    problems = checker.problems
    if not problems:
        try:
            checker.refuse_recursion()
            checker.refuse_wrong_signature(cleaned)
        except _Refusal as refusal:
            problems = [refusal]
    if problems:
        found = [(p.line, lines[p.line - 1].strip()[:120] if p.line else "", str(p)) for p in problems]
        raise RewardCodeError([Problem(*items) for items in found[:MAX_PROBLEMS]])
    try:
        return CheckedReward(ast.unparse(ast.fix_missing_locations(cleaned)) + "\n", fields)
    except (ValueError, RecursionError) as error:  # quotes inside an f-string that no quoting can express
        raise RewardCodeError(f"the code cannot be written anew: {error}; simplify its strings") from None


# --- loading ------------------------------------------------------------------------------------------------


def _namespaces() -> dict[str, SimpleNamespace]:
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
        scope = {"__builtins__": allowed, "__name__": "reward", "__counted__": self._counted, **_namespaces()}
        tree = ast.fix_missing_locations(_CountLoops().visit(ast.parse(checked.source)))
        # So that tracebacks show the line.
        linecache.cache[_FILE] = (len(self.source), None, self.source.splitlines(keepends=True), _FILE)
        exec(compile(tree, _FILE, "exec", dont_inherit=True), scope)
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
                raise RewardCodeError(_bad_component_name(str(name)))


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
        raise _runtime_error(error, checked.source) from None


def _runtime_error(error: Exception, source: str) -> RewardCodeError:
    """An error inside reward code as feedback: the innermost line of the reward, and the message."""
    lines = source.splitlines()
    places = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == _FILE]
    line = places[-1] if places else None
    text = lines[line - 1].strip()[:120] if line and line <= len(lines) else ""
    message = f"{type(error).__name__}: {str(error).strip()[:400]}"
    return RewardCodeError([Problem(line, text, message)])


# --- trying it on recorded states ---------------------------------------------------------------------------


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
            raise _runtime_error(error, source) from None
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


def _as_data(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    return [{"line": problem.line, "text": problem.text, "message": problem.message} for problem in problems]


def check_job(argument: Mapping[str, Any]) -> dict[str, Any]:
    """For `run_confined`: check an answer without running it (a tenth of a second: no torch is imported).

    Args:
        argument: ``answer`` (a model's answer, or bare code) and ``allowed_fields``.

    Returns:
        ``ok``, ``stage`` ("check"), ``source`` (cleaned; None if refused) and ``problems`` (line, text,
        message).
    """
    try:
        checked = check(extract(argument["answer"]), argument["allowed_fields"])
    except RewardCodeError as error:
        return {"ok": False, "stage": "check", "source": None, "problems": _as_data(error.problems)}
    return {"ok": True, "stage": "check", "source": checked.source, "problems": []}


def dry_run_job(argument: Mapping[str, Any]) -> dict[str, Any]:
    """For `run_confined`: check an answer and try it on recorded states.

    Args:
        argument: as for `check_job`, and ``states`` (file with a dict of tensors, made readable for the
            child);
            optional: ``constants``, ``batch_sizes``, ``max_call_s`` as in `dry_run`, ``state_factory``
            ("module:function" that builds the state from such a dict).

    Returns:
        As `check_job`, with ``stage`` "dry_run" once the check passed, and ``report`` (see `dry_run`).
    """
    answer = check_job(argument)
    if not answer["ok"]:
        return answer
    import torch

    recorded = torch.load(argument["states"], map_location="cpu", weights_only=True)
    make_state = None
    if factory := argument.get("state_factory"):
        module, _, function = factory.partition(":")
        make_state = getattr(importlib.import_module(module), function)
    options = {key: argument[key] for key in ("constants", "batch_sizes", "max_call_s") if key in argument}
    try:
        reward = load(check(answer["source"], argument["allowed_fields"]))
        report = dry_run(reward, recorded, make_state=make_state, **options)
    except RewardCodeError as error:
        return {**answer, "ok": False, "stage": "dry_run", "problems": _as_data(error.problems)}
    return {**answer, "stage": "dry_run", "report": report}
