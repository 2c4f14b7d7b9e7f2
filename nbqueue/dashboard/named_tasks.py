"""`NameFilter`: takes the tasks of a name, and the members of a group of that name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.client.task_groups.stored_groups import find_members

if TYPE_CHECKING:
    from nbqueue.client.session import Session


class NameFilter:
    """Takes tasks with a name, and the members of the newest group with that name or id.

    Raises `StoreUnreachable` when it is made: then the group is looked up.
    """

    def __init__(self, session: Session, name: str) -> None:
        self._name = name
        self._members = {(queue, task_id) for task_id, queue in find_members(session, name)}

    def takes(self, row: TaskRow) -> bool:
        """Return whether a task has the name."""
        return row.name == self._name or (row.queue, row.task_id) in self._members
