"""Commands of an inspector: move tasks, and pause, empty or remove a queue.

Commands for many tasks read as `Moved`, with a word of ``lib/select_tasks.lua`` for each refusal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.broker.commands.retention import ARCHIVE_CAP, DAY_MS, EVENT_CAP, archive_oldest
from nbqueue.broker.script_commands import PerTask, command, flat
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.attempts import failure_mark
from nbqueue.wire.decoding import whole_number
from nbqueue.wire.keys import day_keys, name_bytes, queue_keys, stored_keys
from nbqueue.wire.messages import TaskMessage

MOST_MOVED = 500
"""Maximum number of tasks in one command of this module."""

FAR = "FAR"
"""Refused: the task is somewhere in a long pending list; see `nbqueue.broker.bulk_moves`."""

UNSIGNED = "UNSIGNED"
"""Refused: the error of the task is needed after all; see `cancel_tasks`."""

HELD = -1
"""The result of `empty` while a worker holds a task."""


class Moved(NamedTuple):
    """Refused tasks of a command by position, each with a one-word reason."""

    refused: dict[int, str]
    trimmed: int = 0


class ToRun(NamedTuple):
    """A task to run, with its old and new message if that changes."""

    task_id: str
    expected_msg: bytes = b""
    msg: bytes = b""


class Counts(NamedTuple):
    """The sizes and counters of a queue."""

    numbers: dict[str, int | None]
    """Counters by name, with the numbers of tasks in each state and of groups.

    None for a key of another type.
    """
    is_paused: bool
    oldest_since_ns: int | None


def _read_moved(reply: Any) -> Moved:
    return Moved(_refused(reply))


def _refused(reply: Any) -> dict[int, str]:
    words = iter(reply)
    return {int(position): word.decode() for position, word in zip(words, words, strict=True)}


def _check_size(tasks: Sequence[Any]) -> None:
    if not 1 <= len(tasks) <= MOST_MOVED:
        raise ValueError(f"1 to {MOST_MOVED} tasks at once, not {len(tasks)}")


def _distances(task_ids: Sequence[str], distances: Sequence[int] | None) -> Sequence[Arg]:
    """Return the distances of tasks from the end of a long pending list.

    They are those of the last time that the tasks were seen.

    The oldest task is at 1; 0 makes the script search the whole list. Without ``distances``, tasks
    in a long list are refused as `FAR`.
    """
    return [""] * len(task_ids) if distances is None else distances


def run(
    queue: str, tasks: Sequence[ToRun], now_ms: int, *, wanted: str = "", reset: bool = False
) -> Command[Moved]:
    """Make tasks pending, behind all others. ``wanted``: only those in this state."""
    _check_size(tasks)
    keys = stored_keys(queue)
    return command(
        "run_by_hand",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "wanted": wanted,
            "reset": int(reset),
        },
        _read_moved,
        tasks=PerTask(
            [keys.task(task.task_id) for task in tasks],
            ("id", "expected_msg", "msg"),
            flat(tasks),
        ),
    )


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
    """Archive tasks that do not run.

    A setting of the queue has precedence over ``most``.

    For ``distances``, here and in other commands, see `nbqueue.broker.bulk_moves`.
    """
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "archive_by_hand",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "wanted": wanted,
            "keep_lock": int(keep_lock),
            "task_prefix": keys.task_prefix,
            "ends_prefix": keys.ends,
            "oldest": archive_oldest(now_ms),
            "most": most,
        },
        lambda reply: Moved(_refused(reply[1:]), int(reply[0])),
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id", "distance"),
            flat(zip(task_ids, _distances(task_ids, distances), strict=True)),
        ),
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
        "delete_by_hand",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "wanted": wanted,
            "keep_lock": int(keep_lock),
            "ends_prefix": keys.ends,
        },
        _read_moved,
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id", "distance"),
            flat(zip(task_ids, _distances(task_ids, distances), strict=True)),
        ),
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
    """Change when tasks that do not run are due."""
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "reschedule_by_hand",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "wanted": wanted,
            "due_ms": due_ms,
            "wake": keys.wake,
        },
        _read_moved,
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id", "distance"),
            flat(zip(task_ids, _distances(task_ids, distances), strict=True)),
        ),
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
    """Archive tasks that do not run, as cancelled.

    Each gets its exception of ``errors``, a signed envelope, and all get ``error_text``. Tasks with
    a large message are refused as LARGE. An error may be empty: the task is refused as `UNSIGNED`
    if it stays in the archive or another client waits for it.

    ``later`` is how many tasks the caller is going to cancel after these. ``listener`` is the
    prefix of the caller's own tasks, whose ends are not announced to it.
    """
    _check_size(task_ids)
    keys = stored_keys(queue)
    failed = TaskMessage(error_msg=error_text, last_failed_at=now_ms // 1000)
    return command(
        "cancel_tasks",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "task_prefix": keys.task_prefix,
            "ends_prefix": keys.ends,
            "oldest": archive_oldest(now_ms),
            "most": ARCHIVE_CAP,
            "error_field": TaskMessage(error_msg=error_text).SerializeToString(),
            "failed_field": TaskMessage(last_failed_at=failed.last_failed_at).SerializeToString(),
            "mark_rest": failure_mark(failed).partition(" ")[2],
            "later": later,
            "listener": listener,
        },
        _read_moved,
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id", "distance", "error"),
            flat(zip(task_ids, _distances(task_ids, distances), errors, strict=True)),
        ),
    )


def set_aside(
    queue: str,
    task_ids: Sequence[str],
    due_ms: int,
    now_ms: int,
    distances: Sequence[int] | None = None,
) -> Command[Moved]:
    """Take pending tasks out of the list, to remove each of them fast.

    They are scheduled until ``due_ms``.
    """
    _check_size(task_ids)
    keys = stored_keys(queue)
    return command(
        "set_aside",
        keys,
        {
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "group_prefix": keys.group(""),
            "due_ms": due_ms,
        },
        _read_moved,
        tasks=PerTask(
            [keys.task(task_id) for task_id in task_ids],
            ("id", "distance"),
            flat(zip(task_ids, _distances(task_ids, distances), strict=True)),
        ),
    )


def set_payload(queue: str, task_id: str, expected_msg: bytes, msg: bytes) -> Command[str]:
    """Replace the message of a task that has not begun.

    Reads as a word of the script.
    """
    return command(
        "set_payload",
        None,
        {"expected_msg": expected_msg, "msg": msg},
        lambda reply: str(reply.decode()),
        other_keys={"task": stored_keys(queue).task(task_id)},
    )


def pause(queue: str, now_ms: int) -> Command[bool]:
    """Pause a queue: workers fetch nothing from it.

    Reads as whether it was not paused before.
    """
    return command("queue_pause", stored_keys(queue), {"now_s": now_ms // 1000}, bool)


def unpause(queue: str) -> Command[bool]:
    """Let workers fetch from a queue again.

    Reads as whether it was paused.
    """
    keys = stored_keys(queue)
    return command("queue_unpause", keys, {"wake": keys.wake}, bool)


def archive_limits(queue: str, most: int | None, days: float | None) -> list[Sequence[Arg]]:
    """Return plain commands that set the limits of a queue's archive.

    None stands for the default.
    """
    key = queue_keys(queue).settings
    calls: list[Sequence[Arg]] = []
    for name, value in (("archive_max", most), ("archive_days", days)):
        calls.append(("HDEL", key, name) if value is None else ("HSET", key, name, value))
    return calls


def counts(queue: str, now_ms: int) -> Command[Counts]:
    """Read the sizes and counters of a queue."""
    keys = day_keys(queue, now_ms // DAY_MS)
    return command("queue_info", keys, {"task_prefix": keys.task_prefix}, _read_counts)


_COUNTED = (
    *("pending", "active", "scheduled", "retry", "archived", "completed", "groups", "paused"),
    *("processed_total", "processed", "failed_total", "failed", "trimmed"),
)


UNKNOWN: Final = Counts(dict.fromkeys(set(_COUNTED) - {"paused"}), False, None)
"""The counts of a queue that may not be read."""


def _read_counts(reply: Any) -> Counts:
    *counted, since = reply
    numbers = {
        name: None if value == b"?" else whole_number(value) or 0
        for name, value in zip(_COUNTED, counted, strict=True)
    }
    is_paused = bool(numbers.pop("paused"))
    return Counts(numbers, is_paused, whole_number(since))


def empty(
    queue: str, place: str, state: str, now_ms: int, *, group: str = "", limit: int = MOST_MOVED
) -> Command[int]:
    """Delete the tasks in the list or set ``place``.

    Reads as how many there were, or `HELD`.
    """
    keys = stored_keys(queue)
    return command(
        "queue_empty",
        keys,
        {
            "state": state,
            "group": group,
            "task_prefix": keys.task_prefix,
            "now_ms": now_ms,
            "limit": limit,
            "event_cap": EVENT_CAP,
            "ends_prefix": keys.ends,
        },
        lambda reply: HELD if reply == b"HELD" else int(reply),
        other_keys={"place": place},
    )


def drop(queue: str, names: Sequence[bytes]) -> Command[bool]:
    """Delete keys of an empty queue.

    Reads as False if it holds a task: then nothing was deleted. Names are bytes, since any program
    may have made keys whose names are no text.
    """
    keys = stored_keys(queue)
    group_prefix = name_bytes(keys.group(""))
    places: list[Any] = list(names)
    return command(
        "queue_drop",
        keys,
        {},
        bool,
        tasks=PerTask(
            places,
            ("kind",),
            ["place" if name.startswith(group_prefix) else "" for name in names],
        ),
    )
