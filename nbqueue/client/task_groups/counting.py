"""Counting the tasks of all groups by how they ended, in bounded time.

Redis takes about a microsecond for each member. So the counts of a group whose members have all
ended are kept with its record and trusted for a minute, and of very large groups only a sample is
read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.commands.task_groups import (
    CANCELLED,
    COMPLETED,
    FAILED,
    GONE,
    MOST_READ,
    member_states,
    record_task_group,
)
from nbqueue.broker.reads.models import TaskGroupRow
from nbqueue.broker.reads.slices import in_slices
from nbqueue.client.task_groups.stored_groups import all_records
from nbqueue.wire.task_groups.member_runs import MOST_AT_ONCE, MemberRuns, Run
from nbqueue.wire.task_groups.task_group_record import FinalCounts, TaskGroupRecord

if TYPE_CHECKING:
    from nbqueue.client.session import Session

MOST_COUNTED = 300_000
"""Members that one listing looks at."""

_LARGE = 100_000
"""Members from which on a group is estimated from a sample."""

_SAMPLE = 20_000
_STRETCH = 10
"""Neighbours in a sample, which are read together."""

_TRUSTED_MS = 60_000
_COMMANDS_AT_ONCE = 50


class Counted(NamedTuple):
    """Numbers of the members of one group."""

    total: int
    done: int
    failed: int
    cancelled: int
    is_estimated: bool = False


def list_groups(session: Session, most: int = MOST_COUNTED) -> list[TaskGroupRow]:
    """Return all groups in the store, oldest first. ``most``: members to look at."""
    records = all_records(session)
    now_ms = session.clock.now_ms()
    found = {record.group_id: _known(record, now_ms) for record in records}
    unknown = [record for record in records if found[record.group_id] is None]
    sizes = shares([len(record.members) for record in unknown], most)
    notes = []
    for record, letters in zip(unknown, _states(session, unknown, sizes), strict=True):
        found[record.group_id] = counted = count(record, letters)
        if record.is_complete and not counted.is_estimated and counted.done == counted.total:
            completed = letters.count(COMPLETED)
            final = FinalCounts(now_ms, completed, counted.failed, counted.cancelled)
            notes.append(record_task_group(record.group_id, {"counts": final.text}))
    session.broker.run_all(notes)
    return [_row(record, counts) for record in records if (counts := found[record.group_id])]


def shares(sizes: Sequence[int], most: int) -> list[int]:
    """Return how many members of each group to look at: all, or a sample.

    All of the smaller groups, where that is possible within ``most``.
    """
    wanted = [size if size <= _LARGE else _SAMPLE for size in sizes]
    if sum(wanted) <= most:
        return wanted
    left, allowed = most, 0
    for place, size in enumerate(sorted(wanted)):
        allowed = max(left // (len(wanted) - place), _STRETCH)
        if size > allowed:
            break
        left -= size
    return [min(size, allowed) for size in wanted]


def count(record: TaskGroupRecord, letters: str) -> Counted:
    """Count a group by the letters of all its members, or of a sample of them."""
    total, size = len(record.members), len(letters)
    failed, cancelled = letters.count(FAILED), letters.count(CANCELLED)
    if size == total and not record.is_complete:
        # What is missing at the end was recorded, and is not enqueued.
        kept = max(total - MOST_AT_ONCE, 0)
        letters = letters[:kept] + letters[kept:].rstrip(GONE)
        total = size = len(letters)
    done = failed + cancelled + letters.count(COMPLETED) + letters.count(GONE)
    if size == total or not size:
        return Counted(total, done, failed, cancelled)
    scale = total / size
    return Counted(
        total, round(done * scale), round(failed * scale), round(cancelled * scale), True
    )


def sample(members: MemberRuns, size: int) -> list[list[Run]]:
    """Return about ``size`` members, evenly spread, in parts that one command can read."""
    total = len(members)
    if size >= total:
        return [members.part(start, start + MOST_READ) for start in range(0, total, MOST_READ)]
    stretches = max(size // _STRETCH, 1)
    starts = [number * total // stretches for number in range(stretches)]
    parts = [members.part(start, start + _STRETCH) for start in starts]
    return [[run for part in some for run in part] for some in in_slices(parts, MOST_READ // 10)]


def _states(
    session: Session, records: Sequence[TaskGroupRecord], sizes: Iterable[int]
) -> list[str]:
    """Return the letters of so many members of each group."""
    letters = [""] * len(records)
    places: list[int] = []
    commands = []
    for place, (record, size) in enumerate(zip(records, sizes, strict=True)):
        for part in sample(record.members, size):
            places.append(place)
            commands.append(member_states(record.queue, part))
    replies: list[str] = []
    for some in in_slices(commands, _COMMANDS_AT_ONCE):
        replies += session.broker.run_all(some)
    for place, reply in zip(places, replies, strict=True):
        letters[place] += reply
    return letters


def _known(record: TaskGroupRecord, now_ms: int) -> Counted | None:
    """Return counts that are kept with the record, while they can be trusted."""
    final = record.final
    if final is None or not 0 <= now_ms - final.at_ms < _TRUSTED_MS or not record.is_complete:
        return None
    total = len(record.members)
    return Counted(total, total, min(final.failed, total), min(final.cancelled, total))


def _row(record: TaskGroupRecord, counted: Counted) -> TaskGroupRow:
    return TaskGroupRow(
        id=record.group_id,
        name=record.name,
        type=record.type,
        queue=record.queue,
        total=counted.total,
        done=counted.done,
        failed=counted.failed,
        cancelled=counted.cancelled,
        started_ms=record.started_ms,
        by=record.by,
        is_complete=record.is_complete,
        is_estimated=counted.is_estimated,
    )
