"""Commands for limits, and for tasks that a limit or a lock keeps parked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbqueue.broker.commands.retention import EVENT_CAP
from nbqueue.broker.script_commands import check_limit, command
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import queue_keys


class LimitedTask(NewTask):
    """A new task that runs under a limit."""

    limit = ""
    """The name of that limit."""


class Full(list[Any]):
    """The empty reply of a fetch from a queue whose concurrency is used up."""


class Released(NamedTuple):
    """The number of parked tasks that became pending, and the next time to look.

    That time is in Unix ms; None: no need to look.
    """

    moved: int
    next_due_ms: int | None


def limited(task: NewTask, name: str) -> LimitedTask:
    """Return ``task`` under the limit of this name."""
    found = LimitedTask(*task)
    found.limit = name
    return found


def limit_names(tasks: Sequence[NewTask]) -> str:
    """Encode the names of the limits of tasks for scripts.

    One limit in each line, one name for all tasks, or empty for none.
    """
    names = [task.limit if isinstance(task, LimitedTask) else "" for task in tasks]
    different = set(names)
    if len(different) == 1:
        return names[0]
    if "" in different:
        raise ValueError("either all tasks of a batch have a limit, or none has")
    return "\n".join(names)


def set_limit(queue: str, name: str, numbers: str, used_ms: int, now_ms: int) -> Command[bool]:
    """Keep the numbers of a limit, as `Limit.numbers` has them.

    Reads as whether they changed.

    The limit counts as used until ``used_ms`` at least.
    """
    keys = queue_keys(queue)
    return command(
        "set_limit",
        keys,
        {
            "name": name,
            "numbers": numbers,
            "used_ms": used_ms,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
        },
        bool,
        other_keys={"rate": keys.limit_rate(name)},
    )


def remove_limit(
    queue: str, name: str, now_ms: int, idle_before_ms: int | None = None
) -> Command[bool]:
    """Forget a limit; with ``idle_before_ms`` only if it was not used since.

    Reads as whether the limit is forgotten.
    """
    keys = queue_keys(queue)
    return command(
        "remove_limit",
        keys,
        {
            "name": name,
            "idle_before": "" if idle_before_ms is None else idle_before_ms,
            "now_ms": now_ms,
            "event_cap": EVENT_CAP,
        },
        bool,
        other_keys={
            "holders": keys.limit_holders(name),
            "rate": keys.limit_rate(name),
            "waiters": keys.waiters("limit:" + name),
        },
    )


def release_parked(queue: str, now_ms: int, limit: int = 100) -> Command[Released]:
    """Release parked tasks that may run now.

    Looks at ``limit`` limits and locks at most.
    """
    check_limit(limit)
    return command(
        "release_parked",
        queue_keys(queue),
        {"limit": limit, "now_ms": now_ms, "event_cap": EVENT_CAP},
        lambda reply: Released(int(reply[0]), time_ms(reply[1])),
    )


def set_concurrency(queue: str, concurrency: int | None) -> Command[int]:
    """Set how many tasks of ``queue`` may be active at a time.

    None: any number.
    """
    keys = queue_keys(queue)
    return command(
        "set_concurrency",
        keys,
        {"concurrency": "" if concurrency is None else concurrency, "wake": keys.wake},
        int,
    )
