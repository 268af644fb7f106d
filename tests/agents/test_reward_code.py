"""Reward code: ordinary answers run as they come, hostile code is refused or does nothing."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from agents import reward_code, reward_load
from agents.reward_code import RewardCodeError, check, dry_run, extract, load

FIELDS = {
    "time_s",
    "joint_position",
    "command",
    "terminated",
    "base_linear_velocity_b",
    "foot_contact",
    "action",
}
HOSTILE = sorted((Path(__file__).parent / "hostile").glob("[a-z]*.py"))


def make_fields(size: int = 4, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    return {
        "time_s": draw(size),
        "joint_position": draw(size, 12),
        "command": draw(size, 3),
        "terminated": draw(size) > 0.5,
        "base_linear_velocity_b": draw(size, 3),
        "foot_contact": (draw(size, 4) > 0.5).float(),
        "action": draw(size, 12),
    }


def run(source: str, size: int = 4) -> dict[str, torch.Tensor]:
    return load(check(source, FIELDS))(SimpleNamespace(**make_fields(size)))


def body(text: str) -> str:
    """A reward with these lines before its return of `a`."""
    lines = "\n".join("    " + line for line in text.strip("\n").split("\n"))
    return f"def reward(s):\n{lines}\n    return {{'a': a}}\n"


def header(path: Path, key: str) -> str:
    found = re.search(rf"^# {key}: (.*)$", path.read_text(), re.MULTILINE)
    assert found, f"{path.name} has no line `# {key}: ...`"
    return found[1]


# --- answers as they come -----------------------------------------------------------------------------------

TWO_BLOCKS = """<think>Maybe ```python
def reward(s): return {}
```</think>
Here is a reward for walking. First a helper:

```python
import torch
from typing import Dict
from torch import Tensor
import torch.nn.functional as F

SIGMA: float = 0.25
_SCALES: Dict[str, float] = {"track": 2.0}


@torch.jit.script
def _kernel(error: Tensor, sigma: float = SIGMA) -> Tensor:
    \"\"\"Exponential kernel.\"\"\"
    return torch.exp(-error / sigma)
```

and then

~~~python
def reward(s: "State") -> Dict[str, Tensor]:
    components: Dict[str, Tensor] = {}
    error = (s.command[:, :2] - s.base_linear_velocity_b[:, :2]).square().sum(dim=-1)
    components["track"] = _SCALES["track"] * _kernel(error)
    feet = torch.zeros_like(s.time_s)
    for i in range(s.foot_contact.shape[1]):
        feet += F.softplus(s.foot_contact[:, i])
    for _ in range(2):
        feet *= 0.5
    components["feet"] = feet
    components["feet"] -= 1.0
    components["alive"] = ~s.terminated
    print(f"track {components['track'].mean():.3f}")
    return {**components, "total_of_squares": sum(value ** 2 for value in [feet, error])}
~~~

Use it like this:

