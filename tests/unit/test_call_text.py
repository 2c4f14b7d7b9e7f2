"""Calls as text: bounded in time and length, without running code of the values."""

from __future__ import annotations

import datetime as dt
import enum
from collections import namedtuple
from dataclasses import dataclass, field
from datetime import date
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nbqueue.views.call_text import call_text, value_text


class Colour(enum.Enum):
    RED = 1


@dataclass
class Config:
    lr: float
    key: str = field(default="secret", repr=False)

    def __repr__(self) -> str:
        raise AssertionError("its own repr was called")


@dataclass
class Slotted:
    __slots__ = ("depth",)
    depth: int


class Hostile:
    def __repr__(self) -> str:
        raise AssertionError("its own repr was called")

    __str__ = __len__ = __iter__ = __eq__ = __repr__  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


class Text(str):
    def __repr__(self) -> str:
        raise AssertionError("its own repr was called")


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0.1, "0.1"),
        ("a'b", '"a\'b"'),
        ("x" * 10**6, "'" + "x" * 57 + "…'"),
        (b"\0" * 10**6, "b'" + r"\x00" * 14 + "…'"),
        ([1, 2], "[1, 2]"),
        ((1,), "(1,)"),
        (set(), "set()"),
        (list(range(10**6)), "[0, 1, 2, 3, 4, 5, …]"),
        ({"a": [1, {"b": [2]}]}, "{'a': [1, {'b': …}]}"),
        (10**100, "<int of 333 bits>"),
        (date(2026, 1, 2), "datetime.date(2026, 1, 2)"),
        (PurePosixPath("/data"), "PurePosixPath('/data')"),
        (Colour.RED, "Colour.RED"),
        (Config(0.1), "Config(lr=0.1)"),
        (Slotted(3), "Slotted(depth=3)"),
        (Point(1, Hostile()), "Point(x=1, y=<Hostile>)"),
        (Hostile, "Hostile"),
        (len, "len"),
        (Text("x"), "<Text>"),
        (np.zeros((3, 4)), "array(shape=(3, 4), dtype=float64)"),
        (np.float64(0.5), "0.5"),
        (pd.DataFrame({"a": range(2_000)}), "DataFrame(2,000 × 1)"),
        ("a\x1b[2J\u202e", "'a\\x1b[2J\\u202e'"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_value_text(value: Any, expected: str) -> None:
    assert value_text(value) == expected


def test_a_list_that_contains_itself() -> None:
    own: list[Any] = [1]
    own.append(own)
    assert value_text(own) == "[1, [1, [1, …]]]"


def test_call_text() -> None:
    assert call_text("load", {"path": "s3://b", "rows": 100}) == "load(path='s3://b', rows=100)"
    assert call_text("f", {"0": 1, "x": Hostile()}) == "f(1, x=<Hostile>)"
    assert call_text("f\x1b", {"a\n": 1}) == "f\\x1b(a\\n=1)"
    many = call_text("f", {f"p{i}": "x" * 100 for i in range(100)})
    assert len(many) <= 200
    assert many.endswith(", …)")


class Zone(dt.tzinfo):
    def __repr__(self) -> str:
        raise AssertionError("code of the user was run")

    def utcoffset(self, at: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(0)

    tzname = dst = utcoffset  # type: ignore[assignment]


class NoName(type):
    def __getattribute__(cls, name: str) -> Any:
        raise AssertionError("code of the user was run")


class Unnamed(metaclass=NoName):
    pass


def test_zones_and_metaclasses_of_users_run_no_code() -> None:
    assert value_text(dt.datetime(2026, 1, 2, tzinfo=Zone())) == (
        "datetime.datetime(2026, 1, 2, 0, 0)"
    )
    assert "tzinfo" in value_text(dt.datetime(2026, 1, 2, tzinfo=dt.timezone.utc))
    assert value_text(object.__new__(Unnamed)) == "<Unnamed>"
