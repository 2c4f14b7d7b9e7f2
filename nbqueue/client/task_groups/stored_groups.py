"""Task groups in the store: all of them, or one by its id or its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbqueue.broker.reads.slices import in_slices
from nbqueue.client.inspection.task_names import recent_tasks
from nbqueue.client.session import warn_of
from nbqueue.errors import TaskGroupNotFound, TaskNotFound, UsageError
from nbqueue.names import check_encodable, did_you_mean
from nbqueue.printable import shown
from nbqueue.store.refusal_errors import KeyDenied
from nbqueue.transport.topology import Key
from nbqueue.wire.decoding import pairs, text, whole_number
from nbqueue.wire.task_groups.task_group_keys import TaskGroupKeys, index_keys, task_group_name
from nbqueue.wire.task_groups.task_group_record import TaskGroupRecord, read_record

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_AT_ONCE = 500
_MOST_NEAR = 3
_LONGEST_NUMBER = 10


def find_record(session: Session, id_or_name: str) -> TaskGroupRecord | None:
    """Return the group with this id, else the newest one with this name, else None."""
    name_key = task_group_name(id_or_name)
    [named] = session.broker.try_call(("GET", name_key), on=Key(name_key))
    wanted = [id_or_name]
    if isinstance(named, bytes):
        wanted.append(text(named.partition(b" ")[2]))
    for record in read_records(session, wanted):
        if id_or_name in (record.group_id, record.name):
            return record
    # The newest group of a name may be gone, and an older one still there.
    return max(
        (record for record in all_records(session) if record.name == id_or_name),
        key=lambda record: record.started_ms,
        default=None,
    )


def get_record(session: Session, id_or_name: str) -> TaskGroupRecord:
    """Return a group by its id or name, as `find_record` does. Raises `TaskGroupNotFound`."""
    if not isinstance(id_or_name, str) or not id_or_name:
        raise UsageError(f"{id_or_name!r} is neither the id nor the name of a task group")
    check_encodable(id_or_name)
    found = find_record(session, id_or_name)
    if found is None:
        raise TaskGroupNotFound(_not_found(session, id_or_name), id_or_name)
    return found


def find_member(session: Session, wanted: str) -> tuple[str, str]:
    """Return queue and id of a task by its place in a group, such as ``"sweep-3"``.

    Raises `TaskNotFound`, which says so if there is a group of that id or name.
    """
    name, _, number = wanted.rpartition("-")
    if name and number.isascii() and number.isdigit():
        record = find_record(session, name)
        if record is not None and len(number) < _LONGEST_NUMBER:
            if int(number) < len(record.members):
                return record.queue, record.members.id_at(int(number))
            last = len(record.members) - 1
            raise TaskNotFound(
                f"the group {name!r} has members from {name}-0 to {name}-{last}, and no {wanted!r}",
                wanted,
            )
    if find_record(session, wanted) is not None:
        raise TaskNotFound(
            f"{wanted!r} is a group of tasks: q.group({wanted!r}) finds it, and "
            f"q.group({wanted!r}).futures has its tasks",
            wanted,
        )
    raise TaskNotFound(_no_task(session, wanted), wanted)


def find_members(session: Session, name: str) -> list[tuple[str, str]]:
    """Return the ids of the tasks of a group, by its id or name, each with its queue.

    ``"sweep-3"`` is one task of the group ``sweep``. Empty if there is no such group or task.
    """
    record = find_record(session, name)
    if record is not None:
        return [(task_id, record.queue) for task_id in record.members.ids()]
    head, _, number = name.rpartition("-")
    if not (head and number.isascii() and number.isdigit() and len(number) < _LONGEST_NUMBER):
        return []
    record = find_record(session, head)
    if record is None or int(number) >= len(record.members):
        return []
    return [(record.members.id_at(int(number)), record.queue)]


def _no_task(session: Session, wanted: str) -> str:
    said = f"{session.store.url.place} has no task with the id or the name {wanted!r}"
    # Ids that were made together are alike: only the rest of an id can be missing.
    ids = [i for i in recent_tasks(session.broker).task_id if i.startswith(wanted)]
    question = did_you_mean(wanted, ids[:_MOST_NEAR] or names_in(session), _MOST_NEAR)
    if question:
        return f"{said}: {question} Groups of tasks are found with q.group(…)"
    return (
        f"{said}: it never had one, or the task was deleted, as finished tasks are at the end of "
        "their retention. Groups of tasks are found with q.group(…)"
    )


def _not_found(session: Session, wanted: str) -> str:
    where = f"{session.store.url.place} has no task group with the id or the name "
    said = f"{where}{shown(wanted)}"
    if session.find_by_name(wanted) is not None or session.broker.find(wanted) is not None:
        return f"{said}, but a task: q.get({wanted!r}) finds it"
    question = did_you_mean(wanted, group_names(session), _MOST_NEAR)
    if question:
        return f"{said}: {question} q.groups() lists all"
    return (
        f"{said}: it never had one, or the last task of the group was deleted, as finished tasks "
        "are at the end of their retention. q.groups() lists those that there are"
    )


def all_records(session: Session) -> list[TaskGroupRecord]:
    """Return all groups in the store, oldest first."""
    records = read_records(session, _all_ids(session))
    records.sort(key=lambda record: (record.started_ms, record.group_id))
    return records


def names_in(session: Session) -> list[str]:
    """Return the names of groups and of recent tasks, for suggestions."""
    named = [name for name in recent_tasks(session.broker).name if name is not None]
    return list(dict.fromkeys([*named, *group_names(session)]))


def group_names(session: Session) -> list[str]:
    """Return the names of the groups in the store, the newest first, each once."""
    found: list[tuple[int, str]] = []
    for part in in_slices(_all_ids(session), _AT_ONCE):
        keys = [TaskGroupKeys(group_id).record for group_id in part]
        replies = session.broker.try_call_each(
            (Key(key), ("HMGET", key, "name", "started")) for key in keys
        )
        for reply in replies:
            if isinstance(reply, list) and reply[0] is not None:
                found.append((whole_number(reply[1], 0) or 0, text(reply[0])))
    return list(dict.fromkeys(name for _, name in sorted(found, reverse=True)))


def _all_ids(session: Session) -> list[str]:
    replies = session.broker.try_call_each(
        (Key(key), ("ZRANGE", key, 0, -1)) for key in index_keys()
    )
    found: list[str] = []
    for reply in replies:
        if isinstance(reply, list):
            found += map(text, reply)
        elif not isinstance(reply, KeyDenied):  # this user has other keys only
            warn_of([str(reply)])
    return found


def read_records(session: Session, group_ids: Sequence[str]) -> list[TaskGroupRecord]:
    """Return those of the groups with these ids that the store has, in the same order."""
    records: list[TaskGroupRecord] = []
    for start in range(0, len(group_ids), _AT_ONCE):
        part = group_ids[start : start + _AT_ONCE]
        keys = list(map(TaskGroupKeys, part))
        replies = iter(
            session.broker.try_call_each(
                call
                for each in keys
                for call in (
                    (Key(each.record), ("HGETALL", each.record)),
                    (Key(each.members), ("LRANGE", each.members, 0, -1)),
                )
            )
        )
        for group_id, fields, entries in zip(part, replies, replies, strict=True):
            if isinstance(fields, list) and isinstance(entries, list):
                record = read_record(group_id, dict(pairs(fields)), entries) if fields else None
                if record is not None:
                    records.append(record)
            elif not isinstance(fields, KeyDenied):
                warn_of([f"the record of task group {shown(group_id)} cannot be read"])
    return records
