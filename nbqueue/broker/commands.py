"""What to ask of the store, as data: the script, its keys and arguments, and how to read the reply.

Whoever holds a connection runs them: a client in a blocking way, a worker without blocking. Here is
what workers ask; what producers ask is in `producing`, what keeps the store in order in
`tending`; both are reachable from here too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat
from typing import Any, NamedTuple

from nbqueue.broker.command import (
    ARCHIVE_CAP,
    ARCHIVE_DAYS,
    EVENT_CAP,
    MOST_AT_ONCE,
    Arg,
    Command,
    NewTask,
    archive_oldest,
    check_limit,
    command,
    decoded_id,
    decoded_number,
    positions,
    seconds_never_whole,
    short_way,
    utc_day,
)
from nbqueue.broker.limiting import Full
from nbqueue.broker.producing import (
    LockHolder,
    drop_code,
    enqueue,
    enqueue_unique,
    schedule,
    serve,
    store_code,
    unserve,
)
from nbqueue.broker.staging import STAGED, stage_ends
from nbqueue.broker.tending import (
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
from nbqueue.pieces import Body
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

ATTEMPT_CAP = 100_000
COUNTER_DAYS = 90
_DAY_MS = 86_400_000


class Fetched(NamedTuple):
    """A task that a worker took. ``unread`` is how long its message is if that is to be read."""

    task_id: str
    msg: bytes
    pending_since_ns: int | None
    attempt: int
    lost: int
    unread: int = 0


class Who(NamedTuple):
    """Who ran an attempt."""

    worker: str
    host: str


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


@dataclass(frozen=True)
class Failure:
    """An attempt that did not end well, as `retry`, `archive` and `requeue` need it."""

    task_id: str
    fence: str
    type: str
    attempt: int
    started_ms: int
    waited_ms: int | None
    reason: str
    peak_memory: int
    error_text: str


def token_fence(token: str) -> str:
    """The fence of who fetched the task under ``token``."""
    return "T" + token


def _counter_expiry(now_ms: int) -> int:
    return now_ms // 1000 + COUNTER_DAYS * 86_400


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
        _read_fetched,
    )


def _read_fetched(reply: Any) -> list[Fetched] | None:
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
    args: list[Arg] = [now_ms, EVENT_CAP, ATTEMPT_CAP, _counter_expiry(now_ms), keys.ends]
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


def _attempt_args(failure: Failure, who: Who) -> tuple[Arg, ...]:
    return (
        *who,
        failure.type,
        failure.attempt,
        failure.started_ms,
        "" if failure.waited_ms is None else failure.waited_ms,
        failure.reason,
        failure.peak_memory,
        failure.error_text,
    )


def retry(
    queue: str,
    failure: Failure,
    msg: bytes,
    due_ms: int,
    now_ms: int,
    who: Who,
    *,
    counts: bool = True,
    error: bytes = b"",
) -> Command[bool]:
    """Try a failed task again when it is due. ``msg`` is the message with the failure noted."""
    keys = queue_keys(queue)
    day = utc_day(now_ms)
    return command(
        "retry",
        (
            keys.task(failure.task_id),
            keys.active,
            keys.lease,
            keys.retry,
            keys.events,
            keys.attempts,
            keys.processed,
            keys.processed_on(day),
            keys.failed,
            keys.failed_on(day),
        ),
        (
            failure.task_id,
            failure.fence,
            msg,
            due_ms,
            int(counts),
            error,
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            _counter_expiry(now_ms),
            keys.wake,
            *_attempt_args(failure, who),
        ),
        bool,
    )


def archive(
    queue: str,
    failure: Failure,
    msg: bytes,
    now_ms: int,
    who: Who,
    *,
    error: bytes = b"",
    keep_lock: bool = False,
    most: int | None = None,
    days: float | None = None,
    on_trimmed: Callable[[int], object] | None = None,
) -> Command[bool]:
    """Archive a task that failed for good. ``msg`` is the message with the failure noted.

    The archive keeps the newest ``most`` tasks (`ARCHIVE_CAP`) for ``days`` (`ARCHIVE_DAYS`), or
    what the settings of the queue say. ``on_trimmed`` is told how many were dropped for that.
    """

    def read(reply: Any) -> bool:
        if reply and reply[1] and on_trimmed is not None:
            on_trimmed(int(reply[1]))
        return bool(reply)

    keys = queue_keys(queue)
    day = utc_day(now_ms)
    return command(
        "archive",
        (
            keys.task(failure.task_id),
            keys.active,
            keys.lease,
            keys.archived,
            keys.events,
            keys.attempts,
            keys.processed,
            keys.processed_on(day),
            keys.failed,
            keys.failed_on(day),
            keys.trimmed,
            keys.settings,
        ),
        (
            failure.task_id,
            failure.fence,
            msg,
            error,
            keys.task_prefix,
            archive_oldest(now_ms, ARCHIVE_DAYS if days is None else days),
            ARCHIVE_CAP if most is None else most,
            int(keep_lock),
            keys.ends,
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            _counter_expiry(now_ms),
            *_attempt_args(failure, who),
        ),
        read,
    )


def requeue(queue: str, failure: Failure, how: str, now_ms: int, who: Who) -> Command[bool]:
    """Put a task back to the front of its line; ``how`` is unstarted, lost or interrupted."""
    keys = queue_keys(queue)
    return command(
        "requeue",
        (
            keys.task(failure.task_id),
            keys.active,
            keys.lease,
            keys.pending,
            keys.events,
            keys.attempts,
        ),
        (
            failure.task_id,
            failure.fence,
            how,
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            *_attempt_args(failure, who),
        ),
        bool,
    )


def extend(queue: str, held: Sequence[tuple[str, str]], lease_until_ms: int) -> Command[list[int]]:
    """Extend leases of (task id, fence). Reads as the positions of tasks no longer held."""
    keys = queue_keys(queue)
    names = [keys.lease]
    args: list[Arg] = [seconds_never_whole(lease_until_ms)]
    for task_id, fence in held:
        names.append(keys.task(task_id))
        args += (task_id, fence)
    return command("extend", names, args, positions)
