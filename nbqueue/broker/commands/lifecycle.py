"""What to ask of the store, as data: the script, its keys and arguments, and how to read the reply.

Whoever holds a connection runs them: a client in a blocking way, a worker without blocking. Here is
what workers ask while all goes well; what they ask else is in `failing`, what producers ask in
`producing`, what keeps the store in order in `tending`; all are reachable from here too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

from nbqueue.broker.commands.enqueue import (
    LockHolder,
    drop_code,
    enqueue,
    enqueue_unique,
    schedule,
    serve,
    store_code,
    unserve,
)
from nbqueue.broker.commands.failure import Failure, Who, archive, requeue, retry
from nbqueue.broker.commands.limits import Full
from nbqueue.broker.commands.maintenance import (
    Expired,
    Forwarded,
    Held,
    cancel,
    delete_expired,
    expired,
    failed_message,
    forward,
    held,
)
from nbqueue.broker.script_commands import (
    ARCHIVE_CAP,
    ARCHIVE_DAYS,
    ATTEMPT_CAP,
    COUNTER_DAYS,
    EVENT_CAP,
    MOST_AT_ONCE,
    NewTask,
    check_limit,
    command,
    counter_expiry,
    decoded_id,
    decoded_number,
    positions,
    seconds_never_whole,
    short_way,
    utc_day,
)
from nbqueue.broker.staging import STAGED, stage_ends
from nbqueue.runtime.buffers import Body
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.keys import queue_keys

__all__ = [
    "ARCHIVE_CAP",
    "ARCHIVE_DAYS",
    "ATTEMPT_CAP",
    "COUNTER_DAYS",
    "EVENT_CAP",
    "MOST_AT_ONCE",
    "Arg",
    "Command",
    "Ended",
    "Expired",
    "Failure",
    "Fetched",
    "Forwarded",
    "Held",
    "LockHolder",
    "NewTask",
    "Who",
    "archive",
    "cancel",
    "complete",
    "delete_expired",
    "drop_code",
    "enqueue",
    "enqueue_unique",
    "expired",
    "extend",
    "failed_message",
    "fetch",
    "forward",
    "held",
    "requeue",
    "retry",
    "schedule",
    "seconds_never_whole",
    "serve",
    "store_code",
    "token_fence",
    "unserve",
    "utc_day",
]

_DAY_MS = 86_400_000


class Fetched(NamedTuple):
    """A task that a worker took. ``unread`` is how long its message is if that is to be read."""

    task_id: str
    msg: bytes
    pending_since_ns: int | None
    attempt: int
    lost: int
    unread: int = 0


class Ended(NamedTuple):
    """An attempt that ended well, as `complete` needs it."""

    task_id: str
    fence: str
    keep_until: int | None
    msg: Body
    result: Body
    type: str
    attempt: int
    started_ms: int
    finished_ms: int
    waited_ms: int | None
    peak_memory: int
    is_large: bool = False
    """Its message or its result is, and its message names no unique lock."""
    beside: Sequence[tuple[str, Body]] = ()
    """The pieces of its result, with their fields, where ``result`` is only the head of it."""

    @property
    def result_size(self) -> int:
        size = len(self.result)
        for _, piece in self.beside:
            size += len(piece)
        return size


def token_fence(token: str) -> str:
    """The fence of who fetched the task under ``token``."""
    return "T" + token


def fetch(
    queue: str, limit: int, now_ms: int, lease_until_ms: int, token: str
) -> Command[list[Fetched] | None]:
    """Take pending tasks, oldest first. Reads as ``None`` if the queue is paused, and as a `Full`
    one if it may have no more active tasks."""
    check_limit(limit)
    keys = queue_keys(queue)
    return short_way(
        "fetch",
        (
            keys.pending,
            keys.paused,
            keys.active,
            keys.lease,
            keys.events,
            keys.settings,
        ),
        (
            keys.task_prefix,
            limit,
            now_ms,
            seconds_never_whole(lease_until_ms),
            token,
            EVENT_CAP,
        ),
        read_fetched,
    )


def read_fetched(reply: Any) -> list[Fetched] | None:
    """Read the reply of a script that hands tasks out."""
    if reply == b"PAUSED":
        return None
    if reply == b"FULL":
        return Full()
    found = iter(reply)
    return [
        tuple.__new__(
            Fetched,
            (
                decoded_id(task_id),
                msg if type(msg) is bytes else b"",
                decoded_number(since),
                decoded_number(attempt) or 1,
                decoded_number(lost) or 0,
                0 if type(msg) is bytes else msg,
            ),
        )
        for task_id, msg, since, attempt, lost in zip(*[found] * 5, strict=True)
    ]


@lru_cache(maxsize=64)
def _completing_keys(queue: str, day: int) -> tuple[str, ...]:
    """The keys that `complete` takes but those of tasks, on this day since 1970."""
    keys = queue_keys(queue)
    return (
        keys.active,
        keys.lease,
        keys.completed,
        keys.events,
        keys.attempts,
        keys.processed,
        keys.processed_on(utc_day(day * _DAY_MS)),
    )


def complete(queue: str, ended: Sequence[Ended], now_ms: int, who: Who) -> Command[list[int]]:
    """Finish tasks that succeeded. Reads as the positions of tasks that were no longer held."""
    keys = queue_keys(queue)
    names = [*_completing_keys(queue, now_ms // _DAY_MS)]
    large, staged = stage_ends(keys, ended)
    args: list[Arg] = [now_ms, EVENT_CAP, ATTEMPT_CAP, counter_expiry(now_ms), keys.ends]
    args += (*who, large)
    for task, letter in zip(ended, large or repeat("."), strict=False):
        task_id, fence, keep_until, msg, result, name, attempt, begun, over, waited, peak, *_ = task
        names.append(keys.task_prefix + task_id)
        args += (
            task_id,
            fence,
            "" if keep_until is None else keep_until,
            b"" if letter in STAGED else bytes(msg),
            b"" if letter == "r" else bytes(result),
            name,
            attempt,
            begun,
            over,
            "" if waited is None else waited,
            peak,
        )
    if large:
        return command("complete_careful", names, args, positions, staged)
    return short_way("complete", names, args, positions)


def extend(queue: str, held: Sequence[tuple[str, str]], lease_until_ms: int) -> Command[list[int]]:
    """Extend leases of (task id, fence). Reads as the positions of tasks no longer held."""
    keys = queue_keys(queue)
    names = [keys.lease]
    args: list[Arg] = [seconds_never_whole(lease_until_ms)]
    for task_id, fence in held:
        names.append(keys.task(task_id))
        args += (task_id, fence)
    return command("extend", names, args, positions)
