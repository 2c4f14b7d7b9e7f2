"""Names of the members of task groups, which are in the records of the groups only."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.reads.task_table import TaskTable
from nbqueue.client.task_groups.stored_groups import all_records
from nbqueue.wire import ids

if TYPE_CHECKING:
    from nbqueue.client.session import Session

HEAD = -4
"""The last characters of an id, which count up within a run."""


class _Part(NamedTuple):
    """``size`` members of a group, whose ids count up from ``number``."""

    queue: str
    name: str
    number: int
    size: int
    offset: int


_number = attrgetter("number")


def name_members(session: Session, table: TaskTable) -> None:
    """Set the name of each task that is a member of a group with a name: ``"<name>-<position>"``.

    A name of its own is left as it is. Raises `StoreError`.
    """
    if all(name is not None for name in table.name):
        return
    parts = _parts(session)
    for i, task_id in enumerate(table.task_id) if parts else ():
        found = parts.get(task_id[:HEAD])
        if found is None or table.name[i] is not None:
            continue
        number = ids.number_of(task_id)
        position = -1 if number is None else bisect_right(found, number, key=_number) - 1
        if number is None or position < 0:
            continue
        part = found[position]
        place = number - part.number
        if place < part.size and part.queue == table.queue[i]:
            table.name[i] = f"{part.name}-{part.offset + place}"


def _parts(session: Session) -> dict[str, list[_Part]]:
    """Return the members of all groups with a name, by the head of their ids and in their order."""
    found: dict[str, list[_Part]] = {}
    for record in all_records(session):
        offset = 0
        for run in record.members.runs if record.name is not None else ():
            number = ids.number_of(run.first)
            if number is not None:
                part = _Part(record.queue, record.name or "", number, run.size, offset)
                found.setdefault(run.first[:HEAD], []).append(part)
            offset += run.size
    for parts in found.values():
        parts.sort(key=_number)
    return found
