"""The next times at which a queue needs maintenance."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from nbqueue.broker.script_commands import command
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import LAST_MS
from nbqueue.wire.keys import queue_keys


class NextDue(NamedTuple):
    """The next times at which a queue needs maintenance (Unix ms).

    None: nothing is to come. ``due_ms``: for `forward`. ``lease_ms``: for `expired`. ``over_ms``:
    for `delete_expired`. ``waiting_ms``: for `release_parked`. ``orphans``: there is something for
    `repair_leases` now. ``cancels``: tasks were cancelled that run in Go.
    """

    due_ms: int | None
    lease_ms: int | None
    over_ms: int | None
    waiting_ms: int | None
    orphans: bool
    schedules: bool
    sets: bool
    cancels: bool = False
    requirements: tuple[bytes, ...] = ()
    """Requirements of parked tasks, see `nbqueue.requirements`."""


def upcoming(queue: str) -> Command[NextDue]:
    """Ask for the next times at which a queue needs maintenance."""
    return command("upcoming", queue_keys(queue), {}, _read)


def remaining(queue: str, until_ms: int) -> Command[bool]:
    """Ask whether a queue has tasks to run by ``until_ms`` (Unix ms)."""
    keys = queue_keys(queue)
    return command("remaining", keys, {"task_prefix": keys.task_prefix, "until_ms": until_ms}, bool)


def _read(reply: Any) -> NextDue:
    scheduled, retry, lease, completed, waiting, orphans, schedules, sets, cancels, needed = reply
    # A task moves once the exact time has come, which is in the second that ends with its score.
    due = [_ms(each, 1000, early=999) for each in (scheduled, retry)]
    return NextDue(
        min((at for at in due if at is not None), default=None),
        _ms(lease, 1000),
        _ms(completed, 1000),
        _ms(waiting, 1),
        bool(orphans),
        bool(schedules),
        bool(sets),
        bool(cancels),
        tuple(needed),
    )


def _ms(score: bytes, unit: int, early: int = 0) -> int | None:
    """Return a score as Unix ms, rounded up.

    None for a score that no time can reach, such as infinity.
    """
    if not score:
        return None
    ms = float(score) * unit - early
    return None if ms > LAST_MS else max(0, math.ceil(max(ms, 0.0)))
