"""What is asked of the store about aggregation groups: tasks that wait to become one task.

A group's members are moved to a *set* of their own when the group is ripe. Whoever made the set
holds it until its deadline: it turns the members into one task, or puts them back. After the
deadline anybody puts them back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nbqueue.broker.script_commands import (
    EVENT_CAP,
    NewTask,
    check_limit,
    command,
    decoded_id,
    positions,
)
from nbqueue.transport.script_call import Arg, Command
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import queue_keys

MOST_MEMBERS = 10_000
"""Members of one set: the script that ends it goes through all of them."""

MOST_BYTES = 64_000_000
"""Of all messages of one set: they go to the function at once."""

NAME_SECONDS = 2 * 3600
"""For how long the name of a group that nobody uses is remembered: a set that a program in Go lost
is put back within minutes, and with a group for each user there are many names."""


@dataclass(frozen=True)
class Ripeness:
    """When a group is ripe: milliseconds and numbers; 0 is no limit."""

    grace_ms: int
    max_delay_ms: int = 0
    max_size: int = 0

    @property
    def args(self) -> tuple[int, int, int]:
        return self.max_size, self.max_delay_ms, self.grace_ms


class Set(NamedTuple):
    """An aggregation set: the name of its group, and its own id."""

    group: str
    set_id: str


class Taken(NamedTuple):
    """A set of so many members, and when to look at the group again (Unix ms, 0: now)."""

    size: int
    next_look_ms: int | None


@dataclass(frozen=True)
class Aggregate:
    """The one task that stands for the members of a set, and where it goes."""

    task: NewTask
    due_ms: int | None = None
    group: str = ""
    lock: str = ""
    lock_ms: int = 0


class Aggregated(NamedTuple):
    """What became of a set: ENQUEUED, EXISTS (the id does), DUPLICATE (of the task ``holder``)."""

    word: str
    holder: str


def add_to_group(
    queue: str, group: str, tasks: Sequence[NewTask], now_ms: int, repeated: bool = False
) -> Command[list[int]]:
    """Put tasks into an aggregation group. Reads as the positions of those whose id existed."""
    keys = queue_keys(queue)
    names = [keys.group(group), keys.groups, keys.events]
    args: list[Arg] = [group, now_ms, EVENT_CAP, int(repeated), keys.wake]
    for task in tasks:
        names.append(keys.task(task.task_id))
        args += (task.task_id, bytes(task.msg))
    return command("add_to_group", names, args, positions)


def ripe(queue: str, groups: Sequence[str], when: Ripeness) -> Command[list[int | None]]:
    """Look when groups are ripe. Reads as Unix ms for each, 0 for now; None: it has no members."""
    keys = queue_keys(queue)
    return command(
        "ripe",
        [keys.groups, *map(keys.group, groups)],
        [keys.task_prefix, *when.args, *groups],
        lambda reply: [time_ms(at) for at in reply],
    )


def aggregate(
    queue: str,
    chosen: Set,
    when: Ripeness,
    now_ms: int,
    deadline_s: int,
    most_bytes: int = MOST_BYTES,
) -> Command[Taken]:
    """Move the members of a group to a new set, if the group is ripe."""
    keys = queue_keys(queue)
    return command(
        "aggregate",
        (
            keys.group(chosen.group),
            keys.aggregation_set(*chosen),
            keys.groups,
            keys.aggregation_sets,
        ),
        (
            chosen.group,
            keys.task_prefix,
            now_ms,
            *when.args,
            deadline_s,
            MOST_MEMBERS,
            most_bytes,
        ),
        lambda reply: Taken(int(reply[0]), time_ms(reply[1])),
    )


def members(queue: str, chosen: Set, start: int, limit: int = 500) -> Command[list[NewTask]]:
    """Read members of a set, oldest first, from a position on; an empty ``msg`` is no task."""
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "members",
        (keys.aggregation_set(*chosen),),
        (keys.task_prefix, start, limit),
        lambda reply: [
            NewTask(decoded_id(task_id), msg)
            for task_id, msg in zip(reply[::2], reply[1::2], strict=True)
        ],
    )


def aggregated(queue: str, chosen: Set, made: Aggregate, now_ms: int) -> Command[Aggregated | None]:
    """Put in the task that stands for a set, and delete the members. Reads as None if the set was
    no longer the caller's."""
    keys = queue_keys(queue)
    return command(
        "aggregated",
        (
            keys.aggregation_set(*chosen),
            keys.aggregation_sets,
            keys.task(made.task.task_id),
            keys.pending,
            keys.scheduled,
            keys.group(made.group) if made.group else keys.groups,
            keys.groups,
            keys.events,
            made.lock or keys.groups,
        ),
        (
            made.task.task_id,
            bytes(made.task.msg),
            "" if made.due_ms is None else made.due_ms,
            made.lock_ms if made.lock else "",
            made.group,
            now_ms,
            EVENT_CAP,
            keys.task_prefix,
            keys.ends,
            keys.wake,
        ),
        _read_aggregated,
    )


def _read_aggregated(reply: Any) -> Aggregated | None:
    if reply == b"LOST":
        return None
    return Aggregated(reply[0].decode(), decoded_id(reply[1]) if len(reply) > 1 else "")


def extend_set(queue: str, chosen: Set, deadline_s: int) -> Command[bool]:
    """Move the deadline of a set. Reads as whether it was still the caller's."""
    keys = queue_keys(queue)
    args = (keys.aggregation_set(*chosen), deadline_s)
    return command("extend_set", (keys.aggregation_sets,), args, bool)


def reclaim(queue: str, chosen: Set, before_s: int | None = None, limit: int = 500) -> Command[int]:
    """Put members of a set back into their group: at once, or only if its deadline was before.

    Reads as how many are left in the set; the caller goes on until there are none.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "reclaim",
        (
            keys.aggregation_set(*chosen),
            keys.group(chosen.group),
            keys.groups,
            keys.aggregation_sets,
        ),
        (chosen.group, "" if before_s is None else before_s, keys.task_prefix, limit, keys.wake),
        int,
    )


def set_of(queue: str, key: bytes) -> Set | None:
    """The set that a key names, as Asynq reads it: the last colon ends the name of its group."""
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
    """Remember names of groups that are used, or will be then. Reads as how many are new."""
    keys = queue_keys(queue)
    args = (at_ms // 1000, json.dumps(list(groups), ensure_ascii=False))
    return command("note_groups", (keys.group_names,), args, int)


def restore_groups(queue: str, start: int, now_ms: int, limit: int = 200) -> Command[int | None]:
    """Make known the groups that have members and whose names were lost.

    Reads as the position from which to go on; None: all names were looked at.
    """
    check_limit(limit)
    keys = queue_keys(queue)
    oldest = now_ms // 1000 - NAME_SECONDS

    def read(reply: Any) -> int | None:
        kept, forgotten = map(int, reply)
        return start + kept if kept + forgotten == limit else None

    return command(
        "restore_groups",
        (keys.group_names, keys.groups),
        (keys.group(""), start, limit, oldest, keys.wake),
        read,
    )
