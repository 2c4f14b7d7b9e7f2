"""Commands that enqueue new tasks, and that keep the code they call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.broker.commands.limits import limit_names
from nbqueue.broker.commands.retention import EVENT_CAP
from nbqueue.broker.script_commands import PerTask, command, positions
from nbqueue.broker.staging import stage_new
from nbqueue.errors import StoreUnreachable, SubmitUnconfirmed
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport import resp
from nbqueue.transport.script_call import Arg, Command, Staged
from nbqueue.wire.decoding import text
from nbqueue.wire.keys import QueueKeys, queue_keys

_NOTE_MS = 60_000


def _positions_or_no_code(reply: Any) -> list[int] | None:
    return None if reply == b"NOCODE" else positions(reply)


def store_code(queue: str, fingerprint: bytes, blob: bytes, now_ms: int) -> Command[int]:
    """Keep the code of a function for the tasks of ``queue``."""
    keys = queue_keys(queue)
    return command(
        "store_code",
        keys,
        {"now_ms": now_ms, "fingerprint": fingerprint.hex(), "blob": blob},
        int,
        other_keys={"code": keys.code(fingerprint)},
    )


def serve(
    queue: str, pattern: str, envelope: bytes, fingerprint: bytes, blob: bytes, now_ms: int
) -> Command[bool]:
    """Keep a handler for the messages of ``queue``.

    Reads as whether its pattern is new.
    """
    keys = queue_keys(queue)
    return command(
        "serve",
        keys,
        {
            "pattern": pattern,
            "envelope": envelope,
            "fingerprint": fingerprint.hex(),
            "blob": blob,
            "now_ms": now_ms,
            "wake": keys.wake,
        },
        bool,
        other_keys={"code": keys.code(fingerprint)},
    )


def unserve(queue: str, pattern: str) -> Command[bool]:
    """Forget a handler. Reads as whether there was one."""
    keys = queue_keys(queue)
    return command("unserve", keys, {"pattern": pattern, "wake": keys.wake}, bool)


def drop_code(queue: str, fingerprint: bytes, seen_at: str) -> Command[bool]:
    """Forget code that no task uses, unless a task asked for it since ``seen_at``."""
    keys = queue_keys(queue)
    return command(
        "drop_code",
        keys,
        {"fingerprint": fingerprint.hex(), "seen_at": seen_at},
        bool,
        other_keys={"code": keys.code(fingerprint)},
    )


def enqueue(
    queue: str,
    tasks: Sequence[NewTask],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
) -> Command[list[int] | None]:
    """Make tasks pending, behind all others.

    A single task may become active at once, with a worker that offered to take it.

    Reads as the positions of tasks whose id existed. Reads as None if the store lacks the code:
    then nothing was written. ``repeated``: an earlier try may have written some of the tasks.
    """
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    values: list[Arg] = []
    staged: list[Staged] = []
    for number, task in enumerate(tasks):
        if task.is_staged:
            msg, more = stage_new(keys, number, task)
            staged += more
            values += (task.task_id, msg)
        else:
            values += (task.task_id, bytes(task.msg))
    return command(
        "enqueue",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "fingerprint": fingerprint.hex() if fingerprint else "",
            "note": 1,
            "repeated": int(repeated),
            "limits": limit_names(tasks),
        },
        _positions_or_no_code,
        other_keys={"code": _code_key(keys, fingerprint)},
        tasks=PerTask(
            [prefix + task.task_id for task in tasks],
            ("id", "msg"),
            values,
        ),
        staged=staged,
    )


class OneByOne:
    """Packs the command of `enqueue` for one task after another.

    The tasks are new, not large and without a limit. What all of them have in common is packed
    once.
    """

    def __init__(
        self,
        queue: str,
        fingerprint: bytes | None,
        adapt: Callable[[Command[Any]], Command[Any]] = lambda command: command,
    ) -> None:
        """``adapt`` makes the command as it is sent to the store."""
        keys = queue_keys(queue)
        self._prefix = keys.task_prefix.encode()
        blank: Any = None  # What is filled in for each task.
        plain = command(
            "enqueue",
            keys,
            {
                "now_ms": blank,
                "event_cap": EVENT_CAP,
                "fingerprint": fingerprint.hex() if fingerprint else "",
                "note": blank,
                "repeated": 0,
                "limits": "",
            },
            positions,
            other_keys={"code": _code_key(keys, fingerprint)},
            tasks=PerTask(
                [blank],
                ("id", "msg"),
                [blank, blank],
            ),
        )
        example = adapt(plain)
        self.script = example.script
        self._template = resp.template(example.words())
        self._note_at = 0

    def pack(self, task: NewTask, now_ms: int) -> bytes:
        """Return the packed command that enqueues a task."""
        task_id, now, msg = task.task_id.encode(), b"%d" % now_ms, task.msg
        key = self._prefix + task_id
        note = b"1" if now_ms >= self._note_at else b"0"
        return self._template % (
            *(len(key), key, len(now), now, 1, note),
            *(len(task_id), task_id, len(msg), msg),
        )

    def read(self, reply: Any, now_ms: int) -> list[int] | None:
        """Read the reply to the packed command, as `enqueue` reads its own."""
        if reply == b"NOCODE":
            return None
        if now_ms >= self._note_at:
            self._note_at = now_ms + _NOTE_MS
        return positions(reply) if reply else []


def schedule(
    queue: str,
    tasks: Sequence[tuple[NewTask, int]],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
    group: str = "",
) -> Command[list[int] | None]:
    """Schedule tasks, each for its time in Unix milliseconds.

    Reads as `enqueue` does.

    Those of an aggregation ``group`` join it when they are due.
    """
    keys = queue_keys(queue)
    values: list[Arg] = []
    staged: list[Staged] = []
    for number, (task, due_ms) in enumerate(tasks):
        msg, more = stage_new(keys, number, task)
        staged += more
        values += (task.task_id, msg, due_ms)
    return command(
        "schedule",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "fingerprint": fingerprint.hex() if fingerprint else "",
            "repeated": int(repeated),
            "limits": limit_names([task for task, _ in tasks]),
            "wake": keys.wake,
            "group": group,
        },
        _positions_or_no_code,
        other_keys={"code": _code_key(keys, fingerprint)},
        tasks=PerTask(
            [keys.task(task.task_id) for task, _ in tasks],
            ("id", "msg", "due_ms"),
            values,
        ),
        staged=staged,
    )


@dataclass(frozen=True, slots=True)
class UniqueLock:
    """A lock that one task at a time holds."""

    key: str
    ms: int
    """Milliseconds for which the task holds the lock."""
    replaces_holder: bool = False
    """Delete a holder that does not run."""
    waits_for_holder: bool = False
    """Park the task until the holder is done."""


class LockHolder(NamedTuple):
    """The task that holds a unique lock, and its state."""

    task_id: str
    state: str


def enqueue_unique(
    queue: str,
    task: NewTask,
    lock: UniqueLock,
    now_ms: int,
    *,
    due_ms: int | None = None,
    fingerprint: bytes | None = None,
    repeated: bool = False,
    group: str = "",
) -> Command[LockHolder | str]:
    """Enqueue a task if its unique lock is free.

    The task becomes pending, or scheduled, or joins its aggregation group.

    The message of the task names the lock. Reads as ``ENQUEUED``, as ``EXISTS`` (the id does), as
    ``NOCODE`` (the store lacks the code), or as the holder of the lock. Only with ENQUEUED was
    anything written.
    """
    keys = queue_keys(queue)
    msg, staged = stage_new(keys, 0, task)
    return command(
        "enqueue_unique",
        keys,
        {
            "id": task.task_id,
            "msg": msg,
            "due_ms": "" if due_ms is None else due_ms,
            "lock_ms": lock.ms,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "fingerprint": fingerprint.hex() if fingerprint else "",
            "repeated": int(repeated),
            "replace": int(lock.replaces_holder),
            "after": int(lock.waits_for_holder),
            "limits": limit_names([task]),
            "task_prefix": keys.task_prefix,
            "group_prefix": keys.group(""),
            "ends_prefix": keys.ends,
            "wake": keys.wake,
            "group": group,
        },
        _read_unique,
        other_keys={
            "task": keys.task(task.task_id),
            "code": _code_key(keys, fingerprint),
            "lock": lock.key,
            "group_set": keys.group(group) if group else keys.groups,
        },
        staged=staged,
    )


def _read_unique(reply: Any) -> LockHolder | str:
    if isinstance(reply, list):
        return LockHolder(text(reply[0]), reply[1].decode())
    return str(reply.decode())


def _code_key(keys: QueueKeys, fingerprint: bytes | None) -> str:
    # A script gets all its keys, used or not, and all must share the slot of the queue.
    return keys.code(fingerprint) if fingerprint else keys.code_index


def name_task(queue: str, task_id: str, name: str, seconds: int) -> Command[bool]:
    """Give a task a name, for so many seconds.

    Reads as False if the task is gone already.
    """
    keys = queue_keys(queue)
    return command(
        "name_task",
        None,
        {"id": task_id, "name": name, "seconds": seconds},
        bool,
        other_keys={"task": keys.task(task_id), "name_key": keys.name(name)},
    )


def unconfirmed(queue: str, tasks: Sequence[NewTask], error: StoreUnreachable) -> SubmitUnconfirmed:
    """Return the error for tasks whose enqueuing the store did not confirm."""
    ids = [task.task_id for task in tasks]
    if len(ids) == 1:
        which, way = f"task {ids[0]!r}", f"q.get({ids[0]!r}) says once the store is back"
    else:
        which, way = f"{len(ids):,} tasks, from {ids[0]!r} to {ids[-1]!r},", "task_ids lists them"
    return SubmitUnconfirmed(
        f"{which} for queue {queue!r} may be in the store, which did not confirm it: {way}. "
        f"{error}",
        ids,
    )
