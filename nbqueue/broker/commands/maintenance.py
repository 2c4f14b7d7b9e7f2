"""Commands that keep a queue in order: forward, recover, expire, cancel."""

from __future__ import annotations

from typing import Any, NamedTuple

from nbqueue.broker.commands.failure import mark_of
from nbqueue.broker.commands.retention import ARCHIVE_CAP, EVENT_CAP, archive_oldest
from nbqueue.broker.script_commands import check_limit, command
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import text, time_ms, whole_number
from nbqueue.wire.keys import queue_keys, stored_keys


class Expired(NamedTuple):
    """A task with an expired lease.

    ``begun``: this attempt is known to have begun.
    """

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
    """An active task that a worker fetched, with the token of that fetch."""

    task_id: str
    msg: bytes
    token: str
    attempt: int
    lost: int
    begun: bool = False
    unbegun: int = 0


class Forwarded(NamedTuple):
    """The number of tasks that were moved, and the next time to look.

    The time (Unix ms) is when the next task is due or, if it is due in a later second, when that
    second begins. None: no task is to come.
    """

    moved: int
    next_due_ms: int | None


class Repaired(NamedTuple):
    """The number of active tasks that were checked, and of leases that were added."""

    seen: int
    repaired: int


class Overdue(NamedTuple):
    """The maintenance that a queue needs."""

    due: bool
    expired: bool
    orphans: bool
    over: bool
    old_attempts: bool
    waiting: bool
    schedules: bool
    cancels: bool = False


def expired(
    queue: str, now_ms: int, foreign_grace_s: int = 30, limit: int = 100
) -> Command[list[Expired]]:
    """Find tasks whose lease expired, for programs in Go with ``foreign_grace_s`` more."""
    keys = queue_keys(queue)
    now_s = now_ms / 1000
    return command(
        "expired",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "now_s": f"{now_s:.3f}",
            "foreign_before": int(now_s) - foreign_grace_s,
            "limit": limit,
        },
        _read_expired,
    )


def _read_expired(reply: Any) -> list[Expired]:
    found = iter(reply)
    return [
        Expired(
            text(task_id),
            score.decode(),
            msg,
            text(lease),
            whole_number(attempt) or 1,
            whole_number(lost) or 0,
            attempt == begun,
            whole_number(unbegun) or 0,
        )
        for task_id, score, msg, lease, attempt, lost, begun, unbegun in zip(
            *[found] * 8, strict=True
        )
    ]


def held_by_worker(queue: str, worker_id: str, limit: int = 2000) -> Command[list[Held]]:
    """Find active tasks that a worker fetched, even if it got no reply."""
    keys = queue_keys(queue)
    return command(
        "held_by_worker",
        keys,
        {"task_prefix": keys.task_prefix, "holder": worker_id + ":", "limit": limit},
        _read_held,
    )


def _read_held(reply: Any) -> list[Held]:
    found = iter(reply)
    return [
        Held(
            text(task_id),
            msg,
            text(lease).rpartition("|")[0],
            whole_number(attempt) or 1,
            whole_number(lost) or 0,
            attempt == begun,
            whole_number(unbegun) or 0,
        )
        for task_id, msg, lease, attempt, lost, begun, unbegun in zip(*[found] * 7, strict=True)
    ]


def repair_leases(queue: str, now_ms: int, start: int = 0, limit: int = 500) -> Command[Repaired]:
    """Give active tasks without a lease an expired one.

    They are then recovered like other tasks with an expired lease.
    """
    return command(
        "repair_leases",
        queue_keys(queue),
        {"start": start, "stop": start + limit - 1, "lease_until": now_ms // 1000 - 60},
        lambda reply: Repaired(int(reply[0]), int(reply[1])),
    )


def overdue(queue: str, now_ms: int, oldest_ms: int) -> Command[Overdue]:
    """Ask what maintenance a queue needs; attempts before ``oldest_ms`` are too old."""
    return command(
        "overdue",
        queue_keys(queue),
        {"now_ms": now_ms, "oldest_attempt": oldest_ms},
        lambda reply: Overdue(*(bool(each) for each in reply)),
    )


def forward(queue: str, now_ms: int, limit: int = 500) -> Command[Forwarded]:
    """Make scheduled and retried tasks that are due pending.

    Moves at most ``limit`` of each kind.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "forward",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "group_prefix": keys.group(""),
            "now_ms": now_ms,
            "limit": limit,
            "event_cap": EVENT_CAP,
            "wake": keys.wake,
        },
        lambda reply: Forwarded(int(reply[0]), time_ms(reply[1])),
    )


def delete_expired(queue: str, now_ms: int, limit: int = 100) -> Command[int]:
    """Delete completed tasks whose retention is over.

    Reads as how many ids were handled.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "delete_expired",
        keys,
        {
            "task_prefix": keys.task_prefix,
            "now_ms": now_ms,
            "limit": limit,
            "event_cap": EVENT_CAP,
        },
        int,
    )


def cancel(
    queue: str, task_id: str, expected_msg: bytes, msg: bytes, error: bytes, now_ms: int
) -> Command[str]:
    """Archive a task that is not running, as cancelled.

    Reads as a word of the script.
    """
    keys = stored_keys(queue)
    return command(
        "cancel",
        keys,
        {
            "id": task_id,
            "msg": msg,
            "error": error,
            "error_mark": mark_of(msg),
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "ends_prefix": keys.ends,
            "expected_msg": expected_msg,
            "task_prefix": keys.task_prefix,
            "group_prefix": keys.group(""),
            "oldest": archive_oldest(now_ms),
            "most": ARCHIVE_CAP,
        },
        lambda reply: str(reply.decode()),
        other_keys={"task": keys.task(task_id)},
    )
