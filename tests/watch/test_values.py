from __future__ import annotations

import math

import pytest

from watch import words
from watch.values import Interval, mapping, number, text, visible


def test_text_is_one_short_line_without_tricks():
    assert text("  a\n b ") == "a b"
    assert text("x" * 1000, 10) == "x" * 9 + "…"
    assert text("\u202edrawer\u2066") == "<U+202E>drawer<U+2066>"
    assert text("a\x00b\x1b[31m") == "a<U+0000>b<U+001B>[31m"
    assert text("fall\u200bs") == "fall<U+200B>s"
    assert text("\ud800").encode("utf-8") == b"<U+D800>"  # a lone surrogate could not be written to a page
    assert text("Größe µ 速度") == "Größe µ 速度"
    assert [text(v) for v in (None, True, [], {}, b"x")] == [None] * 5
    assert text(10**5000) is None


def test_code_keeps_its_lines():
    assert visible("a = 1\n\tb\u202e") == "a = 1\n\tb<U+202E>"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, "1", None, [1], 10**400])
def test_what_is_no_finite_number(value):
    assert number(value) is None


def test_mapping_drops_keys_that_cannot_be_shown():
    assert mapping({"a": 1, None: 2, 3: 4}) == {"a": 1, "3": 4}
    assert mapping([1]) == {}


def test_an_interval_is_whole_or_absent():
    assert Interval.read({"mean": 1, "low": 0.5, "high": 1.5, "unit": "m"}) == Interval(1.0, 0.5, 1.5, "m")
    assert Interval.read({"mean": 1, "low": 0.5, "high": None}) == Interval(1.0)
    assert Interval.read({"mean": 1, "low": 2, "high": 1}) == Interval(1.0)
    assert Interval.read(3) == Interval(3.0)
    assert Interval.read({"low": 1}) is None


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"), (0, "0"), (0.8312, "0.831"), (-0.05, "−0.05"), (15736.2, "15\u202f736"), (1.2e-7, "1.20e−7"),
        (3.2e12, "3.20e12"), (120.0, "120"), (0.1 + 0.2, "0.3"),
    ],
)  # fmt: skip
def test_numbers_read_well(value, shown):
    assert words.significant(value) == shown


def test_mean_and_interval_have_the_digits_that_mean_something():
    assert words.plus_minus(Interval(0.8, 0.791, 0.809)) == ("0.800", "0.009")
    assert words.plus_minus(Interval(0.1133, 0.1111, 0.1155)) == ("0.1133", "0.0022")
    assert words.plus_minus(Interval(0.0141, 0.0111, 0.0171), 100) == ("1.4", "0.3")
    assert words.plus_minus(Interval(0.5)) == ("0.5", "")
    assert words.plus_minus(Interval(0.0, 0.0, 0.0)) == ("0", "")


def test_units_durations_and_sizes():
    assert words.with_unit(0.1133, "m/s") == "0.113\u202fm/s"
    assert words.with_unit(2.16, "deg") == "2.16°"
    assert words.with_unit(88.0, "rad/s^2") == "88\u202frad/s²"
    assert words.duration(254.2) == "4\u202fmin 14\u202fs"
    assert words.duration(59.99 * 60) == "59\u202fmin 59\u202fs"
    assert words.duration(3 * 3600 + 120) == "3\u202fh 02\u202fmin"
    assert words.count(4_000_000) == "4\u202fmillion"
    assert words.bytes_size(5_045_510) == "5.05\u202fMB"


def test_the_command_can_be_typed_again():
    assert words.shell(["/opt/x/bin/gantry", "train", "a=[1, 2]"]) == "gantry train 'a=[1, 2]'"
    assert words.shell(["gantry train", "task=x"]) == "gantry train task=x"
    assert words.shell(["gantry", "x; rm -rf /"]) == "gantry 'x; rm -rf /'"
