"""Check a worker's options.

Each takes the name and the value of an option, and returns the value to keep. It raises
`UsageError`, which names the option, its value and the accepted values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nbqueue.checks import INT32, is_whole
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.names import did_you_mean
from nbqueue.printable import shown
from nbqueue.sizes import parse_size
from nbqueue.store.url import parse_url
from nbqueue.wire.keys import check_queue_name

Check = Callable[[str, Any], Any]

MOST_SLOTS = 50_000
"""The maximum number of slots: each permit is a byte in a pipe."""


def weighted(queues: Mapping[str, int] | Sequence[str]) -> dict[str, int]:
    """Return queues with their weights. Names alone have weight 1."""
    if isinstance(queues, Mapping):
        found = dict(queues)
    elif isinstance(queues, Iterable) and not isinstance(queues, str | bytes):
        found = dict.fromkeys(map(check_queue_name, queues), 1)
    else:
        raise UsageError(
            f"queues={shown(queues)} must be names, such as ['default'], or names with weights, "
            "such as {'critical': 6, 'default': 3}"
        )
    if not found:
        raise UsageError("queues={} serves nothing: name a queue, such as {'default': 1}")
    for name, weight in found.items():
        check_queue_name(name)
        if not is_whole(weight, 1, INT32):
            raise UsageError(
                f"queues={{{shown(name)}: {shown(weight)}}}: a weight is a whole number, 1 or more"
            )
    return found


def queues(name: str, value: Any) -> dict[str, int]:
    """Accept names of queues, or names with weights."""
    return weighted(value)


def url(name: str, value: Any) -> Any:
    """Accept the URL of a store, or None."""
    if value is not None:
        parse_url(value)
    return value


def slots(name: str, value: Any) -> int:
    """Accept a number of slots; None is the number of CPUs."""
    if value is None:
        return os.cpu_count() or 1
    if not is_whole(value, 1, MOST_SLOTS):
        raise UsageError(
            f"{name}={shown(value)} must be a whole number of 1 or more, and at most {MOST_SLOTS:,}"
        )
    number: int = value
    return number


def executor_range(name: str, value: Any) -> tuple[int, int] | None:
    """Accept the least and the most executors, as ``"1..8"`` or ``(1, 8)``, or None."""
    if value is None:
        return None
    ends: Any = value
    if isinstance(value, str):
        least, _, most = value.partition("..")
        is_number = all(each.isascii() and each.isdigit() for each in (least, most))
        ends = (int(least), int(most)) if is_number and len(value) < 20 else ()
    is_pair = isinstance(ends, Sequence) and len(ends) == 2
    if not is_pair or not all(is_whole(each, 1, MOST_SLOTS) for each in ends) or ends[0] > ends[1]:
        raise UsageError(
            f"{name}={shown(value)} must be the least and the most executors, such as '1..8': "
            f"from 1 to {MOST_SLOTS:,}, the smaller first"
        )
    return ends[0], ends[1]


def boolean(name: str, value: Any) -> Any:
    """Accept True and False."""
    if not isinstance(value, bool):
        raise UsageError(f"{name}={shown(value)} must be True or False")
    return value


def count(name: str, value: Any) -> Any:
    """Accept a whole number from 1 on, or None."""
    if value is not None and not is_whole(value, 1, 2**63 - 1):
        raise UsageError(f"{name}={shown(value)} must be 1 or more, or None")
    return value


def size_or_none(name: str, value: Any) -> int | None:
    """Accept a size, in bytes or as text such as ``"2GB"``, or None. Return bytes."""
    if value is None:
        return None
    found = parse_size(value, name)
    if found < 1:
        raise UsageError(f"{name}={shown(value)} must be one byte or more, or None")
    return found


def file_path(name: str, value: Any) -> Any:
    """Accept the path of a file in an existing folder, or None."""
    if value is None:
        return None
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str) or "\0" in path:
        raise UsageError(f"{name}={shown(path)} must be the path of a file, as text")
    try:
        is_there = Path(path).absolute().parent.is_dir()
    except OSError as error:
        raise UsageError(f"{name}={shown(path)} cannot be used: {error.strerror}") from None
    if not is_there:
        raise UsageError(f"{name}={shown(path)} is in no folder that exists")
    return path


def duration(name: str, value: Any) -> float:
    """Accept a duration; return seconds."""
    return parse_duration(value, name)


def second_or_more(name: str, value: Any) -> float:
    """Accept a duration of a second or more; return seconds."""
    seconds = parse_duration(value, name)
    if seconds < 1:
        raise UsageError(f"{name}={shown(value)} must be 1 s or more")
    return seconds


def duration_or_none(name: str, value: Any) -> float | None:
    """Accept a duration or None; return seconds."""
    return None if value is None else parse_duration(value, name)


def delay_or_none(name: str, value: Any) -> float | None:
    """Accept a duration of more than 0 or None; return seconds."""
    if value is None:
        return None
    seconds = parse_duration(value, name)
    if seconds <= 0:
        raise UsageError(f"{name}={shown(value)} must be more than 0, or None")
    return seconds


def one_of(choices: Sequence[str], text: str) -> Check:
    """Accept one of ``choices``, which ``text`` lists."""

    def check(name: str, value: Any) -> Any:
        if value not in choices:
            question = did_you_mean(value, choices)
            end = f": {question}" if question else ""
            raise UsageError(f"{name}={shown(value)} must be {text}{end}")
        return value

    return check


def number_up_to(most: int) -> Check:
    """Accept a whole number from 0 to ``most``."""

    def check(name: str, value: Any) -> Any:
        if not is_whole(value, 0, most):
            raise UsageError(f"{name}={shown(value)} must be a number from 0 to {most}")
        return value

    return check