```python
state = make_state()
print(reward(state))
```
"""


def test_two_blocks_with_headers_decorators_and_prose() -> None:
    source = extract(TWO_BLOCKS)
    assert "def _kernel" in source and "make_state" not in source
    result = run(source)
    fields = make_fields()
    error = (fields["command"][:, :2] - fields["base_linear_velocity_b"][:, :2]).square().sum(-1)
    feet = 0.25 * torch.nn.functional.softplus(fields["foot_contact"]).sum(-1)
    torch.testing.assert_close(result["track"], 2.0 * torch.exp(-error / 0.25))
    torch.testing.assert_close(result["feet"], feet - 1.0)
    torch.testing.assert_close(result["alive"], (~fields["terminated"]).float())
    torch.testing.assert_close(result["total_of_squares"], feet**2 + error**2)


@pytest.mark.parametrize(
    "answer",
    [
        "def reward(s):\n    return {'a': s.time_s}\n",
        "Sure:\n\nimport torch\n\ndef reward(s):\n\n    return {'a': s.time_s}\n\nI hope it helps!",
        "```\ndef reward(s):\n    return {'a': s.time_s}\n```",
        "1. Do this:\n   ```py\n   def reward(s):\n       return {'a': s.time_s}\n   ```\n",
        "```python\r\ndef reward(s):\r\n    return {'a': s.time_s}\r\n```\r\n",
        "````python\ndef reward(s):\n    return {'a': s.time_s}\n````",
        "```python\ndef reward(s):\n    return {'a': s.time_s}\n",
        "First try:\n```python\ndef reward(s):\n    return {'a': -s.time_s}\n```\nBetter:\n"
        "```python\ndef reward(s):\n    return {'a': s.time_s}\n```\n```json\n{\"def reward(\": 1}\n```",
        "```python\nimport numpy as np\nfrom scipy import stats\nfrom typing import Dict\n\n@stats.cache\n"
        "def helper(x: np.ndarray) -> np.ndarray:\n    return x\n\n"
        "Components = Dict[str, 'Tensor']\n\ndef reward(s) -> Components:\n"
        "    parts = [s.time_s]\n    return {f'{k}': v for k, v in zip(['a'], [*parts])}\n```",
        "```bash\npip install torch\n```\n```python\nfrom __future__ import annotations\nimport math\n\n"
        "class State:\n    time_s: float\n\ndef reward(state: State):\n    return {'a': state.time_s}\n\n"
        "if __name__ == '__main__':\n    print(reward(State()))\n```",
    ],
)
def test_answers_in_many_shapes(answer: str) -> None:
    result = run(extract(answer))
    torch.testing.assert_close(result, {"a": make_fields()["time_s"]})


@pytest.mark.parametrize("answer", ["", "I cannot help with that.", "```python\nprint(1)\n```", "def other(s): pass"])
def test_an_answer_without_reward_says_what_to_write(answer: str) -> None:
    with pytest.raises(RewardCodeError, match=r"def reward\(s\)"):
        extract(answer)


def test_the_checked_source_is_a_fixed_point() -> None:
    once = check(extract(TWO_BLOCKS), FIELDS).source
    assert check(once, FIELDS).source == once
    assert not re.search(r"import|@|->|print|\b_\w", once)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("a = torch.linalg.norm(s.joint_position, dim=-1)", lambda f: f["joint_position"].norm(dim=-1)),
        ("a = s.time_s.clone()\na += 1\na **= 2", lambda f: (f["time_s"] + 1) ** 2),
        ("k = lambda x, w=2.0: w * x\na = k(s.time_s)", lambda f: 2 * f["time_s"]),
        ("def k(x):\n    return x * math.pi\na = k(s.time_s)", lambda f: f["time_s"] * math.pi),
        ("p = [s.joint_position[:, i] for i in range(3)]\na = torch.stack(p).amax(dim=0)",
         lambda f: f["joint_position"][:, :3].amax(-1)),
        ("with torch.no_grad():\n    a = torch.where(s.terminated, -1.0, s.time_s)",
         lambda f: torch.where(f["terminated"], -1.0, f["time_s"])),
        ("c = torch.tensor([1.0, 2.0, 3.0], device=s.time_s.device, dtype=torch.float)\na = s.command @ c",
         lambda f: f["command"] @ torch.tensor([1.0, 2.0, 3.0])),
        ("parts = {f'j{i}': s.joint_position[:, i] for i in range(2)}\na = sum(x for x in parts.values())",
         lambda f: f["joint_position"][:, :2].sum(-1)),
        ("a = torch.nn.functional.normalize(s.command, dim=-1)[:, 0] if True else 0",
         lambda f: torch.nn.functional.normalize(f["command"], dim=-1)[:, 0]),
        ("def parts():\n    return {'x': s.time_s}\nd = parts()\nd['y'] = d['x'] * 2\na = d['y']",
         lambda f: 2 * f["time_s"]),
        ("_, a = s.command.max(dim=-1)[1], s.time_s", lambda f: f["time_s"]),
        ("reward = s.time_s\na = reward * 2", lambda f: 2 * f["time_s"]),
    ],
)  # fmt: skip
def test_ordinary_code_computes_what_it_says(lines: str, expected) -> None:
    torch.testing.assert_close(run(body(lines))["a"], expected(make_fields()))


def test_augmented_assignment_leaves_the_state_alone() -> None:
    fields = make_fields()
    before = {name: value.clone() for name, value in fields.items()}
    reward = load(check(body("x = s.joint_position\nx += 1.0\nx *= 2.0\na = x.sum(-1)"), FIELDS))
    result = reward(SimpleNamespace(**fields))
    torch.testing.assert_close(result["a"], (before["joint_position"] + 1).sum(-1) * 2)
    assert all(torch.equal(fields[name], before[name]) and fields[name]._version == 0 for name in fields)


# --- refusals as feedback -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "line", "message"),
    [
        ("a = s.base_lin_velocity_b[:, 0]", 2, "did you mean `base_linear_velocity_b`"),
        ("a = torch.logg(s.time_s)", 2, "did you mean `torch.log`"),
        ("a = s.time_s.clamp_(0, 1)", 2, "use `x = x.clamp"),
        ("a = s.time_s\na[0] = 1.0", 3, "torch.where"),
        ("a = torch.randn_like(s.time_s)", 2, "same answer for the same state"),
        ("import numpy as np\na = np.exp(s.time_s)", 2, "`torch` and `math` are there"),
        ("try:\n    a = s.time_s\nexcept Exception:\n    a = 0", 2, "cannot fail"),
        ("while True:\n    a = 1", 2, "for i in range"),
        ("a = s.time_s.log().foo()", 2, "`.foo()` is not on the list"),
        ("a = s.time_s.new_zeros(3, requires_grad=True)", 2, "`requires_grad=` is not allowed"),
        ("a = f(*[s.time_s])", 2, "`f` is not allowed"),
        ("class A:\n    pass\na = A()", 2, "functions and module-level constants"),
        ("for i in range(40):\n    for j in range(40):\n        a = s.time_s", 3, "1600 times"),
        ("a = [s.time_s for i in range(2000)]", 2, "2000 times"),
        ("a = hasattr(s, 'x')", 2, "the state's fields: action"),
        ("a = s", 3, None),
    ],
)
def test_a_refusal_names_the_line_and_what_is_allowed(lines: str, line: int, message: str | None) -> None:
    if message is None:  # passing the state on is fine; it fails when run, with the line
        with pytest.raises(RewardCodeError, match="SimpleNamespace, not a tensor"):
            run(body(lines))
        return
    with pytest.raises(RewardCodeError) as caught:
        check(body(lines), FIELDS)
    first = caught.value.problems[0]
    assert first.line == line and message in first.message
    assert first.text == body(lines).split("\n")[line - 1].strip()


def test_several_problems_are_reported_at_once() -> None:
    with pytest.raises(RewardCodeError) as caught:
        check(body("import os\nx = os.wrong\ny = torch.wrong(x)\na = s.time_s"), FIELDS)
    assert [problem.line for problem in caught.value.problems] == [2, 3, 4]


def test_an_error_while_running_shows_the_line() -> None:
    with pytest.raises(RewardCodeError) as caught:
        dry_run(load(check(body("x = s.command\na = x @ s.joint_position"), FIELDS)), make_fields())
    problem = caught.value.problems[0]
    assert problem.text == "a = x @ s.joint_position" and "RuntimeError" in problem.message


# --- the lists ----------------------------------------------------------------------------------------------


def test_no_listed_function_takes_out_or_inplace_by_position() -> None:
    """Keywords are refused by name, positions cannot be: so no callable in the namespace may have them."""

    def functions(namespace: SimpleNamespace):
        for value in vars(namespace).values():
            if isinstance(value, SimpleNamespace):
                yield from functions(value)
            elif callable(value):
                yield value

    looked_at = 0
    for namespace in reward_load.namespaces().values():
        for function in functions(namespace):
            try:
                parameters = inspect.signature(function).parameters.values()
            except ValueError:  # compiled: torch's argument parser takes `out` as a keyword only
                assert type(function).__name__ in ("builtin_function_or_method", "type"), function
                continue
            looked_at += 1
            for parameter in parameters:
                if parameter.name in ("out", "inplace"):
                    assert parameter.kind is parameter.KEYWORD_ONLY, function
    assert looked_at > 5


def test_every_listed_name_exists_in_torch() -> None:
    tensor = torch.zeros(2, 2)
    containers = set(dir({})) | set(dir([]))
    assert {name for name in reward_code.METHODS if not hasattr(tensor, name) and name not in containers} == set()
    assert {name for name in reward_code.PROPERTIES if not hasattr(tensor, name)} == set()
    assert not any(name.endswith("_") or name.startswith("_") for name in reward_code.METHODS)
    reward_load.namespaces()  # raises AttributeError for a function or constant that does not exist


def test_loaded_code_sees_only_the_listed_names() -> None:
    reward = load(check(body("a = s.time_s"), FIELDS))
    scope = reward._function.__globals__
    assert set(scope["__builtins__"]) == set(reward_code.BUILTINS) | {"__import__"}
    assert not hasattr(scope["torch"], "load") and not hasattr(scope["torch"], "serialization")
    with pytest.raises(ImportError):
        scope["__builtins__"]["__import__"]("os")


# --- hostile code -------------------------------------------------------------------------------------------


def test_every_class_has_three_variants() -> None:
    counts: dict[str, int] = {}
    for path in HOSTILE:
        kind = header(path, "Hostile class")
        counts[kind] = counts.get(kind, 0) + 1
    assert len(counts) >= 26 and min(counts.values()) >= 3, counts


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: path.stem)
def test_hostile_file_is_refused_or_harmless(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`# checker:` in each file: words of the refusal, or harmless, runtime or contained when it is accepted.

    *contained* is ordinary code that only costs too much; tests/agents/test_confinement.py holds it to its
    limits.
    """
    expected = header(path, "checker")
    if expected not in ("harmless", "runtime", "contained"):
        with pytest.raises(RewardCodeError) as caught:
            check(path.read_text(), FIELDS)
        assert expected in str(caught.value)
        return
    checked = check(path.read_text(), FIELDS)
    if expected == "contained":
        return
    fields = make_fields()
    before = {name: value.clone() for name, value in fields.items()}
    if expected == "runtime":
        with pytest.raises((RewardCodeError, TypeError)):
            load(checked)(SimpleNamespace(**fields))
    else:
        load(checked)(SimpleNamespace(**fields))
    assert all(torch.equal(fields[name], before[name]) and fields[name]._version == 0 for name in fields)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("(" * 300 + "1" + ")" * 300, id="parentheses"),
        pytest.param("(" * 10_000, id="open-parentheses"),
        pytest.param("-" * 20_000 + "1", id="minus"),
        pytest.param("not " * 7_000 + "1", id="not"),
        pytest.param("s" + ".T" * 10_000, id="attributes"),
        pytest.param("s" + "[0]" * 5_000, id="subscripts"),
        pytest.param("+".join(["1"] * 10_000), id="sum"),
        pytest.param("1 if 1 else " * 2_000 + "1", id="conditional"),
        pytest.param("[" * 150 + "]" * 150, id="lists"),
        pytest.param("lambda: " * 3_000 + "1", id="lambdas"),
        pytest.param("9" * 10_000, id="digits"),
        pytest.param("'" + "x" * 1_000 + "'", id="string"),
        pytest.param("[" + "1," * 15_000 + "]", id="many-nodes"),
        pytest.param("1\x00", id="null"),
    ],
)
def test_deep_and_huge_expressions_are_refused(source: str) -> None:
    with pytest.raises(RewardCodeError):
        check(f"def reward(s):\n    a = {source}\n    return {{'a': s.time_s}}\n", FIELDS)


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("# " + "x" * 40_000 + "\n" + body("a = s.time_s"), id="comment"),
        pytest.param("".join(f"{'  ' * i}if s:\n" for i in range(95)) + "  " * 95 + "x = 1\n", id="blocks"),
        pytest.param("".join(f"{' ' * i}def f{i}():\n" for i in range(90)) + " " * 90 + "x = 1\n", id="functions"),
        pytest.param(
            "def f0(x):\n return x\n"
            + "".join(f"def f{i}(x):\n return f{i - 1}(x)\n" for i in range(1, 900))
            + "def reward(s):\n return {'a': f899(s.time_s)}\n",
            id="call-chain",
        ),
        pytest.param("x = 1\n" * 10_000, id="statements"),
    ],
)
def test_deep_and_huge_sources_are_refused(source: str) -> None:
    with pytest.raises(RewardCodeError):
        check(source, FIELDS)


