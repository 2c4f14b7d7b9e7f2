"""What producers ask of the store: to keep code, and to put new tasks in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbqueue.broker import script_loader
from nbqueue.broker.commands.limits import limit_names
from nbqueue.broker.script_commands import EVENT_CAP, NewTask, command, decoded_id, positions
from nbqueue.broker.staging import stage_new
from nbqueue.errors import StoreUnreachable, SubmitUnconfirmed
from nbqueue.transport import resp
from nbqueue.transport.script_call import Arg, Command, Staged
from nbqueue.wire.keys import QueueKeys, queue_keys


def _positions_or_no_code(reply: Any) -> list[int] | None:
    return None if reply == b"NOCODE" else positions(reply)


def store_code(queue: str, fingerprint: bytes, blob: bytes, now_ms: int) -> Command[int]:
    """Keep the code of a function for the tasks of ``queue``."""
    keys = queue_keys(queue)
    return command(
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
    return command(
        "serve",
        (keys.handlers, keys.code(fingerprint), keys.code_index),
        (pattern, envelope, fingerprint.hex(), blob, now_ms, keys.wake),
        bool,
    )


def unserve(queue: str, pattern: str) -> Command[bool]:
    """Forget a handler. Reads as whether there was one."""
    keys = queue_keys(queue)
    return command("unserve", (keys.handlers,), (pattern, keys.wake), bool)


def drop_code(queue: str, fingerprint: bytes, seen_at: str) -> Command[bool]:
    """Forget code that no task uses, unless it was asked for since ``seen_at``."""
    keys = queue_keys(queue)
    return command(
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
    """Make tasks pending, or one alone active with a worker that offered to take it. Reads as the
    positions of those whose id existed, or ``None`` if the store lacks the code: then nothing was
    written."""
    keys = queue_keys(queue)
    prefix = keys.task_prefix
    code_key = _code_key(keys, fingerprint)
    names = [keys.pending, keys.events, code_key, keys.code_index, keys.offers]
    names += [prefix + task.task_id for task in tasks]
    code = fingerprint.hex() if fingerprint else ""
    args: list[Arg] = [now_ms, EVENT_CAP, code, 1, int(repeated), limit_names(tasks)]
    staged: list[Staged] = []
    for number, task in enumerate(tasks):
        if task.is_staged:
            msg, more = stage_new(keys, number, task)
            staged += more
            args += (task.task_id, msg)
        else:
            args += (task.task_id, bytes(task.msg))
    return command("enqueue", names, args, _positions_or_no_code, staged)


_NOTE_MS = 60_000


class OneByOne:
    """The command of `enqueue` for one plain task after another: new, without a limit, and not
    large. What is the same for all of them is packed once."""

    def __init__(self, queue: str, fingerprint: bytes) -> None:
        keys = queue_keys(queue)
        self.script = script_loader.load("enqueue")
        self._prefix = keys.task_prefix.encode()
        names = (keys.pending, keys.events, keys.code(fingerprint), keys.code_index, keys.offers)
        args = (None, EVENT_CAP, fingerprint.hex(), None, 0, "", None, None)
        self.script.check(len(names) + 1, len(args))
        words = ("EVALSHA", self.script.sha, len(names) + 1, *names, None, *args)
        self._pack = resp.packer(words)
        self._note_at = 0

    def pack(self, task: NewTask, now_ms: int) -> bytes:
        """The command that enqueues this task."""
        note = b"1" if now_ms >= self._note_at else b"0"
        task_id = task.task_id.encode()
        return self._pack(self._prefix + task_id, b"%d" % now_ms, note, task_id, task.msg)

    def read(self, reply: Any, now_ms: int) -> list[int] | None:
        """What the reply to that means; see `enqueue`."""
        found = _positions_or_no_code(reply)
        if found is not None and now_ms >= self._note_at:
            self._note_at = now_ms + _NOTE_MS
        return found


def schedule(
    queue: str,
    tasks: Sequence[tuple[NewTask, int]],
    now_ms: int,
    fingerprint: bytes | None = None,
    repeated: bool = False,
    group: str = "",
) -> Command[list[int] | None]:
    """Put tasks aside until they are due (Unix ms), and go to their aggregation group if they have
    one. Reads as `enqueue`."""
    keys = queue_keys(queue)
    names = [keys.scheduled, keys.events, _code_key(keys, fingerprint), keys.code_index]
    names += [keys.task(task.task_id) for task, _ in tasks]
    code = fingerprint.hex() if fingerprint else ""
    limits = limit_names([task for task, _ in tasks])
    args: list[Arg] = [now_ms, EVENT_CAP, code, int(repeated), limits, keys.wake, group]
    staged: list[Staged] = []
    for number, (task, due_ms) in enumerate(tasks):
        msg, more = stage_new(keys, number, task)
        staged += more
        args += (task.task_id, msg, due_ms)
    return command("schedule", names, args, _positions_or_no_code, staged)


class LockHolder(NamedTuple):
    """The task that has the unique lock which another wants, and its state."""

    task_id: str
    state: str


def enqueue_unique(
    queue: str,
    task: NewTask,
    lock: str,
    lock_ms: int,
    now_ms: int,
    *,
    due_ms: int | None = None,
    replace: bool = False,
    after: bool = False,
    fingerprint: bytes | None = None,
    repeated: bool = False,
    group: str = "",
) -> Command[LockHolder | str]:
    """Make a task pending, or scheduled, or put it into its aggregation group, unless another holds
    ``lock``, which the message names.

    Reads as ``ENQUEUED``, ``EXISTS`` (the id does), ``NOCODE`` (the store lacks the code), or who
    holds the lock. Only with ENQUEUED anything was written. With ``after`` it is parked until the
    others are done with the lock.
    """
    keys = queue_keys(queue)
    msg, staged = stage_new(keys, 0, task)
    return command(
        "enqueue_unique",
        (
            keys.task(task.task_id),
            keys.pending,
            keys.scheduled,
            keys.retry,
            keys.archived,
            keys.completed,
            keys.groups,
            keys.events,
            _code_key(keys, fingerprint),
            keys.code_index,
            lock,
            keys.group(group) if group else keys.groups,
        ),
        (
            task.task_id,
            msg,
            "" if due_ms is None else due_ms,
            lock_ms,
            now_ms,
            EVENT_CAP,
            fingerprint.hex() if fingerprint else "",
            int(repeated),
            int(replace),
            int(after),
            limit_names([task]),
            keys.task_prefix,
            keys.group(""),
            keys.ends,
            keys.wake,
            group,
        ),
        _read_unique,
        staged,
    )


def _read_unique(reply: Any) -> LockHolder | str:
    if isinstance(reply, list):
        return LockHolder(decoded_id(reply[0]), reply[1].decode())
    return str(reply.decode())


def _code_key(keys: QueueKeys, fingerprint: bytes | None) -> str:
    # A script needs the key even where no code is asked for; it must share the queue's slot.
    return keys.code(fingerprint) if fingerprint else keys.code_index


def unconfirmed(queue: str, tasks: Sequence[NewTask], error: StoreUnreachable) -> SubmitUnconfirmed:
    """The error for tasks that were sent to the store, which did not answer for them."""
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
