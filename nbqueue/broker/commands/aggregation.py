"""Commands for aggregation groups, whose tasks wait to become one task.

When a group is due, a worker moves its members to an aggregation set. The worker holds the set
until a deadline, and makes one task of the members or puts them back. After the deadline any
worker puts them back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.broker.commands.retention import EVENT_CAP
from nbqueue.broker.script_commands import PerTask, check_limit, command, flat, positions
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.decoding import text, time_ms
from nbqueue.wire.keys import queue_keys

MOST_MEMBERS = 10_000
"""Maximum number of members of one set.

One script goes through all of them at the end of the set.
"""

MOST_BYTES = 64_000_000
"""Maximum number of bytes of all messages of one set.

The aggregation function gets all of them at once.
"""

NAME_SECONDS = 2 * 3600
"""Seconds for which the name of an unused group is kept.

A set that a program in Go lost is put back within minutes, and an application may have a group for
each of its users.
"""


@dataclass(frozen=True)
class Ripeness:
    """Conditions that make a group due, in milliseconds and tasks; 0 is no limit."""

    grace_ms: int
    max_delay_ms: int = 0
    max_size: int = 0

    @property
    def args(self) -> dict[str, Arg]:
        """Arguments of scripts for these conditions."""
        return {
            "max_size": self.max_size,
            "max_delay_ms": self.max_delay_ms,
            "grace_ms": self.grace_ms,
        }


class Set(NamedTuple):
    """An aggregation set: the name of its group, and an id."""

    group: str
    set_id: str


class Taken(NamedTuple):
    """The size of a new set, and the group's next due time (Unix ms).

    A due time of 0 means now.
    """

    size: int
    next_look_ms: int | None


@dataclass(frozen=True)
class Aggregate:
    """The task that replaces the members of a set, and its options."""

    task: NewTask
    due_ms: int | None = None
    group: str = ""
    lock: str = ""
    lock_ms: int = 0


class Aggregated(NamedTuple):
    """The outcome of a set: ENQUEUED, EXISTS (the id does) or DUPLICATE (of ``holder``)."""

    word: str
    holder: str


def add_to_group(
    queue: str, group: str, tasks: Sequence[NewTask], now_ms: int, repeated: bool = False
) -> Command[list[int]]:
    """Add tasks to an aggregation group.

    Reads as the positions of tasks whose id existed.
    """
    keys = queue_keys(queue)
    return command(
        "add_to_group",
        keys,
        {
            "group": group,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "repeated": int(repeated),
            "wake": keys.wake,
        },
        positions,
        other_keys={"group_set": keys.group(group)},
        tasks=PerTask(
            [keys.task(task.task_id) for task in tasks],
            ("id", "msg"),
            flat((task.task_id, bytes(task.msg)) for task in tasks),
        ),
    )


def aggregation_due(queue: str, groups: Sequence[str], when: Ripeness) -> Command[list[int | None]]:
    """Ask for the due times of groups.

    Reads as Unix ms for each group: 0 for now, None if the group is empty.
    """
    keys = queue_keys(queue)
    return command(
        "aggregation_due",
        keys,
        {"task_prefix": keys.task_prefix, **when.args},
        lambda reply: [time_ms(at) for at in reply],
        tasks=PerTask(
            [keys.group(group) for group in groups],
            ("group",),
            groups,
        ),
    )


def form_set(
    queue: str,
    chosen: Set,
    when: Ripeness,
    now_ms: int,
    deadline_s: int,
    most_bytes: int = MOST_BYTES,
) -> Command[Taken]:
    """Move the members of a due group to a new set."""
    keys = queue_keys(queue)
    return command(
        "form_aggregation_set",
        keys,
        {
            "group": chosen.group,
            "task_prefix": keys.task_prefix,
            "now_ms": now_ms,
            **when.args,
            "deadline": deadline_s,
            "limit": MOST_MEMBERS,
            "most_bytes": most_bytes,
        },
        lambda reply: Taken(int(reply[0]), time_ms(reply[1])),
        other_keys={
            "group_set": keys.group(chosen.group),
            "set": keys.aggregation_set(*chosen),
        },
    )


def read_set(queue: str, chosen: Set, start: int, limit: int = 500) -> Command[list[NewTask]]:
    """Read members of a set from a position on, oldest first.

    A missing task has no ``msg``.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "read_aggregation_set",
        None,
        {"task_prefix": keys.task_prefix, "start": start, "limit": limit},
        lambda reply: [
            NewTask(text(task_id), msg)
            for task_id, msg in zip(reply[::2], reply[1::2], strict=True)
        ],
        other_keys={"set": keys.aggregation_set(*chosen)},
    )