# --- trying it on recorded states ---------------------------------------------------------------------------


def test_dry_run_reports_numbers() -> None:
    fields = make_fields(16)
    report = dry_run(load(check(body("a = 2 * s.time_s"), FIELDS)), fields, batch_sizes=(1, 100))
    expected = 2 * fields["time_s"]
    assert report["components"]["a"] == pytest.approx(
        {
            "mean": expected.mean().item(),
            "std": expected.std(correction=0).item(),
            "low": expected.min().item(),
            "high": expected.max().item(),
        }
    )
    assert report["rows_independent"] is True
    assert dry_run(load(check(body("a = s.time_s - s.time_s.mean()"), FIELDS)), fields)["rows_independent"] is False


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a = s.joint_position", r"shape \(1, 12\), not \(N,\); reduce"),
        ("a = s.time_s.sum()", r"shape \(\), not \(N,\)"),
        ("a = s.time_s[:1]", r"shape \(1,\) for 3 simulations"),
        ("a = 1.0", "is a float, not a tensor"),
        ("a = torch.log(s.time_s - 2.0)", "is nan for"),
        ("a = 1.0 / (s.time_s - s.time_s)", "is inf for"),
        ("a = torch.zeros_like(s.time_s)", "same for all 16 recorded states"),
    ],
)
def test_dry_run_says_what_is_wrong(lines: str, message: str) -> None:
    with pytest.raises(RewardCodeError, match=message):
        dry_run(load(check(body(lines), FIELDS)), make_fields(16))


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
def test_assignment_by_a_string_cannot_reach_a_tensor() -> None:
    """torch reads a string as a sequence of indices: letters are none; the empty string is refused."""
    for key in ("'a'", "'0'", "'01'", "f'a{0}'"):
        fields = make_fields()
        reward = load(check(body(f"x = s.joint_position\nx[{key}] = 1.0\na = s.time_s"), FIELDS))
        with pytest.raises((IndexError, TypeError)):
            reward(SimpleNamespace(**fields))
        assert fields["joint_position"]._version == 0


