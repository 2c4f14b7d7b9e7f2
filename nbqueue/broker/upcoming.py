"""What there is to do in a queue, and when."""

from __future__ import annotations

from typing import Any, NamedTuple

from nbqueue.broker.command import Command, command
from nbqueue.wire.keys import queue_keys


class Upcoming(NamedTuple):
    """When (Unix ms) there is next something to do in a queue; None: nothing is to come.

    ``due_ms``: for `forward`. ``lease_ms``: for `expired`. ``over_ms``: for `delete_expired`.
    ``waiting_ms``: for `judge`. ``orphans``: there is something for `adopt` now. ``cancels``: tasks
    were cancelled that run in Go.
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
    """What tasks are parked for: see `nbqueue.requirements`."""


def upcoming(queue: str) -> Command[Upcoming]:
    """Ask when there is something to tend."""
    keys = queue_keys(queue)
    return command(
        "upcoming",
        (
            keys.scheduled,
            keys.retry,
            keys.lease,
            keys.active,
            keys.completed,
            keys.waiting,
            keys.schedules,
            keys.aggregation_sets,
            keys.cancels,
            keys.requirements,
        ),
        (),
        _read,
    )


def remaining(queue: str, until_ms: int) -> Command[bool]:
    """Ask whether a queue has tasks to run now, or will have by ``until_ms`` (Unix ms)."""
    keys = queue_keys(queue)
    return command(
        "remaining",
        (keys.paused, keys.pending, keys.scheduled, keys.retry, keys.waiting),
        (keys.task_prefix, until_ms),
        bool,
    )


def _read(reply: Any) -> Upcoming:
    scheduled, retry, lease, completed, waiting, orphans, schedules, sets, cancels, needed = reply
    # A task moves once the exact time has come, which is in the second that ends with its score.
    due = [(float(score) - 1) * 1000 + 1 for score in (scheduled, retry) if score]
    return Upcoming(
        _whole(min(due, default=None)),
        _ms(lease),
        _ms(completed),
        _whole(float(waiting) if waiting else None),
        bool(orphans),
        bool(schedules),
        bool(sets),
        bool(cancels),
        tuple(needed),
    )


def _ms(score: bytes) -> int | None:
    return _whole(float(score) * 1000 if score else None)


def _whole(ms: float | None) -> int | None:
    """``ms`` rounded up; a score is a number, which may be infinite."""
    if ms is None or ms == float("inf"):
        return None
    return 0 if ms < 0 else -int(-ms // 1)
