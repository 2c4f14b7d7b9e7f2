"""One call of a script, as data, and what all commands share.

Times are Unix milliseconds on the store's clock, lease ends Unix seconds that are never whole
(whole ones are those of programs in Go).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Generic, NamedTuple, TypeVar

from nbqueue.broker import script_loader
from nbqueue.runtime.buffers import LARGE, Body
from nbqueue.wire.decoding import whole_number

T = TypeVar("T")
Arg = bytes | str | int | float

CAREFUL = b"CAREFUL"

EVENT_CAP = 10_000
ARCHIVE_CAP = 10_000
ARCHIVE_DAYS = 90
ATTEMPT_CAP = 100_000
COUNTER_DAYS = 90
MOST_AT_ONCE = 1000
"""Tasks in one call of a script: Lua takes no more than some thousands of values at once."""


class Staged(NamedTuple):
    """A hash with large values that a script finds under ``key``, and takes from there.

    What goes through Lua is read byte by byte there, 2 ms a megabyte, each time; this does not.
    """

    key: str
    values: Sequence[tuple[str, Body]]
    stays: bool = False
    """It is no such hash but a task, into which the values are written before the script looks at
    it: where they must not stay, the script deletes them."""


@dataclass(slots=True)
class Command(Generic[T]):
    """One call of a script, ready to be sent. Nothing of what is ``staged`` outlives it."""

    script: script_loader.Script
    keys: Sequence[str]
    args: Sequence[Arg]
    read: Callable[[Any], T]
    staged: Sequence[Staged] = ()
    has_careful: bool = False
    """Whether it may reply `CAREFUL`: then it did nothing, and leaves it to `careful`."""

    @property
    def careful(self) -> Command[T] | None:
        """What to run instead then."""
        if not self.has_careful:
            return None
        script = script_loader.load(self.script.name + "_careful")
        return Command(script, self.keys, self.args, self.read)

    def words(self) -> tuple[Arg, ...]:
        """The words of the Redis command that runs the script by its digest."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


class NewTask(NamedTuple):
    """A task that does not lie in the store yet: its id, and its encoded `TaskMessage`.

    ``beside`` are the pieces of its arguments where the message has only their head.
    """

    task_id: str
    msg: Body
    beside: Sequence[Body] = ()

    @property
    def is_staged(self) -> bool:
        """Whether it goes past Lua."""
        return bool(self.beside) or len(self.msg) > LARGE


def seconds_never_whole(ms: int) -> str:
    """``ms`` as Unix seconds with a fraction that is never zero: the score of our own leases."""
    return f"{ms // 1000}.{ms % 1000 or 1:03d}"


def utc_day(now_ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=now_ms)).date()


def positions(reply: Any) -> list[int]:
    return [int(i) for i in reply]


def command(
    name: str,
    keys: Sequence[str],
    args: Sequence[Arg],
    read: Callable[[Any], T],
    staged: Sequence[Staged] = (),
) -> Command[T]:
    if len(keys) > MOST_AT_ONCE + 10:
        raise ValueError(f"{name}: at most {MOST_AT_ONCE} tasks at once, not {len(keys)}")
    script = script_loader.load(name)
    script.check(len(keys), len(args))
    return Command(script, keys, args, read, staged)


def short_way(
    name: str, keys: Sequence[str], args: Sequence[Arg], read: Callable[[Any], T]
) -> Command[T]:
    """The script of that name, which leaves what is not simple to ``<name>_careful``."""
    found = command(name, keys, args, read)
    found.has_careful = True
    return found


def counter_expiry(now_ms: int) -> int:
    """When (Unix seconds) the counters of this day go."""
    return now_ms // 1000 + COUNTER_DAYS * 86_400


def archive_oldest(now_ms: int, days: float = ARCHIVE_DAYS) -> int:
    """What was archived before then (Unix seconds) is too old, unless the queue says otherwise."""
    return now_ms // 1000 - int(days * 86_400)


def check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_AT_ONCE:
        raise ValueError(f"limit={limit} is not between 1 and {MOST_AT_ONCE}")


decoded_number = whole_number


def decoded_id(task_id: bytes) -> str:
    # No program that follows Asynq's rules makes an id that is not UTF-8, and none may stop us.
    return task_id.decode("utf-8", "replace")
