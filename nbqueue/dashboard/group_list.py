"""`GroupList`: the task groups of a store, how far they are, cancelling and retrying."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from nbqueue.broker.reads.models import TaskGroupRow
from nbqueue.client.task_groups.counting import list_groups
from nbqueue.client.task_groups.retrying import retry_members
from nbqueue.client.task_groups.stored_groups import get_record
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, MOMENT, STATE, Column
from nbqueue.dashboard.tables.table_model import Action, TableModel
from nbqueue.errors import TaskGroupNotFound, UsageError
from nbqueue.views.format import count

_MOST_COUNTED = 30_000
"""Tasks that one reading looks at; see `nbqueue.client.task_groups.counting`."""


class GroupLine(NamedTuple):
    """A task group. ``done`` counts tasks that have ended, in any state."""

    key: str
    id: str
    name: str
    """Its name, else the name of its function."""
    state: str
    """``running``, or how it ended: ``completed``, ``failed`` or ``cancelled``."""
    function: str
    queue: str
    total: int
    done: int
    failed: int
    cancelled: int
    started_ms: int
    by: str
    is_complete: bool
    """False while the map runs, and if it was cut off."""
    is_estimated: bool
    """True if the numbers are from a sample of the tasks."""


class GroupList(TableModel[GroupLine]):
    """The task groups of a store, the newest first. ``text`` filters by name, function or owner."""

    title = "Groups"
    noun = "group"
    rest_seconds = 2.0
    columns = (
        Column("name", "name"),
        Column("state", "", STATE),
        Column("function", "function"),
        Column("queue", "queue"),
        Column("done", "done", COUNT),
        Column("total", "tasks", COUNT),
        Column("failed", "failed", COUNT),
        Column("cancelled", "cancelled", COUNT),
        Column("started_ms", "began", MOMENT),
        Column("by", "by"),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.filters = {"text": ""}

    def read(self) -> None:
        rows = self._all_rows()
        estimated = sum(row.is_estimated for row in rows)
        self.note = f"the numbers of {count(estimated, 'group')} are estimates" if estimated else ""
        self._show(rows)

    def _all_rows(self) -> list[GroupLine]:
        groups = list_groups(self.scope.client._session, _MOST_COUNTED)
        lines = [_line(group) for group in reversed(groups) if self.scope.includes(group.queue)]
        part = self.filters["text"]
        return [
            line for line in lines if any(part in text for text in (line.name, *line[4:6], line.by))
        ]

    # --- Acting --------------------------------------------------------------------------------

    def row_actions(self, row: GroupLine) -> Sequence[Action]:
        left = row.total - row.done
        return (
            Action(
                "retry",
                "Retry failed",
                f"Run the failed tasks of {row.name} again",
                is_enabled=bool(row.failed),
            ),
            Action(
                "cancel",
                "Cancel",
                f"Cancel what has not ended of {row.name}",
                f"Cancel {count(left, 'task')}?",
                bool(left),
            ),
        )

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        act = {"retry": self._retry, "cancel": self._cancel}.get(action)
        if act is None or keys is None:
            raise UsageError(f"there is no action {action!r} on groups")
        return "; ".join(act(key) for key in keys)

    def _retry(self, group_id: str) -> str:
        session = self.scope.client._session
        try:
            record = get_record(session, group_id)
        except TaskGroupNotFound:
            return f"the group {group_id} is no longer in the store"
        done = retry_members(session, group_id, record.queue, record.members).done
        return f"{count(len(done), 'task')} of {record.name or record.type} run again"

    def _cancel(self, group_id: str) -> str:
        client = self.scope.client
        try:
            record = get_record(client._session, group_id)
        except TaskGroupNotFound:
            return f"the group {group_id} is no longer in the store"
        result = client.cancel(record.members.ids(), queue=record.queue)
        asked = f", {count(len(result.asked), 'running task')} asked to end" if result.asked else ""
        return f"{count(len(result.done), 'task')} of {record.name or record.type} cancelled{asked}"


def _line(group: TaskGroupRow) -> GroupLine:
    state = "running"
    if group.done >= group.total:
        state = "failed" if group.failed else "cancelled" if group.cancelled else "completed"
    return GroupLine(
        key=group.id,
        id=group.id,
        name=group.name or group.type,
        state=state,
        function=group.type,
        queue=group.queue,
        total=group.total,
        done=group.done,
        failed=group.failed,
        cancelled=group.cancelled,
        started_ms=group.started_ms,
        by=group.by,
        is_complete=group.is_complete,
        is_estimated=group.is_estimated,
    )
