"""What to ask of the store, as data: the script, its keys and arguments, and how to read the reply.

Whoever holds a connection runs them: a client in a blocking way, a worker without blocking. Times
are Unix milliseconds on the store's clock, lease ends Unix seconds that are never whole (whole ones
are those of programs in Go).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Any, Generic, NamedTuple, TypeVar

from nbqueue.broker import scripts
from nbqueue.wire.keys import QueueKeys, queue_keys
from nbqueue.wire.messages import read_message

T = TypeVar("T")
Arg = bytes | str | int | float

EVENT_CAP = 10_000
ATTEMPT_CAP = 100_000
ARCHIVE_CAP = 10_000
ARCHIVE_DAYS = 90
COUNTER_DAYS = 90
MOST_AT_ONCE = 1000
"""Tasks in one call of a script: Lua takes no more than some thousands of values at once."""


@dataclass(slots=True)
class Command(Generic[T]):
    """One call of a script, ready to be sent."""

    script: scripts.Script
    keys: Sequence[str]
    args: Sequence[Arg]
    read: Callable[[Any], T]

    def words(self) -> tuple[Arg, ...]:
        """The words of the Redis command that runs the script by its digest."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


class NewTask(NamedTuple):
    """A task that does not lie in the store yet: its id, and its encoded `TaskMessage`."""

    task_id: str
    msg: bytes


class Fetched(NamedTuple):
    """A task that a worker took."""

    task_id: str
    msg: bytes
    pending_since_ns: int | None
    attempt: int
    lost: int


class Expired(NamedTuple):
    """A task whose lease ran out."""

    task_id: str
    score: str
    msg: bytes
    lease: str
    attempt: int
    lost: int

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


class Forwarded(NamedTuple):
    """How many tasks were moved, and when to look again (Unix ms); ``None`` if none is to come.

    That is when the next task is due or, if it is due in a later second, when that begins.
    """

    moved: int
    next_due_ms: int | None


class Who(NamedTuple):
    """Who ran an attempt."""

    worker: str
    host: str


class Ended(NamedTuple):
    """An attempt that ended well, as `complete` needs it."""

    task_id: str
    fence: str
    keep_until: int | None
    msg: bytes
    result: bytes
    type: str
    attempt: int
    started_ms: int
    finished_ms: int
    waited_ms: int | None
    peak_memory: int


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


def seconds_never_whole(ms: int) -> str:
    """``ms`` as Unix seconds with a fraction that is never zero: the score of our own leases."""
    return f"{ms // 1000}.{ms % 1000 or 1:03d}"


def utc_day(now_ms: int) -> date:
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=now_ms)).date()


def _counter_expiry(now_ms: int) -> int:
    return now_ms // 1000 + COUNTER_DAYS * 86_400


def _positions(reply: Any) -> list[int]:
    return [int(i) for i in reply]


def _positions_or_no_code(reply: Any) -> list[int] | None:
    return None if reply == b"NOCODE" else _positions(reply)


def _command(
    name: str, keys: Sequence[str], args: Sequence[Arg], read: Callable[[Any], T]
) -> Command[T]:
    if len(keys) > MOST_AT_ONCE + 10:
        raise ValueError(f"{name}: at most {MOST_AT_ONCE} tasks at once, not {len(keys)}")
    script = scripts.load(name)
    script.check(len(keys), len(args))
    return Command(script, keys, args, read)


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MOST_AT_ONCE:
        raise ValueError(f"limit={limit} is not between 1 and {MOST_AT_ONCE}")


def store_code(queue: str, fingerprint: bytes, blob: bytes, now_ms: int) -> Command[int]:
    """Keep the code of a function for the tasks of ``queue``."""
    keys = queue_keys(queue)
    return _command(
        "store_code",
        (keys.code(fingerprint), keys.code_index),
        (now_ms, fingerprint.hex(), blob),
        int,
    )


def serve(
    queue: str, pattern: str, envelope: bytes, fingerprint: bytes, blob: bytes, now_ms: int
) -> Command[bool]:
    """Keep a handler for messages of ``queue``. Reads as whether its pattern is new."""
    keys = queue_keys(queue)
    return _command(
        "serve",
        (keys.handlers, keys.code(fingerprint), keys.code_index),
        (pattern, envelope, fingerprint.hex(), blob, now_ms, keys.wake),
        bool,
    )


