"""What workers ask of the store when an attempt did not end well: try again, archive, put back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.broker.commands.maintenance import mark_of
from nbqueue.broker.script_commands import (
    ARCHIVE_CAP,
    ARCHIVE_DAYS,
    ATTEMPT_CAP,
    EVENT_CAP,
    archive_oldest,
    command,
    counter_expiry,
    utc_day,
)
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.keys import QueueKeys, queue_keys


class Who(NamedTuple):
    """Who ran an attempt."""

    worker: str
    host: str


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


def _counters(keys: QueueKeys, now_ms: int) -> tuple[str, ...]:
    day = utc_day(now_ms)
    return keys.processed, keys.processed_on(day), keys.failed, keys.failed_on(day)


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
    return command(
        "retry",
        (
            keys.task(failure.task_id),
            keys.active,
            keys.lease,
            keys.retry,
            keys.events,
            keys.attempts,
            *_counters(keys, now_ms),
        ),
        (
            failure.task_id,
            failure.fence,
            msg,
            due_ms,
            int(counts),
            error,
            mark_of(msg),
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            counter_expiry(now_ms),
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
    what the settings of the queue say. ``on_trimmed`` is called with the number of
    tasks dropped for that which had failed, if any.
    """

    def read(reply: Any) -> bool:
        if reply and reply[1] and on_trimmed is not None:
            on_trimmed(int(reply[1]))
        return bool(reply)

    keys = queue_keys(queue)
    return command(
        "archive",
        (
            keys.task(failure.task_id),
            keys.active,
            keys.lease,
            keys.archived,
            keys.events,
            keys.attempts,
            *_counters(keys, now_ms),
            keys.trimmed,
            keys.settings,
        ),
        (
            failure.task_id,
            failure.fence,
            msg,
            error,
            mark_of(msg),
            keys.task_prefix,
            archive_oldest(now_ms, ARCHIVE_DAYS if days is None else days),
            ARCHIVE_CAP if most is None else most,
            int(keep_lock),
            keys.ends,
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            counter_expiry(now_ms),
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
