"""Limits on how many tasks run at a time and how often one starts."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbqueue.checks import is_whole
from nbqueue.durations import Duration, parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import fault_of
from nbqueue.printable import shown

Rate = str | tuple[int, Duration]

IDLE_SECONDS = 7 * 86_400.0
"""A limit that no task used for this long, in seconds, is forgotten."""

_MOST = 10**9
_LONGEST_NAME = 200
_LONGEST_MS = 366 * 86_400_000
_RATE = re.compile(r"^\s*(\d{1,18})\s*/\s*(\S.*)$", re.ASCII)
_UNITS = ("ms", "s", "m", "h", "d", "w")


@dataclass(frozen=True)
class Limit:
    """A limit shared by all tasks of a queue that use its name.

    name: the name; or a function of the task's arguments (for a message: of its payload) that
        returns it. It is called where the task is submitted.
    concurrency: how many of these tasks may run at a time.
    rate: how many may start per period: ``"10/s"``, ``"100/m"``, ``"5/h"``, ``"1/30s"``, or
        ``(count, period)``. Starts are spread evenly over the period.
    burst: how many may start at once after a pause; 1.

    >>> q.options(limit=nbqueue.Limit("api.example", concurrency=4, rate="10/s")).map(get, urls)
    >>> q.options(limit=nbqueue.Limit(lambda user, **kw: f"api.{user}", rate="10/s"))

    A waiting task occupies no slot of a worker and uses up no retry. Raises `UsageError`.
    """

    name: str | Callable[..., str]
    concurrency: int | None = None
    rate: Rate | None = None
    burst: int | None = None

    def __post_init__(self) -> None:
        if not callable(self.name):
            check_limit_name(self.name)
        for what in ("concurrency", "burst"):
            _check_number(what, getattr(self, what))
        if self.concurrency is None and self.rate is None:
            raise UsageError(
                f"Limit({shown(self.name)}) limits nothing: set concurrency=4, or rate='10/s', "
                "or both"
            )
        if self.burst is not None and self.rate is None:
            raise UsageError(f"burst={shown(self.burst)} belongs to a rate: set rate= too")
        self._count_and_period()

    @property
    def numbers(self) -> str:
        """``concurrency|count|period_ms|burst`` as stored; empty fields for no limit."""
        count, period_ms = self._count_and_period()
        most = "" if self.concurrency is None else self.concurrency
        return f"{most}|{count or ''}|{period_ms or ''}|{self.burst or ''}"

    def name_for(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return the name of the limit for a task with these arguments."""
        if not callable(self.name):
            return self.name
        try:
            name = self.name(*args, **kwargs)
        except Exception as error:
            raise UsageError(
                f"the function that names the limit failed for these arguments: {shown(error)}"
            ) from error
        return check_limit_name(name)

    def _count_and_period(self) -> tuple[int | None, int | None]:
        if self.rate is None:
            return None, None
        count, period = _parts(self.rate)
        seconds = parse_duration(period, "rate")
        period_ms = math.ceil(seconds * 1000)
        if not 1 <= count <= _MOST or period_ms < 1 or seconds > 366 * 86_400:
            raise _wrong_rate(self.rate)
        return count, period_ms


def check_limit_name(name: object) -> str:
    """Return ``name`` if it is a valid limit name, else raise `UsageError`."""
    if not isinstance(name, str) or not name.strip():
        raise UsageError(
            f"{shown(name)} cannot name a limit: it must be text, such as 'api.example'"
        )
    fault = fault_of(name, longest=_LONGEST_NAME)
    if fault is not None:
        raise UsageError(
            f"{shown(name)} cannot name a limit, as it {fault}: use at most {_LONGEST_NAME} "
            "printable characters, without white space at an end"
        )
    return name


def read_numbers(text: str) -> tuple[int | None, str | None]:
    """Parse `Limit.numbers` into a concurrency and a rate such as ``"10/s"``."""
    most, count, period_ms, _ = _numbers(text)
    rate = None
    if count is not None and period_ms is not None:
        period = {1000: "s", 60000: "m", 3600000: "h"}.get(period_ms)
        rate = f"{count}/{period or f'{period_ms / 1000:g}s'}"
    return most, rate


def limit_fault(text: str) -> str | None:
    """Return why ``text`` is not a valid `Limit.numbers`, or None if it is."""
    given = (*text.split("|"), "", "", "", "")[:4]
    names = ("concurrency", "count", "period_ms", "burst")
    for name, word, number in zip(names, given, _numbers(text), strict=True):
        if word and number is None:
            return f"{name} is {word[:40]!r}"
    return None


def _numbers(text: str) -> list[int | None]:
    """Parse concurrency, count, period in ms and burst; None for values out of range."""
    words = (*text.split("|"), "", "", "", "")[:4]
    largest = (_MOST, _MOST, _LONGEST_MS, _MOST)
    return [
        int(word) if len(word) <= 12 and word.isdecimal() and 1 <= int(word) <= most else None
        for word, most in zip(words, largest, strict=True)
    ]


def _parts(rate: Rate) -> tuple[int, Duration]:
    if isinstance(rate, str):
        match = _RATE.match(rate)
        if match is None:
            raise _wrong_rate(rate)
        period = match[2].strip()
        return int(match[1]), "1" + period if period in _UNITS else period
    if not isinstance(rate, tuple) or len(rate) != 2:
        raise _wrong_rate(rate)
    count, among = rate
    if not is_whole(count, 1, _MOST):
        raise _wrong_rate(rate)
    return count, among


def _wrong_rate(rate: object) -> UsageError:
    return UsageError(
        f"rate={shown(rate)} is no rate: write '10/s', '100/m', '5/h', '1/30s', or (count, period)"
    )


def _check_number(what: str, value: object) -> None:
    if value is not None and not is_whole(value, 1, _MOST):
        raise UsageError(f"{what}={shown(value)} must be a whole number, 1 or more")