def unserve(queue: str, pattern: str) -> Command[bool]:
    """Forget a handler. Reads as whether there was one."""
    keys = queue_keys(queue)
    return _command("unserve", (keys.handlers,), (pattern, keys.wake), bool)


def drop_code(queue: str, fingerprint: bytes, seen_at: str) -> Command[bool]:
    """Forget code that no task uses, unless it was asked for since ``seen_at``."""
    keys = queue_keys(queue)
    return _command(
        "drop_code",
        (keys.code(fingerprint), keys.code_index),
        (fingerprint.hex(), seen_at),
        bool,
    )


def enqueue(
    queue: str,
    tasks: Sequence[NewTask],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
) -> Command[list[int] | None]:
    """Make tasks pending. Reads as the positions of those whose id existed, or ``None`` if the
    store lacks the code: then nothing was written."""
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    names = [keys.pending, keys.events, _code_key(keys, fingerprint), keys.code_index]
    names += [prefix + task.task_id for task in tasks]
    code = fingerprint.hex() if fingerprint else ""
    args: list[Arg] = [now_ms, EVENT_CAP, code, int(repeated)]
    for task in tasks:
        args += task
    return _command("enqueue", names, args, _positions_or_no_code)


def schedule(
    queue: str,
    tasks: Sequence[tuple[NewTask, int]],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
) -> Command[list[int] | None]:
    """Put tasks aside until they are due (Unix ms). Reads as `enqueue`."""
    keys = queue_keys(queue)
    names = [keys.scheduled, keys.events, _code_key(keys, fingerprint), keys.code_index]
    names += [keys.task(task.task_id) for task, _ in tasks]
    code = fingerprint.hex() if fingerprint else ""
    args: list[Arg] = [now_ms, EVENT_CAP, code, int(repeated), keys.wake]
    for task, due_ms in tasks:
        args += (*task, due_ms)
    return _command("schedule", names, args, _positions_or_no_code)


def _code_key(keys: QueueKeys, fingerprint: bytes | None) -> str:
    # A script needs the key even where no code is asked for; it must share the queue's slot.
    return keys.code(fingerprint) if fingerprint else keys.code_index


def fetch(
    queue: str, limit: int, now_ms: int, lease_until_ms: int, token: str
) -> Command[list[Fetched] | None]:
    """Take pending tasks, oldest first. Reads as ``None`` if the queue is paused."""
    _check_limit(limit)
    keys = queue_keys(queue)
    return _command(
        "fetch",
        (keys.pending, keys.paused, keys.active, keys.lease, keys.events),
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


def _id(task_id: bytes) -> str:
    # No program that follows Asynq's rules makes an id that is not UTF-8, and none may stop us.
    return task_id.decode("utf-8", "replace")


def _number(value: bytes | int) -> int | None:
    # Anybody may have written it; what makes no sense counts as absent.
    try:
        number = int(value)
    except ValueError:
        return None
    return number if abs(number) < 2**62 else None


def _holder(lease: bytes) -> str:
    return lease.decode("utf-8", "replace").rpartition("|")[0]


def _read_fetched(reply: Any) -> list[Fetched] | None:
    if reply == b"PAUSED":
        return None
    found = iter(reply)
    return [
        Fetched(_id(task_id), msg, _number(since), _number(attempt) or 1, _number(lost) or 0)
        for task_id, msg, since, attempt, lost in zip(
            found, found, found, found, found, strict=True
        )
    ]


def complete(queue: str, ended: Sequence[Ended], now_ms: int, who: Who) -> Command[list[int]]:
    """Finish tasks that succeeded. Reads as the positions of tasks that were no longer held."""
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    names = [
        keys.active,
        keys.lease,
        keys.completed,
        keys.events,
        keys.attempts,
        keys.processed,
        keys.processed_on(utc_day(now_ms)),
    ]
    args: list[Arg] = [now_ms, EVENT_CAP, ATTEMPT_CAP, _counter_expiry(now_ms), keys.ends, *who]
    for task in ended:
        names.append(prefix + task.task_id)
        args += (
            task.task_id,
            task.fence,
            "" if task.keep_until is None else task.keep_until,
            task.msg,
            task.result,
            task.type,
            task.attempt,
            task.started_ms,
            task.finished_ms,
            "" if task.waited_ms is None else task.waited_ms,
            task.peak_memory,
        )
    return _command("complete", names, args, _positions)


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
    return _command(
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
    queue: str, failure: Failure, msg: bytes, now_ms: int, who: Who, *, error: bytes = b""
) -> Command[bool]:
    """Archive a task that failed for good. ``msg`` is the message with the failure noted."""
    keys = queue_keys(queue)
    day = utc_day(now_ms)
    return _command(
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
        ),
        (
            failure.task_id,
            failure.fence,
            msg,
            error,
            keys.task_prefix,
            now_ms // 1000 - ARCHIVE_DAYS * 86_400,
            ARCHIVE_CAP,
            keys.ends,
            now_ms,
            EVENT_CAP,
            ATTEMPT_CAP,
            _counter_expiry(now_ms),
            *_attempt_args(failure, who),
        ),
        bool,
    )


