"""`TaskList`: the tasks of one queue in one state, filtered, paged, selected and acted on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.dashboard.paging import Paging
from nbqueue.dashboard.scope import Scope
from nbqueue.errors import StoreDamaged
from nbqueue.wire import states

STATES: Final = (
    states.PENDING,
    states.ACTIVE,
    states.SCHEDULED,
    states.RETRY,
    states.ARCHIVED,
    states.COMPLETED,
    states.AGGREGATING,
)
ACTIONS: Final = {
    states.PENDING: ("cancel", "archive", "delete"),
    states.ACTIVE: ("cancel",),
    states.SCHEDULED: ("run", "cancel", "archive", "delete"),
    states.RETRY: ("run", "cancel", "archive", "delete"),
    states.ARCHIVED: ("run", "delete"),
    states.COMPLETED: ("run", "delete"),
    states.AGGREGATING: ("run", "cancel", "archive", "delete"),
}
"""The actions on tasks in each state: methods of the inspector."""

_RESULTS: Final = {
    "run": "will run",
    "cancel": "cancelled",
    "archive": "archived",
    "delete": "deleted",
}


class TaskList:
    """A page of the tasks of one queue in one state."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self.queue = ""
        self.state = states.PENDING
        self.type = ""
        self.error = ""
        self.newest_first = False
        self.paging = Paging()
        self.selected: set[str] = set()
        """Ids of the selected tasks."""
        self.matching: int | None = None
        """The number of tasks that match the filter, once counted."""
        self.tasks: list[TaskInfo] = []
        self.counts: dict[str, int] = {}
        self.queue_names: list[str] = []

    # --- What to show --------------------------------------------------------------------------

    def show(self, queue: str, state: str) -> None:
        """Choose a queue and a state."""
        self.queue = queue
        self.state = state if state in STATES else states.PENDING
        self.newest_first = self.state in states.FINAL
        self._restart()

    def sort(self, *, newest_first: bool) -> None:
        """Choose the order."""
        self.newest_first = newest_first
        self._restart()

    def filter(self, *, type: str | None = None, error: str | None = None) -> None:
        """Choose a type, or a part of the text of an error; "" for any."""
        self.type = self.type if type is None else type.strip()
        self.error = self.error if error is None else error.strip()
        self._restart()

    def select(self, task_ids: Iterable[str], *, is_on: bool) -> None:
        """Select tasks, or remove them from the selection."""
        if is_on:
            self.selected.update(task_ids)
        else:
            self.selected.difference_update(task_ids)

    @property
    def is_filtered(self) -> bool:
        """True if only some tasks in the state are shown."""
        return bool(self.type or self.error)

    @property
    def can_sort(self) -> bool:
        """True if there is an order to choose.

        A filter finds tasks in the order of the store.
        """
        return not self.is_filtered and self.state != states.AGGREGATING

    def _restart(self) -> None:
        self.paging.restart()
        self.matching = None
        self.selected.clear()

    # --- Reading -------------------------------------------------------------------------------

    def read_names(self) -> None:
        """Read the names of the queues, and choose the first unless one is chosen."""
        self.queue_names = self._scope.queue_names()
        if self.queue not in self.queue_names:
            self.queue = self.queue_names[0] if self.queue_names else ""

    def read(self) -> str:
        """Read the page. Returns a sentence if the queue cannot be read, else ""."""
        self.tasks, self.counts = [], {}
        if not self.queue:
            return ""
        inspector = self._scope.client.inspector
        info = inspector.queue(self.queue)
        self.counts = {state: getattr(info, state) for state in STATES}
        # The page may be gone: tasks leave between two readings.
        self.paging.counted(None if self.is_filtered else self.counts[self.state])
        first, size = self.paging.first, self.paging.size
        try:
            if self.can_sort:
                self.tasks = inspector.page(
                    self.queue, self.state, first, size, newest_first=self.newest_first
                )
            else:
                self.tasks = list(islice(self._matches(), first, first + size))
        except StoreDamaged:
            return f"{self.queue} cannot be read: {info.fault}"
        return ""

    def count_matching(self) -> None:
        """Count the tasks that match the filter. Reads them all."""
        self.matching = sum(1 for _ in self._matches())

    def _matches(self) -> Iterator[TaskInfo]:
        inspector = self._scope.client.inspector
        groups: list[str | None] = [None]
        if self.state == states.AGGREGATING:
            groups = list(inspector.groups(self.queue))
        for group in groups:
            yield from inspector.tasks(
                self.queue,
                self.state,
                group=group,
                type=self.type or None,
                error=self.error or None,
            )

    # --- Acting --------------------------------------------------------------------------------

    def act_on_selected(self, action: str) -> str:
        """Act on the selected tasks. Returns a sentence with the result."""
        return self._act(action, sorted(self.selected))

    def act_on_all(self, action: str) -> str:
        """Act on all tasks that match. Returns a sentence with the result."""
        return self._act(action, None)

    def _act(self, action: str, task_ids: list[str] | None) -> str:
        if action not in ACTIONS[self.state]:
            return ""
        inspector = self._scope.client.inspector
        act = getattr(inspector, action)
        result = ""
        if task_ids is not None:
            result = _summary(action, act(task_ids, queue=self.queue))
        elif self.state == states.AGGREGATING:
            for group in inspector.groups(self.queue):
                result = _summary(action, act(**self._filter(), group=group))
        else:
            result = _summary(action, act(**self._filter()))
        self._restart()
        return result

    def _filter(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"queue": self.queue, "state": self.state}
        if self.type:
            chosen["type"] = self.type
        if self.error:
            chosen["error"] = self.error
        return chosen


def _summary(action: str, result: Any) -> str:
    """Return a sentence that names the action and the number of tasks."""
    summary = f"{len(result):,} {_RESULTS[action]}"
    if getattr(result, "asked", None):
        summary += f", {len(result.asked):,} running and asked to end"
    if result.refused:
        reason = next(iter(result.refused.values()))
        summary += f", {len(result.refused):,} refused ({reason})"
    return summary
