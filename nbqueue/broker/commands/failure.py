"""Commands for attempts that did not succeed: retry, archive, requeue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.broker.commands.retention import (
    ARCHIVE_CAP,
    ARCHIVE_DAYS,
    ATTEMPT_CAP,
    COUNTER_SECONDS,
    DAY_MS,
    EVENT_CAP,
    archive_oldest,
)
from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.attempts import failure_mark
from nbqueue.wire.decoding import MOST_ATTEMPTS
from nbqueue.wire.keys import day_keys, queue_keys
from nbqueue.wire.messages import read_message


class Who(NamedTuple):
    """The worker of an attempt, and its host."""

    worker: str
    host: str


@dataclass(frozen=True)
class Failure:
    """An attempt that did not succeed."""

    task_id: str
    fence: str
    type: str
    attempt: int
    started_ms: int
    waited_ms: int | None
    reason: str
    peak_memory: int
    error_text: str


@dataclass(frozen=True)
class ArchiveRules:
    """Options for keeping an archived task."""

    keep_lock: bool = False
    """True if the task keeps its unique lock."""
    most: int = ARCHIVE_CAP
    """Maximum number of tasks in the archive, unless the queue has a setting."""
    days: float = ARCHIVE_DAYS
    """Days for which the archive keeps tasks, unless the queue has a setting."""


def _attempt_args(failure: Failure, who: Who) -> dict[str, Arg]:
    return {
        "worker": who.worker,
        "host": who.host,
        "type_name": failure.type,
        "attempt_number": failure.attempt,
        "started_ms": failure.started_ms,
        "waited_ms": "" if failure.waited_ms is None else failure.waited_ms,
        "reason": failure.reason,
        "peak_memory": failure.peak_memory,
        "error_text": failure.error_text,
    }


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
    """Try a failed task again when it is due.

    ``msg`` is the message with the failure noted. Without ``counts`` the failure uses up no retry
    and is not counted. Reads as whether the caller held the task; so do `archive` and `requeue`.
    """
    keys = day_keys(queue, now_ms // DAY_MS)
    return command(
        "retry",
        keys,
        {
            "id": failure.task_id,
            "fence": failure.fence,
            "msg": msg,
            "due_ms": due_ms,
            "counts": int(counts),
            "error_body": error,
            "error_mark": mark_of(msg),
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "attempt_cap": ATTEMPT_CAP,
            "day_expire_at": now_ms // 1000 + COUNTER_SECONDS,
            "wake": keys.wake,
            **_attempt_args(failure, who),
        },
        bool,
        other_keys={"task": keys.task(failure.task_id)},
    )


def archive(
    queue: str,
    failure: Failure,
    msg: bytes,
    now_ms: int,
    who: Who,
    *,
    error: bytes = b"",
    rules: ArchiveRules = ArchiveRules(),
    on_trimmed: Callable[[int], object] | None = None,
) -> Command[bool]:
    """Archive a task that failed for good.

    ``msg`` is the message with the failure noted.

    ``on_trimmed`` is called with the number of failed tasks that the archive dropped for this
    one, if there are any.
    """

    def read(reply: Any) -> bool:
        if reply and reply[1] and on_trimmed is not None:
            on_trimmed(int(reply[1]))
        return bool(reply)

    keys = day_keys(queue, now_ms // DAY_MS)
    return command(
        "archive",
        keys,
        {
            "id": failure.task_id,
            "fence": failure.fence,
            "msg": msg,
            "error_body": error,
            "error_mark": mark_of(msg),
            "task_prefix": keys.task_prefix,
            "oldest": archive_oldest(now_ms, rules.days),
            "most": rules.most,
            "keep_lock": int(rules.keep_lock),
            "ends_prefix": keys.ends,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "attempt_cap": ATTEMPT_CAP,
            "day_expire_at": now_ms // 1000 + COUNTER_SECONDS,
            **_attempt_args(failure, who),
        },
        read,
        other_keys={"task": keys.task(failure.task_id)},
    )


def requeue(queue: str, failure: Failure, how: str, now_ms: int, who: Who) -> Command[bool]:
    """Put a task back to the front of the pending list.

    ``how`` is how the attempt ended: unstarted, lost, unbegun or interrupted.
    """
    keys = queue_keys(queue)
    return command(
        "requeue",
        keys,
        {
            "id": failure.task_id,
            "fence": failure.fence,
            "how": how,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "attempt_cap": ATTEMPT_CAP,
            **_attempt_args(failure, who),
        },
        bool,
        other_keys={"task": keys.task(failure.task_id)},
    )


def mark_of(msg: bytes) -> str:
    """The `failure_mark` of an encoded message; empty for bytes that encode none."""
    message = read_message(msg)
    return "" if message is None else failure_mark(message)


def failed_message(msg: bytes, error_text: str, now_ms: int, *, counts: bool) -> bytes:
    """Return ``msg`` with a failure noted as Asynq notes it.

    Unreadable bytes are returned as they are.
    """
    message = read_message(msg)
    if message is None:
        return msg
    message.error_msg = error_text
    message.last_failed_at = now_ms // 1000
    if counts:
        message.retried = min(message.retried + 1, MOST_ATTEMPTS)
    return message.SerializeToString(deterministic=True)
