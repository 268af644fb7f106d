"""What reward code may use: limits, and the functions, methods, keywords and builtins that are allowed."""

from __future__ import annotations

import re

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
FILE = "<reward>"


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
CHANGING_METHODS = _names("append extend setdefault update")
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
BUILTIN_KEYWORDS = _names("default ndigits start strict")
#: Builtins that may also be passed as a value: `x.to(float)`.
TYPES = _names("bool float int")
#: Packages whose import lines are dropped because only annotations use them.
ANNOTATION_PACKAGES = _names("__future__ abc collections dataclasses typing typing_extensions jaxtyping torchtyping")
GENERIC_TYPES = _names("Dict dict List list Mapping Optional Tuple tuple Union Callable")
NAMESPACES = _names("torch torch.nn torch.nn.functional torch.linalg math")
#: Shown when something of the kind is refused.
ADVICE = {
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