def test_dry_run_finds_what_only_unchecked_code_can_do() -> None:
    def in_place(s):
        s.time_s.add_(1.0)
        return {"a": s.joint_position.sum(-1)}

    def through_numpy(s):
        s.time_s.numpy()[0] += 1.0
        return {"a": s.joint_position.sum(-1)}

    def random(s):
        return {"a": torch.rand_like(s.time_s)}

    def big_batches_only(s):
        return {"a": s.time_s * float("inf") if len(s.time_s) > 1000 else s.time_s}

    for function in (in_place, through_numpy):
        with pytest.raises(RewardCodeError, match="changed the state's `time_s`"):
            dry_run(function, make_fields(16))
    with pytest.raises(RewardCodeError, match="differs between two calls"):
        dry_run(random, make_fields(16))
    with pytest.raises(RewardCodeError, match=r"of 4096 recorded states"):
        dry_run(big_batches_only, make_fields(16))


def test_dry_run_refuses_what_is_too_slow() -> None:
    reward = load(check(body("x = torch.ones(400, 400)\nfor i in range(40):\n    x = x @ x * 0\na = s.time_s"), FIELDS))
    with pytest.raises(RewardCodeError, match=r"at most 0\.001 s"):
        dry_run(reward, make_fields(16), max_call_s=0.001)


def test_dry_run_keeps_constants_out_of_the_batch() -> None:
    recorded = {**make_fields(16), "home": torch.linspace(0, 1, 12), "height_m": torch.tensor(0.3)}
    source = body("a = (s.joint_position - s.home).sum(-1) + s.height_m")
    checked = check(source, FIELDS | {"home", "height_m"})
    report = dry_run(load(checked), recorded, constants=("home",))
    expected = (recorded["joint_position"] - recorded["home"]).sum(-1) + 0.3
    assert report["components"]["a"]["mean"] == pytest.approx(expected.mean().item(), rel=1e-5)
