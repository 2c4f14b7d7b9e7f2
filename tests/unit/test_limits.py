"""`Limit`: its meaning, invalid arguments, and names from arguments."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

import nbqueue
from nbqueue.limits import Limit, read_numbers
from nbqueue.options import TaskOptions


@pytest.mark.parametrize(
    ("rate", "numbers", "shown"),
    [
        ("10/s", "|10|1000|", "10/s"),
        ("100/m", "|100|60000|", "100/m"),
        (" 5 / h ", "|5|3600000|", "5/h"),
        ("1/30s", "|1|30000|", "1/30s"),
        ("3/1m30s", "|3|90000|", "3/90s"),
        ((7, 2), "|7|2000|", "7/2s"),
        ((7, timedelta(minutes=1)), "|7|60000|", "7/m"),
        ((7, "1h"), "|7|3600000|", "7/h"),
    ],
)
def test_rates(rate: Any, numbers: str, shown: str) -> None:
    limit = Limit("n", rate=rate)
    assert limit.numbers == numbers
    assert read_numbers(limit.numbers + "|123") == (None, shown)


def test_concurrency_rate_and_burst() -> None:
    assert Limit("n", concurrency=4).numbers == "4|||"
    assert Limit("n", 4, "10/s", 5).numbers == "4|10|1000|5"
    assert read_numbers("4|10|1000|5|99") == (4, "10/s")
    assert read_numbers("what nobody wrote") == (None, None)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, "limits nothing"),
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": True}, "concurrency=True"),
        ({"concurrency": 1.5}, "concurrency=1.5"),
        ({"rate": "10"}, "rate='10'"),
        ({"rate": "ten/s"}, "rate='ten/s'"),
        ({"rate": "0/s"}, "rate='0/s'"),
        ({"rate": "-1/s"}, "rate='-1/s'"),
        ({"rate": "10/fortnight"}, "fortnight"),
        ({"rate": "1/0s"}, "rate='1/0s'"),
        ({"rate": "1/5000d"}, "rate='1/5000d'"),
        ({"rate": 10}, "rate=10"),
        ({"rate": (1.5, 1)}, "rate=(1.5, 1)"),
        ({"rate": "1/s", "burst": 0}, "burst=0"),
        ({"concurrency": 1, "burst": 2}, "burst=2"),
        ({"name": " ", "concurrency": 1}, "' '"),
        ({"name": "a\nb", "concurrency": 1}, "a\\nb"),
        ({"name": "a" * 201, "concurrency": 1}, "aaa"),
        ({"name": 7, "concurrency": 1}, "7"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(nbqueue.UsageError) as caught:
        Limit(**{"name": "n", **settings})
    assert word in str(caught.value)


def test_a_name_may_come_from_the_arguments() -> None:
    limit = Limit(lambda user, **more: f"api.{user}", rate="10/s")
    assert limit.name_for(("ann",), {"page": 2}) == "api.ann"
    assert Limit("api", concurrency=1).name_for((1, 2), {}) == "api"
    with pytest.raises(nbqueue.UsageError, match="failed for these arguments"):
        limit.name_for((), {})
    with pytest.raises(nbqueue.UsageError, match="None cannot name a limit"):
        Limit(lambda: None, concurrency=1).name_for((), {})  # type: ignore[arg-type, return-value]


def test_a_limit_is_a_value() -> None:
    assert Limit("n", 4) == Limit("n", concurrency=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limit("n", 4).concurrency = 5  # type: ignore[misc]


def test_options_take_a_limit_and_nothing_else() -> None:
    assert TaskOptions().merged({"limit": Limit("n", 4)}).limit == Limit("n", 4)
    with pytest.raises(nbqueue.UsageError, match=r"must be an nbqueue\.Limit"):
        TaskOptions(limit="n")  # type: ignore[arg-type]
