"""Make and read the ids that clients and schedules give to tasks.

17 characters of digits and letters::

    0:6     who made it: random for each client, a digest for each schedule
    6:13    when: Unix milliseconds (until the year 2081; one more character from then on)
    13:17   a number, other for each id of one client; of a schedule's task, the schedule's revision

All numbers are in base 62 with digits in ASCII order, so the ids of one client sort by time. Each
id is stored three times, and in the streams, so it is short.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final

from nbqueue.wire.keys import LISTENER_LENGTH

_DIGITS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]
_VALUES: Final = {digit: value for value, digit in enumerate(_DIGITS)}
_TIME: Final = slice(LISTENER_LENGTH, LISTENER_LENGTH + 7)
_FIRST_MS: Final = 1_735_689_600_000
"""The year 2025, before which no client made such an id."""
_DAY_MS: Final = 86_400_000

LENGTH: Final = LISTENER_LENGTH + 11
NUMBERS: Final = 62**4
"""Number of different endings of ids, which are used in turn."""


def random_prefix() -> str:
    """Return a new prefix for the ids of a client."""
    return "".join(secrets.choice(_DIGITS) for _ in range(LISTENER_LENGTH))


def prefix_of(digest: bytes) -> str:
    """Return the prefix of the ids of a schedule.

    It is equal on all workers.
    """
    return _written(int.from_bytes(digest, "big") % 62**LISTENER_LENGTH, LISTENER_LENGTH)


class IdMaker:
    """Makes the ids of one client. Threads may share it.

    ``now_ms`` returns the time on the store's clock, in Unix milliseconds.
    """

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self.prefix = random_prefix()
        self._now_ms = now_ms
        # A random start, as clients may have the same prefix by chance; half of the numbers are
        # left to count.
        self._numbers = itertools.count(secrets.randbelow(NUMBERS // 2))

    def make(self) -> str:
        """Return a new id, which sorts by the time of the store."""
        return make_id(self.prefix, self._now_ms(), next(self._numbers))

    def make_many(self, count: int) -> list[str]:
        """Return many new ids, made at once; see `make`."""
        return make_ids(self.prefix, self._now_ms(), itertools.islice(self._numbers, count))


def make_id(prefix: str, now_ms: int, number: int) -> str:
    """Return the id with this number."""
    pairs = _PAIRS
    time = _beginning(now_ms // NUMBERS) + pairs[now_ms // 3844 % 3844] + pairs[now_ms % 3844]
    return prefix + time + pairs[number // 3844 % 3844] + pairs[number % 3844]


def make_ids(prefix: str, now_ms: int, numbers: Iterable[int]) -> list[str]:
    """Return an id for each of ``numbers``."""
    head = make_id(prefix, now_ms, 0)[:-4]
    pairs = _PAIRS
    return [head + pairs[number // 3844 % 3844] + pairs[number % 3844] for number in numbers]


def made_times(task_ids: Iterable[str], now_ms: int) -> list[int | None]:
    """Return the time when each id was made, as `made_ms` does."""
    known: dict[str, int] = {}
    times: list[int | None] = []
    for task_id in task_ids:
        # Ids that were made together look the same up to their numbers.
        found = known.get(task_id[:-4])
        if found is None:
            found = made_ms(task_id, now_ms)
            if found is not None:
                known[task_id[:-4]] = found
        times.append(found)
    return times


def made_ms(task_id: str, now_ms: int) -> int | None:
    """Return the time when nbqueue made an id (Unix ms); None for other ids.

    Ids of other programs may look alike, but hardly ever like a time between the first of nbqueue's
    and now.
    """
    if len(task_id) != LENGTH or not (task_id.isascii() and task_id.isalnum()):
        return None
    found = 0
    for digit in task_id[_TIME]:
        found = found * 62 + _VALUES[digit]
    return found if _FIRST_MS <= found <= now_ms + _DAY_MS else None


@lru_cache(maxsize=4)
def _beginning(hours: int) -> str:
    """The first digits of a time, which change every four hours."""
    return _written(hours, 3)


def _written(number: int, length: int) -> str:
    """``number`` with at least ``length`` digits."""
    text = ""
    while number:
        number, pair = divmod(number, 3844)
        text = _PAIRS[pair] + text
    return text.rjust(length, "0") if len(text) <= length else text.removeprefix("0")


def number_of(task_id: str) -> int | None:
    """Return the number at the end of an id of a client; None for other ids."""
    if len(task_id) != LENGTH or not (task_id.isascii() and task_id.isalnum()):
        return None
    found = 0
    for digit in task_id[-4:]:
        found = found * 62 + _VALUES[digit]
    return found


def nth_after(first: str, distance: int) -> str:
    """Return the id that many numbers after ``first``. Raises `ValueError`."""
    head, number = _split(first)
    return head + _ending(number + distance)


def ids_from(first: str, count: int) -> list[str]:
    """Return ``first`` and the next ids that count up from it. Raises `ValueError`."""
    head, number = _split(first)
    pairs = _PAIRS
    return [head + pairs[n // 3844 % 3844] + pairs[n % 3844] for n in range(number, number + count)]


def _split(task_id: str) -> tuple[str, int]:
    number = number_of(task_id)
    if number is None:
        raise ValueError(f"{task_id!r} is no id of a client")
    return task_id[:-4], number


def _ending(number: int) -> str:
    return _PAIRS[number // 3844 % 3844] + _PAIRS[number % 3844]
