"""What is asked of the store about limits, and about tasks that are parked because of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from nbqueue.broker.script_commands import EVENT_CAP, NewTask, check_limit, command
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import queue_keys


class LimitedTask(NewTask):
    """A new task that runs under a limit."""

    limit = ""
    """The name of that limit."""


class Full(list[Any]):
    """No tasks: their queue has as many active ones as it may have."""


class Judged(NamedTuple):
    """How many parked tasks may go on, and when to look again (Unix ms); ``None``: none waits."""

    moved: int
    next_due_ms: int | None


def limited(task: NewTask, name: str) -> LimitedTask:
    """The same task, under the limit of this name."""
    found = LimitedTask(*task)
    found.limit = name
    return found


def limit_names(tasks: Sequence[NewTask]) -> str:
    """The limits of these tasks as scripts take them: one a line, or one for all, or nothing."""
    names = [task.limit if isinstance(task, LimitedTask) else "" for task in tasks]
    different = set(names)
    if len(different) == 1:
        return names[0]
    if "" in different:
        raise ValueError("either all tasks of a batch have a limit, or none has")
    return "\n".join(names)


def set_limit(queue: str, name: str, numbers: str, used_ms: int, now_ms: int) -> Command[bool]:
    """Keep the numbers of a limit (see `Limit.numbers`). Reads as whether they are new.

    ``used_ms``: until when at least somebody may ask for it.
    """
    keys = queue_keys(queue)
    return command(
        "set_limit",
        (keys.limits, keys.limit_rate(name), keys.events),
        (name, numbers, used_ms, now_ms, EVENT_CAP),
        bool,
    )


def remove_limit(
    queue: str, name: str, now_ms: int, idle_before_ms: int | None = None
) -> Command[bool]:
    """Forget a limit; with ``idle_before_ms`` only if nobody needed it since. Reads as whether it
    is forgotten."""
    keys = queue_keys(queue)
    return command(
        "remove_limit",
        (
            keys.limits,
            keys.limit_holders(name),
            keys.limit_rate(name),
            keys.waiters("limit:" + name),
            keys.events,
        ),
        (name, "" if idle_before_ms is None else idle_before_ms, now_ms, EVENT_CAP),
        bool,
    )


def judge(queue: str, now_ms: int, limit: int = 100) -> Command[Judged]:
    """Look at up to ``limit`` of the limits and locks that tasks are parked for."""
    check_limit(limit)
    keys = queue_keys(queue)
    return command(
        "judge",
        (keys.waiting, keys.events),
        (limit, now_ms, EVENT_CAP),
        lambda reply: Judged(int(reply[0]), time_ms(reply[1])),
    )


def set_concurrency(queue: str, concurrency: int | None) -> Command[int]:
    """Keep how many tasks of ``queue`` may be active at a time; ``None``: any number."""
    keys = queue_keys(queue)
    return command(
        "set_concurrency",
        (keys.settings, keys.offers),
        ("" if concurrency is None else concurrency, keys.wake),
        int,
    )
