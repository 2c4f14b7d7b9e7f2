"""Making the `TaskGroup` of a group in the store."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from nbqueue.broker.commands.changed_tasks import ChangedTask, changed_tasks
from nbqueue.broker.commands.task_groups import (
    CANCELLED,
    COMPLETED,
    FAILED,
    MOST_READ,
    member_states,
)
from nbqueue.broker.commands.task_groups import GONE as NOT_THERE
from nbqueue.broker.reads.slices import in_slices
from nbqueue.calls.payloads import detached_result
from nbqueue.client.futures.future import TaskFuture, future_in
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.futures.task_facts import TaskFacts
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.results.outcome import GONE, RawOutcome, end_as
from nbqueue.client.task_groups.counting import sample
from nbqueue.errors import TaskGroupNotFound
from nbqueue.printable import shown
from nbqueue.wire import states
from nbqueue.wire.decoding import time_ms
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.task_groups.member_runs import MOST_AT_ONCE
from nbqueue.wire.task_groups.task_group_record import TaskGroupRecord

if TYPE_CHECKING:
    from nbqueue.client.session import Session
    from nbqueue.transport.script_call import Command

_MANY = 200_000
_SAMPLE = 2_000
_AT_ONCE = 20
_FEW_AT_ONCE = 4
"""Commands in one round trip; those that read results have large replies."""

_ENDED = frozenset((COMPLETED, FAILED, CANCELLED))


def group_of(session: Session, record: TaskGroupRecord) -> TaskGroup[Any]:
    """Return the group of a record, with the ends of its tasks as far as they have ended.

    A group that this process follows already is returned itself.
    """
    known = session.task_groups.get(record.group_id)
    if known is not None and not known.done():
        return known
    _check_members(session, record)
    missing = _never_enqueued(session, record)
    ids = record.members.ids()
    ids = ids[: len(ids) - missing]
    facts = TaskFacts("", record.queue, record.type, record.name, is_json=_is_json(session, record))
    group: TaskGroup[Any] = TaskGroup(session, record.group_id, facts)
    group._begun_ms = record.started_ms
    group._is_complete = record.is_complete
    group._add(ids)
    _read_ends(session, group, record, ids)
    group._read_end_ms = partial(_ended_ms, session, record, ids)
    left = group._unended()
    if left:
        earlier = session.listener.watch_many(group.queue, left, group)
        for task_id, sink in earlier.items():
            _follow(group, future_in(sink, task_id))
    return group


def _check_members(session: Session, record: TaskGroupRecord) -> None:
    """Raise `TaskGroupNotFound` for very many members none of which seems to exist.

    A record can name millions of tasks in a few bytes.
    """
    if len(record.members) <= _MANY:
        return
    parts = sample(record.members, _SAMPLE)
    letters = "".join(session.broker.run_all([member_states(record.queue, p) for p in parts]))
    if letters.count(NOT_THERE) == len(letters):
        raise TaskGroupNotFound(
            f"the record of group {shown(record.group_id)} names {len(record.members):,} tasks, "
            f"and none of {len(letters):,} that were looked at is in the store",
            record.group_id,
        )


def _never_enqueued(session: Session, record: TaskGroupRecord) -> int:
    """Return how many members at the end were recorded, and not enqueued: yet, or at all."""
    total = len(record.members)
    if not total or record.is_complete:
        return 0
    start = max(total - MOST_AT_ONCE, 0)
    parts = [
        record.members.part(at, min(at + MOST_READ, total)) for at in (start, start + MOST_READ)
    ]
    commands = [member_states(record.queue, part) for part in parts if part]
    found = "".join(session.broker.run_all(commands))
    return len(found) - len(found.rstrip(NOT_THERE))


def _ended_ms(session: Session, record: TaskGroupRecord, ids: Sequence[str]) -> int:
    """Return when the last of tasks that have all ended did so, as far as known.

    The store has whole seconds, rounded down; they are rounded up here.
    """
    keys, ended_ms = stored_keys(record.queue), record.recorded_ms
    for start in range(0, len(ids), MOST_READ):
        part = ids[start : start + MOST_READ]
        kept_until, archived = session.broker.call(
            ("ZMSCORE", keys.completed, *part), ("ZMSCORE", keys.archived, *part), on=record.queue
        )
        times = [at - record.retention * 1000 for each in kept_until if (at := time_ms(each, 1000))]
        times += [at for each in archived if (at := time_ms(each, 1000))]
        ended_ms = max([ended_ms, *times])
    return min(ended_ms + 999, session.clock.now_ms())


def _is_json(session: Session, record: TaskGroupRecord) -> bool:
    """Return whether results are JSON, by the signed payload of a member that exists.

    The record alone is not signed.
    """
    if not record.is_json:
        return False
    for start in range(0, len(record.members), MOST_READ):
        part = record.members.part(start, start + MOST_READ)
        found = session.broker.run(member_states(record.queue, part))
        at = next((at for at, letter in enumerate(found) if letter != NOT_THERE), None)
        task = None
        if at is not None:
            task = session.broker.find(record.members.id_at(start + at), record.queue)
        if task is not None:
            return has_json_result(session.keyring, record.queue, task.message)
    return False


def _read_ends(
    session: Session, group: TaskGroup[Any], record: TaskGroupRecord, ids: Sequence[str]
) -> None:
    """Read how tasks ended, many at a time. Large results are left to the listener."""
    ended: list[str] = []
    for starts in in_slices(range(0, len(ids), MOST_READ), _AT_ONCE):
        commands = [
            member_states(group.queue, record.members.part(at, min(at + MOST_READ, len(ids))))
            for at in starts
        ]
        letters = "".join(session.broker.run_all(commands))
        states_of = list(zip(islice(ids, starts[0], None), letters, strict=False))
        group._take([(i, RawOutcome(GONE)) for i, letter in states_of if letter == NOT_THERE])
        ended += [i for i, letter in states_of if letter in _ENDED]
    for some in in_slices(list(in_slices(ended, MOST_READ)), _FEW_AT_ONCE):
        replies = session.broker.run_all([_ends_of(group, part) for part in some])
        for part, reply in zip(some, replies, strict=True):
            ends, unread = _ends(reply)
            group._take(ends)
            left = len(part)
            # The reply had no room for them; large ones never fit.
            while ends and 0 < len(unread) < left:
                left = len(unread)
                ends, unread = _ends(session.broker.run(_ends_of(group, unread)))
                group._take(ends)


def _ends_of(group: TaskGroup[Any], ids: Sequence[str]) -> Command[list[ChangedTask]]:
    return changed_tasks(group.queue, dict.fromkeys(ids, ""))


def _ends(changed: list[ChangedTask]) -> tuple[list[tuple[str, RawOutcome]], list[str]]:
    """Return the ends of tasks that ended, and the ids of those whose end was not read."""
    ends: list[tuple[str, RawOutcome]] = []
    unread: list[str] = []
    for _, task_id, state, ending in changed:
        if state is None:
            ends.append((task_id, RawOutcome(GONE)))
        elif state in states.FINAL:
            end = None if ending is None else end_as(ending)
            if end is None:
                unread.append(task_id)
            elif ending is None or detached_result(ending.result) is None:
                ends.append((task_id, end))
    return ends, unread


def _follow(group: TaskGroup[Any], future: TaskFuture[Any]) -> None:
    """Give a group the end of a task that another handle of this process awaits."""

    def take(ended: Any) -> None:
        if ended._outcome is not None:
            group._take_outcomes([(ended.id, ended._outcome)])

    future.add_done_callback(take)
