"""Answers become ranges as data: whatever stands in them, nothing runs and nothing but numbers comes out."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agents.range_answer import as_yaml, read_answer
from configs.errors import UserError
from envs.randomization import TERMS, validate

EVERYTHING = dict.fromkeys(TERMS)
BOUNDS = {"friction": (0.2, 2.0), "kp": (0.5, 2.0), "push_velocity": (-1.0, 1.0)}


@pytest.mark.parametrize(
    "text",
    [
        "friction: [0.4, 1.2]",
        "```yaml\nfriction: [0.4, 1.2]  # floors\n```",
        "```\n  - friction: [0.4, 1.2]\n```",
        '```json\n{"friction": [0.4, 1.2]}\n```',
        '```json\n{"friction": [0.4, 1.2], "kp": [1, 1]}\n```',
        "**friction**: (0.4, 1.2)",
        "`friction` = [0.4, 1.2]",
        "friction: [4e-1, 1.2E0]",
        "friction: [.4 to 1.2]",
        "```yaml\nfriction:\n  - 0.4\n  - 1.2\n```",
        "draft:\n```yaml\nfriction: [0, 5]\n```\nbetter:\n~~~yaml\nfriction: [0.4, 1.2]\n~~~",
        "```yaml\nfriction: [0.4, 1.2]\nkp: [0.9",
        "friction: [0.3, 0.5]\nfriction: [0.4, 1.2]",
    ],
)
def test_ordinary_answers(text):
    assert read_answer(text, EVERYTHING).ranges["friction"] == (0.4, 1.2)


def test_reasons_and_words_are_kept_as_comments():
    block = "```yaml\n# tiles to\n# rubber\nfriction: [0.4, 1.2]  # and dust\nkp: [0.9, 1.1]\n```"
    answer = read_answer(f"Floors differ most.\n{block}\nGood luck.", EVERYTHING)
    assert answer.reasons == {"friction": "tiles to rubber and dust"}
    assert answer.note == ("Floors differ most.", "Good luck.")
    text = as_yaml(answer.ranges, answer.reasons, ("by hand", *answer.note))
    assert text.splitlines()[:3] == ["# by hand", "# Floors differ most.", "# Good luck."]
    assert "friction: [0.4, 1.2]  # tiles to rubber and dust" in text
    assert validate(yaml.safe_load(text)) == {"friction": (0.4, 1.2), "kp": (0.9, 1.1)}


def test_ranges_stay_within_the_bounds_that_were_told():
    answer = read_answer("friction: [0.0, 9]\nkp: [0.9, 1.1]\ngravity: [-1, 1]\npush_velocity: [0.5, -0.5]", BOUNDS)
    assert answer.ranges == {"friction": (0.2, 2.0), "kp": (0.9, 1.1)}
    assert len(answer.problems) == 3
    assert "cut to the bounds" in answer.problems[0] and "no parameter on offer" in answer.problems[1]
    assert "wrong way round" in answer.problems[2]


HOSTILE = [
    "friction: !!python/object/apply:os.system ['touch /tmp/gantry_hostile']",
    "friction: [__import__('os').system('touch /tmp/gantry_hostile'), 1]",
    "&a [*a, *a]",
    "a: &a [x,x,x]\nb: &b [*a,*a,*a]\nfriction: *b",
    "friction: [.nan, .inf]\nkp: [nan, 1]",
    "friction: [1e999, 1e999]",
    "friction: [0x1, 0o7]",
    "../../etc/passwd: [0, 1]",
    "__class__: [0, 1]",
    "[" * 50_000,
    "friction: [" + "1" * 50_000 + ", 2]",
    "friction: [" + "-" * 10_000 + "1, 2]",
    "```yaml\n" * 5_000,
    "friction: [0.1, 0.2] # \u202e\u2028!!python/object:os.system\u0085\x00\x1b[31m </script><script>alert(1)</script>",
    "friction:\n" * 20_000,
    "\ud800 friction: [1, 2]",
    "friction : [1 , 2] ; rm -rf /",
    "#" * 90_000 + "\nkp: [1, 1]",
    "{" + ", ".join(f'"t{i}": [0, 1]' for i in range(4_000)) + "}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.timeout(20)
def test_hostile_answers(text, tmp_path):
    answer = read_answer(text, EVERYTHING)
    for name, (low, high) in answer.ranges.items():
        assert name in TERMS and math.isfinite(low) and math.isfinite(high) and low <= high
    written = as_yaml(answer.ranges, answer.reasons, (*answer.note, *answer.problems))
    assert (validate(yaml.safe_load(written)) if answer.ranges else yaml.safe_load(written)) == answer.ranges
    assert all(ord(c) >= 32 or c == "\n" for c in written)
    for line in written.splitlines():
        assert line.startswith("#") or line.split(":")[0] in answer.ranges or line.startswith("{}")


@given(st.text(max_size=400))
def test_any_text_is_survived(text):
    answer = read_answer(text, EVERYTHING)
    as_yaml(answer.ranges, answer.reasons, answer.note + answer.problems)


_NAMES = st.sampled_from(list(TERMS))


@given(
    st.dictionaries(_NAMES, st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8), st.text(max_size=120)
)
def test_what_is_written_is_read(shares, reason):
    """Ranges inside the terms' bounds, with any text as reason, come back as they were."""
    ranges = {}
    for name, pair in shares.items():
        low, high = TERMS[name].bounds
        a, b = sorted(float(f"{low + (high - low) * s:.6g}") for s in pair)
        ranges[name] = (max(a, low), min(b, high))
    text = as_yaml(ranges, dict.fromkeys(ranges, reason), (reason,))
    assert yaml.safe_load(text) == {name: list(span) for name, span in ranges.items()}
    again = read_answer(f"```yaml\n{text}```", EVERYTHING)
    assert {n: list(s) for n, s in again.ranges.items()} == {n: list(s) for n, s in ranges.items()}


def test_ranges_that_training_would_refuse_are_not_written():
    with pytest.raises(UserError, match="leaves the bounds"):
        as_yaml({"kp": (0.0, 99.0)}, {}, ())


def test_nothing_of_use_is_said():
    answer = read_answer("I would rather not.", EVERYTHING)
    assert answer.ranges == {} and "no line of the form" in answer.problems[0]
