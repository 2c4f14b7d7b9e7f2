"""Build calls of scripts, with the limits and number formats that all commands share.

Times are Unix milliseconds on the store's clock. Lease ends are Unix seconds with a fraction that
is never zero; whole seconds are the leases of programs in Go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta, timezone
from typing import Any, NamedTuple, TypeVar

from nbqueue.broker import script_loader
from nbqueue.runtime.buffers import LARGE, Body
from nbqueue.transport.script_call import Arg, Command, Staged
from nbqueue.wire.decoding import whole_number

T = TypeVar("T")

EVENT_CAP = 10_000
ARCHIVE_CAP = 10_000
ARCHIVE_DAYS = 90
ATTEMPT_CAP = 100_000
COUNTER_DAYS = 90
MOST_AT_ONCE = 1000
"""Tasks in one call of a script: Lua takes no more than some thousands of values at once."""


class NewTask(NamedTuple):
    """A task that is not in the store yet: its id and its encoded `TaskMessage`.

    ``beside`` are the pieces of its arguments where the message has only their head.
    """

    task_id: str
    msg: Body
    beside: Sequence[Body] = ()

    @property
    def is_staged(self) -> bool:
        """Whether its values are staged for the script rather than passed as arguments."""
        return bool(self.beside) or len(self.msg) > LARGE


def command(
    name: str,
    keys: Sequence[str],
    args: Sequence[Arg],
    read: Callable[[Any], T],
    staged: Sequence[Staged] = (),
) -> Command[T]:
    """Return a call of the script ``name``. Raises `TypeError` if its header disagrees."""
    if len(keys) > MOST_AT_ONCE + 10:
        raise ValueError(f"{name}: at most {MOST_AT_ONCE} tasks at once, not {len(keys)}")
    script = script_loader.load(name)
    script.check(len(keys), len(args))
    return Command(script, keys, args, read, staged)


def short_way(
    name: str, keys: Sequence[str], args: Sequence[Arg], read: Callable[[Any], T]
) -> Command[T]:
    """Return a call of the script ``name`` that falls back to ``<name>_careful``."""
    found = command(name, keys, args, read)
    found.full_script = script_loader.load(name + "_careful")
    return found


def seconds_never_whole(ms: int) -> str:
    """Return ``ms`` as Unix seconds with a fraction that is never zero: a lease's score."""
    return f"{ms // 1000}.{ms % 1000 or 1:03d}"


def utc_day(now_ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=now_ms)).date()


def positions(reply: Any) -> list[int]:
    return [int(i) for i in reply]


def counter_expiry(now_ms: int) -> int:
    """Return when (Unix seconds) the counters of this day expire."""
    return now_ms // 1000 + COUNTER_DAYS * 86_400


def archive_oldest(now_ms: int, days: float = ARCHIVE_DAYS) -> int:
    """Return the time (Unix seconds) before which archived tasks are deleted by default."""
    return now_ms // 1000 - int(days * 86_400)


def check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_AT_ONCE:
        raise ValueError(f"limit={limit} is not between 1 and {MOST_AT_ONCE}")


decoded_number = whole_number


def decoded_id(task_id: bytes) -> str:
    # No program that follows Asynq's rules makes an id that is not UTF-8, and none may stop us.
    return task_id.decode("utf-8", "replace")