def requeue(queue: str, failure: Failure, how: str, now_ms: int, who: Who) -> Command[bool]:
    """Put a task back to the front of its line; ``how`` is unstarted, lost or interrupted."""
    keys = queue_keys(queue)
    return _command(
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
    return _command("extend", names, args, _positions)


def expired(
    queue: str, now_ms: int, foreign_grace_s: int = 30, limit: int = 100
) -> Command[list[Expired]]:
    """Find tasks whose lease ran out; those of programs in Go after ``foreign_grace_s`` more."""
    keys = queue_keys(queue)
    now_s = now_ms / 1000
    return _command(
        "expired",
        (keys.lease, keys.active),
        (keys.task_prefix, f"{now_s:.3f}", int(now_s) - foreign_grace_s, limit),
        _read_expired,
    )


def _read_expired(reply: Any) -> list[Expired]:
    found = iter(reply)
    return [
        Expired(
            _id(task_id),
            score.decode(),
            msg,
            lease.decode("utf-8", "replace"),
            _number(attempt) or 1,
            _number(lost) or 0,
        )
        for task_id, score, msg, lease, attempt, lost in zip(
            found, found, found, found, found, found, strict=True
        )
    ]


def held(queue: str, worker_id: str, limit: int = 2000) -> Command[list[Held]]:
    """Find what a worker fetched and has not finished, be it that it never heard of it."""
    keys = queue_keys(queue)
    return _command("held", (keys.active,), (keys.task_prefix, worker_id + ":", limit), _read_held)


def _read_held(reply: Any) -> list[Held]:
    found = iter(reply)
    return [
        Held(_id(task_id), msg, _holder(lease), _number(attempt) or 1, _number(lost) or 0)
        for task_id, msg, lease, attempt, lost in zip(
            found, found, found, found, found, strict=True
        )
    ]


def forward(queue: str, now_ms: int, limit: int = 500) -> Command[Forwarded]:
    """Move tasks that are due to pending, at most ``limit`` of each set."""
    _check_limit(limit)
    keys = queue_keys(queue)
    return _command(
        "forward",
        (keys.scheduled, keys.retry, keys.pending, keys.groups, keys.events),
        (keys.task_prefix, keys.group(""), now_ms, limit, EVENT_CAP),
        lambda reply: Forwarded(int(reply[0]), int(reply[1]) if reply[1] else None),
    )


def delete_expired(queue: str, now_ms: int, limit: int = 100) -> Command[int]:
    """Delete completed tasks whose retention is over. Reads as how many ids were dealt with."""
    _check_limit(limit)
    keys = queue_keys(queue)
    return _command(
        "delete_expired",
        (keys.completed, keys.events),
        (keys.task_prefix, now_ms, limit, EVENT_CAP),
        int,
    )


def cancel(
    queue: str, task_id: str, expected_msg: bytes, msg: bytes, error: bytes, now_ms: int
) -> Command[str]:
    """Archive a task that is not running, as cancelled. Reads as one of the words of the script."""
    keys = queue_keys(queue)
    return _command(
        "cancel",
        (
            keys.task(task_id),
            keys.pending,
            keys.scheduled,
            keys.retry,
            keys.archived,
            keys.events,
        ),
        (task_id, msg, error, now_ms, EVENT_CAP, keys.ends, expected_msg),
        lambda reply: str(reply.decode()),
    )


def failed_message(msg: bytes, error_text: str, now_ms: int, *, counts: bool) -> bytes:
    """Return ``msg`` with the failure noted, as Asynq notes it; unreadable bytes as they are."""
    message = read_message(msg)
    if message is None:
        return msg
    message.error_msg = error_text
    message.last_failed_at = now_ms // 1000
    if counts:
        message.retried += 1
    return message.SerializeToString(deterministic=True)