def finish_set(queue: str, chosen: Set, made: Aggregate, now_ms: int) -> Command[Aggregated | None]:
    """Replace the members of a set with one task.

    Reads as None if the caller no longer held the set: then nothing was written.
    """
    keys = queue_keys(queue)
    return command(
        "finish_aggregation_set",
        keys,
        {
            "id": made.task.task_id,
            "msg": bytes(made.task.msg),
            "due_ms": "" if made.due_ms is None else made.due_ms,
            "lock_ms": made.lock_ms if made.lock else "",
            "group": made.group,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
            "task_prefix": keys.task_prefix,
            "ends_prefix": keys.ends,
            "wake": keys.wake,
        },
        _read_aggregated,
        # A script gets all its keys, used or not, and all must share the slot of the queue.
        other_keys={
            "set": keys.aggregation_set(*chosen),
            "task": keys.task(made.task.task_id),
            "group_set": keys.group(made.group) if made.group else keys.groups,
            "lock": made.lock or keys.groups,
        },
    )


def _read_aggregated(reply: Any) -> Aggregated | None:
    if reply == b"LOST":
        return None
    return Aggregated(reply[0].decode(), text(reply[1]) if len(reply) > 1 else "")


def extend_set(queue: str, chosen: Set, deadline_s: int) -> Command[bool]:
    """Move the deadline of a set.

    Reads as whether the caller still held it.
    """
    keys = queue_keys(queue)
    return command(
        "extend_aggregation_set",
        keys,
        {"set": keys.aggregation_set(*chosen), "deadline": deadline_s},
        bool,
    )


def reclaim_set(
    queue: str, chosen: Set, before_s: int | None = None, limit: int = 500
) -> Command[int]:
    """Put members of a set back into their group.

    With ``before_s``, only if the set is overdue. Reads as how many members are left; the caller
    repeats the call until there are none.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "reclaim_aggregation_set",
        keys,
        {
            "group": chosen.group,
            "before": "" if before_s is None else before_s,
            "task_prefix": keys.task_prefix,
            "limit": limit,
            "wake": keys.wake,
        },
        int,
        other_keys={
            "set": keys.aggregation_set(*chosen),
            "group_set": keys.group(chosen.group),
        },
    )


def set_of(queue: str, key: bytes) -> Set | None:
    """Return the set that a key names; None for any other key.

    The last colon ends the name of the group, as in Asynq.
    """
    prefix = queue_keys(queue).group("")
    try:
        name = key.decode()
    except UnicodeDecodeError:
        return None
    if not name.startswith(prefix):
        return None
    group, colon, set_id = name[len(prefix) :].rpartition(":")
    return Set(group, set_id) if group and colon else None


def note_groups(queue: str, groups: Sequence[str], at_ms: int) -> Command[int]:
    """Note names of groups that are in use, or will be at ``at_ms``.

    Reads as how many of them are new.
    """
    return command(
        "note_groups",
        queue_keys(queue),
        {"at": at_ms // 1000, "names": json.dumps(list(groups), ensure_ascii=False)},
        int,
    )


def restore_groups(queue: str, start: int, now_ms: int, limit: int = 200) -> Command[int | None]:
    """Restore the names of groups that have members and are not listed.

    Reads as the position from which to continue, or as None at the end.
    """
    check_limit(limit)
    keys = queue_keys(queue)

    def read(reply: Any) -> int | None:
        kept, forgotten = map(int, reply)
        return start + kept if kept + forgotten == limit else None

    return command(
        "restore_groups",
        keys,
        {
            "group_prefix": keys.group(""),
            "start": start,
            "limit": limit,
            "oldest": now_ms // 1000 - NAME_SECONDS,
            "wake": keys.wake,
        },
        read,
    )
