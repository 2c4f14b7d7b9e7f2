"""Decide which times of a schedule fire and which are skipped.

This module has no I/O and no clock.
"""

from __future__ import annotations

from typing import NamedTuple

from nbqueue.cron import Every, Spec
from nbqueue.wire.schedule_record import ALL, ONCE, ScheduleEntry

GRACE_MS = 60_000
"""Age in milliseconds from which a scheduler treats a due time as missed."""

SHORTEST_GRACE_MS = 5_000

MOST_MISSED = 1_000
"""Maximum number of missed runs to catch up on with ``missed="all"``."""

MISSED = "missed"
_MOST_COUNTED = 100


class Step(NamedTuple):
    """The result of a due time: it fires, or does not for ``reason``."""

    due_ms: int
    next_ms: int | None
    reason: str = ""
    detail: str = ""


def first_due(spec: Spec, entry: ScheduleEntry, now_ms: int) -> int | None:
    """Return when a new schedule is due first (Unix ms)."""
    if entry.start_ms <= now_ms:
        due = spec.next_after(now_ms)
    elif isinstance(spec, Every):
        due = -(-entry.start_ms // 1000) * 1000
    else:
        due = spec.next_after(entry.start_ms - 1)
    return _within(entry, due)


def next_due(spec: Spec, entry: ScheduleEntry, due_ms: int) -> int | None:
    """Return the due time after ``due_ms``."""
    return _within(entry, spec.next_after(due_ms))


def _within(entry: ScheduleEntry, due: int | None) -> int | None:
    return None if due is None or (entry.until_ms and due > entry.until_ms) else due


def plan(spec: Spec, entry: ScheduleEntry, due_ms: int, now_ms: int) -> list[Step]:
    """Return the steps for all times up to now, oldest first.

    Each step begins where the last ended. A time was missed if it is older than a grace of one
    minute, or of half the interval if that is shorter. The schedule's ``missed`` option determines
    which missed times are caught up on.
    """
    following = next_due(spec, entry, due_ms)
    grace = GRACE_MS
    if following is not None:
        grace = max(min(GRACE_MS, (following - due_ms) // 2), SHORTEST_GRACE_MS)
    # A time that jitter may still delay was not missed.
    limit = now_ms - grace - entry.jitter_ms
    steps: list[Step] = []
    due: int | None = due_ms
    if due_ms < limit:
        due = _make_up(spec, entry, due_ms, now_ms, limit, steps)
    while due is not None and entry.fire_ms(due) <= now_ms:
        following = next_due(spec, entry, due)
        steps.append(Step(due, following))
        due = following
    return steps


def _make_up(
    spec: Spec, entry: ScheduleEntry, due: int, now_ms: int, limit: int, steps: list[Step]
) -> int | None:
    """Skip missed times that are not caught up on.

    Returns the next time to fire.
    """
    if entry.missed == ALL:
        target = _oldest_of(spec, entry, due, limit)
        detail = f"too many: only the last {MOST_MISSED} at most are made up for"
    else:
        last = _last_until(spec, entry, due, limit)
        target = last
        on_time = next_due(spec, entry, last)
        if entry.missed != ONCE or (on_time is not None and entry.fire_ms(on_time) <= now_ms):
            # Nothing to catch up on, or the run that is on time does it.
            target = on_time
        detail = "no worker ran its schedules"
    if target != due:
        steps.append(Step(due, target, MISSED, _counted(spec, entry, due, target, detail)))
    return target


def _last_until(spec: Spec, entry: ScheduleEntry, due: int, limit: int) -> int:
    """Return the last due time up to ``limit``.

    Found by bisection, as there may be millions of due times.
    """
    if isinstance(spec, Every):
        first, step = due // 1000 * 1000, spec.seconds * 1000
        number = (limit - first) // step
        return first + number * step if number > 0 else due
    low, high, found = due, limit, due
    while low < high:
        middle = (low + high) // 2
        later = next_due(spec, entry, middle)
        if later is not None and later <= limit:
            low = found = later
        else:
            high = middle
    return found


def _oldest_of(spec: Spec, entry: ScheduleEntry, due: int, limit: int) -> int | None:
    """Return the oldest time from which at most `MOST_MISSED` are due up to ``limit``."""
    if isinstance(spec, Every):
        last = _last_until(spec, entry, due, limit)
        return max(due, last - (MOST_MISSED - 1) * spec.seconds * 1000)
    # At most one a minute, so this many minutes have no more.
    span = MOST_MISSED * 60_000
    best = next_due(spec, entry, max(limit - span, due - 1))
    while limit - span > due:
        span *= 2
        start = next_due(spec, entry, max(limit - span, due - 1))
        if start is None or _count(spec, entry, start, limit, MOST_MISSED) > MOST_MISSED:
            break
        best = start
    return best


def _count(spec: Spec, entry: ScheduleEntry, due: int, limit: int, most: int) -> int:
    """Count the due times from ``due`` to ``limit``, up to ``most`` plus one."""
    number, at = 0, due
    while at <= limit and number <= most:
        number += 1
        later = next_due(spec, entry, at)
        if later is None:
            break
        at = later
    return number


def _counted(spec: Spec, entry: ScheduleEntry, due: int, end: int | None, detail: str) -> str:
    """Return ``detail`` with the number of skipped times."""
    if end is None:
        return detail
    number = _count(spec, entry, due, end - 1, _MOST_COUNTED)
    many = f"more than {_MOST_COUNTED}" if number > _MOST_COUNTED else str(number)
    return f"{many} missed: {detail}"
