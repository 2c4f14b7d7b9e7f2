"""What an inspector asks of the store: to move tasks by hand, to pause and to remove a queue.

Commands that take many tasks read as `Moved`: which were refused, and why, in a word of choose.lua.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.broker.script_commands import (
    ARCHIVE_CAP,
    EVENT_CAP,
    archive_oldest,
    command,
    decoded_number,
    utc_day,
)
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.attempts import failure_mark
from nbqueue.wire.keys import QueueKeys, name_bytes, queue_keys, stored_keys
from nbqueue.wire.messages import TaskMessage

MOST_MOVED = 500
"""Tasks in one command here."""

FAR = "FAR"
"""Refused because the task is somewhere in a long pending list: see `nbqueue.broker.bulk_moves`."""

UNSIGNED = "UNSIGNED"
"""Refused because the error of the task is needed after all: see `cancel_tasks`."""

HELD = -1
"""What `empty` reads as while a worker holds a task."""


class Moved(NamedTuple):
    """What became of the tasks of a command: who was refused, by position and with a word."""

    refused: dict[int, str]
    trimmed: int = 0


class ToRun(NamedTuple):
    """A task to be run, and its message where that changes: as it was read, and as it is to be."""

    task_id: str
    expected_msg: bytes = b""
    msg: bytes = b""


class Counts(NamedTuple):
    """A queue as a whole."""

    numbers: dict[str, int | None]
    """How many tasks are in each state, how many groups there are, and the counters, by name. None
    for a key that holds something else."""
    is_paused: bool
    oldest_since_ns: int | None


def _places(keys: QueueKeys) -> list[str]:
    return [keys.pending, keys.scheduled, keys.retry, keys.archived, keys.completed, keys.groups]


def _refused(reply: Any) -> dict[int, str]:
    words = iter(reply)
    return {int(position): word.decode() for position, word in zip(words, words, strict=True)}


def _check_size(tasks: Sequence[Any]) -> None:
    if not 1 <= len(tasks) <= MOST_MOVED:
        raise ValueError(f"1 to {MOST_MOVED} tasks at once, not {len(tasks)}")


def with_distances(
    task_ids: Sequence[str], distances: Sequence[int] | None, *more: Sequence[Arg]
) -> list[Arg]:
    """The arguments of tasks that may have to be found in a long pending list, where they were seen
    so far from its end (1: the oldest task; 0: unknown, search the whole list)."""
    places: Sequence[Arg] = [""] * len(task_ids) if distances is None else distances
    return [each for row in zip(task_ids, places, *more, strict=True) for each in row]


def run(
    queue: str, tasks: Sequence[ToRun], now_ms: int, *, wanted: str = "", reset: bool = False
) -> Command[Moved]:
    """Make tasks pending, at the end of the line. ``wanted``: only those in this state."""
    _check_size(tasks)
    keys = stored_keys(queue)
    args: list[Arg] = [now_ms, EVENT_CAP, keys.group(""), wanted, int(reset)]
    for task in tasks:
        args += task
    names = [*_places(keys), keys.events, *(keys.task(task.task_id) for task in tasks)]
    return command("inspect_run", names, args, lambda reply: Moved(_refused(reply)))


def archive_by_hand(
    queue: str,
    task_ids: Sequence[str],
    now_ms: int,
    *,
    wanted: str = "",
    keep_lock: bool = False,
    most: int = ARCHIVE_CAP,
    distances: Sequence[int] | None = None,
) -> Command[Moved]:
    """Archive tasks that do not run. The settings of the queue go before ``most``.

    ``distances``: see `with_distances`, here and below. Without them tasks in a long pending list
    are refused as `FAR`.
    """
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "inspect_archive",
        [
            *_places(keys),
            keys.events,
            keys.trimmed,
            keys.settings,
            *(keys.task(task_id) for task_id in task_ids),
        ],
        [
            now_ms,
            EVENT_CAP,
            keys.group(""),
            wanted,
            int(keep_lock),
            keys.task_prefix,
            keys.ends,
            archive_oldest(now_ms),
            most,
            *with_distances(task_ids, distances),
        ],
        lambda reply: Moved(_refused(reply[1:]), int(reply[0])),
    )


def delete(
    queue: str,
    task_ids: Sequence[str],
    now_ms: int,
    *,
    wanted: str = "",
    keep_lock: bool = False,
    distances: Sequence[int] | None = None,
) -> Command[Moved]:
    """Delete tasks that do not run."""
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "inspect_delete",
        [*_places(keys), keys.events, *(keys.task(task_id) for task_id in task_ids)],
        [
            now_ms,
            EVENT_CAP,
            keys.group(""),
            wanted,
            int(keep_lock),
            keys.ends,
            *with_distances(task_ids, distances),
        ],
        lambda reply: Moved(_refused(reply)),
    )


def reschedule(
    queue: str,
    task_ids: Sequence[str],
    due_ms: int,
    now_ms: int,
    *,
    wanted: str = "",
    distances: Sequence[int] | None = None,
) -> Command[Moved]:
    """Have tasks that do not run be due at another time."""
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "inspect_reschedule",
        [*_places(keys), keys.events, *(keys.task(task_id) for task_id in task_ids)],
        [
            now_ms,
            EVENT_CAP,
            keys.group(""),
            wanted,
            due_ms,
            keys.wake,
            *with_distances(task_ids, distances),
        ],
        lambda reply: Moved(_refused(reply)),
    )


def cancel_tasks(
    queue: str,
    task_ids: Sequence[str],
    errors: Sequence[bytes],
    error_text: str,
    now_ms: int,
    distances: Sequence[int] | None = None,
    later: int = 0,
    listener: str = "",
) -> Command[Moved]:
    """Archive tasks that do not run, as cancelled: each with its exception of ``errors``, a signed
    envelope, and all with ``error_text``. Tasks with a large message are refused as LARGE.

    ``later``: how many the caller is going to cancel after these. ``listener``: the prefix of the
    tasks whose ends this client hears by itself. It is not notified of these. Errors may be empty:
    such tasks are refused as `UNSIGNED` where they stay in the archive or another client listens.
    """
    _check_size(task_ids)
    keys = stored_keys(queue)
    failed = TaskMessage(error_msg=error_text, last_failed_at=now_ms // 1000)
    return command(
        "cancel_tasks",
        [
            *_places(keys),
            keys.events,
            keys.trimmed,
            keys.settings,
            *(keys.task(task_id) for task_id in task_ids),
        ],
        [
            now_ms,
            EVENT_CAP,
            keys.group(""),
            keys.task_prefix,
            keys.ends,
            archive_oldest(now_ms),
            ARCHIVE_CAP,
            TaskMessage(error_msg=error_text).SerializeToString(),
            TaskMessage(last_failed_at=failed.last_failed_at).SerializeToString(),
            failure_mark(failed).partition(" ")[2],
            later,
            listener,
            *with_distances(task_ids, distances, errors),
        ],
        lambda reply: Moved(_refused(reply)),
    )


def set_aside(
    queue: str,
    task_ids: Sequence[str],
    due_ms: int,
    now_ms: int,
    distances: Sequence[int] | None = None,
) -> Command[Moved]:
    """Schedule pending tasks for a moment, so that each can be removed fast: see set_aside.lua."""
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "set_aside",
        [*_places(keys), keys.events, *(keys.task(task_id) for task_id in task_ids)],
        [now_ms, EVENT_CAP, keys.group(""), due_ms, *with_distances(task_ids, distances)],
        lambda reply: Moved(_refused(reply)),
    )


def set_payload(queue: str, task_id: str, expected_msg: bytes, msg: bytes) -> Command[str]:
    """Give a task that nobody has begun another message. Reads as a word of the script."""
    return command(
        "inspect_payload",
        (stored_keys(queue).task(task_id),),
        (expected_msg, msg),
        lambda reply: str(reply.decode()),
    )


def pause(queue: str, now_ms: int) -> Command[bool]:
    """Have workers fetch no more of a queue. Reads as whether that is new."""
    return command("queue_pause", (stored_keys(queue).paused,), (now_ms // 1000,), bool)


def unpause(queue: str) -> Command[bool]:
    """Let a queue go on. Reads as whether it was paused."""
    keys = stored_keys(queue)
    return command("queue_unpause", (keys.paused,), (keys.wake,), bool)


def archive_limits(queue: str, most: int | None, days: float | None) -> list[Sequence[Arg]]:
    """Plain commands that say how much of the archive of a queue is kept; None: as usual."""
    key = queue_keys(queue).settings
    calls: list[Sequence[Arg]] = []
    for name, value in (("archive_max", most), ("archive_days", days)):
        calls.append(("HDEL", key, name) if value is None else ("HSET", key, name, value))
    return calls


def counts(queue: str, now_ms: int) -> Command[Counts]:
    """Look at a queue as a whole."""
    keys = stored_keys(queue)
    day = utc_day(now_ms)
    return command(
        "queue_info",
        (
            keys.pending,
            keys.active,
            keys.scheduled,
            keys.retry,
            keys.archived,
            keys.completed,
            keys.groups,
            keys.paused,
            keys.processed,
            keys.processed_on(day),
            keys.failed,
            keys.failed_on(day),
            keys.trimmed,
        ),
        (keys.task_prefix,),
        _read_counts,
    )


_COUNTED = (
    *("pending", "active", "scheduled", "retry", "archived", "completed", "groups", "paused"),
    *("processed_total", "processed", "failed_total", "failed", "trimmed"),
)


UNKNOWN: Final = Counts(dict.fromkeys(set(_COUNTED) - {"paused"}), False, None)
"""Those of a queue that may not be read."""


def _read_counts(reply: Any) -> Counts:
    *counted, since = reply
    numbers = {
        name: None if value == b"?" else decoded_number(value) or 0
        for name, value in zip(_COUNTED, counted, strict=True)
    }
    is_paused = bool(numbers.pop("paused"))
    return Counts(numbers, is_paused, decoded_number(since))


def empty(
    queue: str, place: str, state: str, now_ms: int, *, group: str = "", limit: int = MOST_MOVED
) -> Command[int]:
    """Delete the tasks that lie at the key ``place``. Reads as how many there were, or `HELD`."""
    keys = stored_keys(queue)
    return command(
        "queue_empty",
        (place, keys.lease, keys.groups, keys.aggregation_sets, keys.events),
        (state, group, keys.task_prefix, now_ms, limit, EVENT_CAP, keys.ends),
        lambda reply: HELD if reply == b"HELD" else int(reply),
    )


def drop(queue: str, names: Sequence[bytes], now_ms: int) -> Command[bool]:
    """Delete keys of an empty queue. Reads as False if a task lies there: then nothing happened."""
    keys = stored_keys(queue)
    group_prefix = name_bytes(keys.group(""))
    kinds = ["place" if name.startswith(group_prefix) else "" for name in names]
    # Names are bytes as they were found: somebody may have written some that are no text.
    places: list[Any] = [keys.pending, keys.active, keys.scheduled, keys.retry, keys.archived]
    places += [keys.completed, keys.groups, *names]
    return command("queue_drop", places, [now_ms, *kinds], bool)
