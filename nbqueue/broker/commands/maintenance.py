"""What is asked of the store to keep it in order: to find, to forward, to delete, to cancel."""

from __future__ import annotations

from typing import Any, NamedTuple

from nbqueue.broker.script_commands import (
    ARCHIVE_CAP,
    EVENT_CAP,
    archive_oldest,
    check_limit,
    command,
    decoded_id,
    decoded_number,
)
from nbqueue.transport.script_call import Command
from nbqueue.wire.attempts import failure_mark
from nbqueue.wire.decoding import MOST_ATTEMPTS, time_ms
from nbqueue.wire.keys import queue_keys, stored_keys
from nbqueue.wire.messages import read_message


class Expired(NamedTuple):
    """A task whose lease ran out. ``begun``: it is known that this attempt had begun."""

    task_id: str
    score: str
    msg: bytes
    lease: str
    attempt: int
    lost: int
    begun: bool = False
    unbegun: int = 0

    @property
    def fence(self) -> str:
        return "S" + self.score


class Held(NamedTuple):
    """An active task that a worker fetched, and the token under which it did."""

    task_id: str
    msg: bytes
    token: str
    attempt: int
    lost: int
    begun: bool = False
    unbegun: int = 0


class Forwarded(NamedTuple):
    """How many tasks were moved, and when to look again (Unix ms); ``None`` if none is to come.

    That is when the next task is due or, if it is due in a later second, when that begins.
    """

    moved: int
    next_due_ms: int | None


def expired(
    queue: str, now_ms: int, foreign_grace_s: int = 30, limit: int = 100
) -> Command[list[Expired]]:
    """Find tasks whose lease ran out; those of programs in Go after ``foreign_grace_s`` more."""
    keys = queue_keys(queue)
    now_s = now_ms / 1000
    return command(
        "expired",
        (keys.lease, keys.active),
        (keys.task_prefix, f"{now_s:.3f}", int(now_s) - foreign_grace_s, limit),
        _read_expired,
    )


def _read_expired(reply: Any) -> list[Expired]:
    found = iter(reply)
    return [
        Expired(
            decoded_id(task_id),
            score.decode(),
            msg,
            lease.decode("utf-8", "replace"),
            decoded_number(attempt) or 1,
            decoded_number(lost) or 0,
            attempt == begun,
            decoded_number(unbegun) or 0,
        )
        for task_id, score, msg, lease, attempt, lost, begun, unbegun in zip(
            *[found] * 8, strict=True
        )
    ]


def held(queue: str, worker_id: str, limit: int = 2000) -> Command[list[Held]]:
    """Find what a worker fetched and has not finished, be it that it never heard of it."""
    keys = queue_keys(queue)
    return command("held", (keys.active,), (keys.task_prefix, worker_id + ":", limit), _read_held)


def _read_held(reply: Any) -> list[Held]:
    found = iter(reply)
    return [
        Held(
            decoded_id(task_id),
            msg,
            lease.decode("utf-8", "replace").rpartition("|")[0],
            decoded_number(attempt) or 1,
            decoded_number(lost) or 0,
            attempt == begun,
            decoded_number(unbegun) or 0,
        )
        for task_id, msg, lease, attempt, lost, begun, unbegun in zip(*[found] * 7, strict=True)
    ]


def forward(queue: str, now_ms: int, limit: int = 500) -> Command[Forwarded]:
    """Move tasks that are due to pending, at most ``limit`` of each set."""
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "forward",
        (keys.scheduled, keys.retry, keys.pending, keys.groups, keys.events),
        (keys.task_prefix, keys.group(""), now_ms, limit, EVENT_CAP, keys.wake),
        lambda reply: Forwarded(int(reply[0]), time_ms(reply[1])),
    )


def delete_expired(queue: str, now_ms: int, limit: int = 100) -> Command[int]:
    """Delete completed tasks whose retention is over. Reads as how many ids were dealt with."""
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "delete_expired",
        (keys.completed, keys.events),
        (keys.task_prefix, now_ms, limit, EVENT_CAP),
        int,
    )


def cancel(
    queue: str, task_id: str, expected_msg: bytes, msg: bytes, error: bytes, now_ms: int
) -> Command[str]:
    """Archive a task that is not running, as cancelled. Reads as one of the words of the script."""
    keys = stored_keys(queue)
    return command(
        "cancel",
        (
            keys.task(task_id),
            keys.pending,
            keys.scheduled,
            keys.retry,
            keys.archived,
            keys.completed,
            keys.groups,
            keys.events,
            keys.trimmed,
            keys.settings,
        ),
        (
            task_id,
            msg,
            error,
            mark_of(msg),
            now_ms,
            EVENT_CAP,
            keys.ends,
            expected_msg,
            keys.task_prefix,
            keys.group(""),
            archive_oldest(now_ms),
            ARCHIVE_CAP,
        ),
        lambda reply: str(reply.decode()),
    )


def mark_of(msg: bytes) -> str:
    """The `failure_mark` of an encoded message; empty for bytes that encode none."""
    message = read_message(msg)
    return "" if message is None else failure_mark(message)


def failed_message(msg: bytes, error_text: str, now_ms: int, *, counts: bool) -> bytes:
    """Return ``msg`` with the failure noted, as Asynq notes it; unreadable bytes as they are."""
    message = read_message(msg)
    if message is None:
        return msg
    message.error_msg = error_text
    message.last_failed_at = now_ms // 1000
    if counts:
        message.retried = min(message.retried + 1, MOST_ATTEMPTS)
    return message.SerializeToString(deterministic=True)
