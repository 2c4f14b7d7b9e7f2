"""`TaskList`: the tasks of a queue or of all, in a state or in all, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from nbqueue.broker.reads.list_tasks import Wanted
from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.client.inspection.task_filter import BulkResult, TaskFilter
from nbqueue.clock import to_ms
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, MOMENT, STATE, Column
from nbqueue.dashboard.tables.table_model import (
    MOST_CSV_ROWS,
    Action,
    CsvFile,
    TableModel,
    sorted_rows,
)
from nbqueue.dashboard.tables.task_key import split_key, task_key
from nbqueue.dashboard.task_scan import Place, TaskLine, TaskScan
from nbqueue.errors import StoreDamaged, UsageError
from nbqueue.views.format import count
from nbqueue.wire import states
from nbqueue.wire.ids import made_ms

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

ALL: Final = ""
"""All queues, or all states."""

_READ_ORDER: Final = (
    states.ACTIVE,
    states.RETRY,
    states.ARCHIVED,
    states.PENDING,
    states.SCHEDULED,
    states.AGGREGATING,
    states.COMPLETED,
)
"""The order of a list of all states: what needs attention comes first."""

_RESULTS: Final = {
    "run": "will run",
    "cancel": "cancelled",
    "archive": "archived",
    "delete": "deleted",
}
_TIME_TITLES: Final = {
    states.PENDING: "enqueued",
    states.ACTIVE: "enqueued",
    states.SCHEDULED: "due",
    states.RETRY: "due",
    states.ARCHIVED: "failed at",
    states.COMPLETED: "completed at",
    states.AGGREGATING: "enqueued",
}
_MOST_QUEUES = 100
"""The greatest number of queues that a list of all queues reads."""

_CSV_SECONDS = 60.0
_PATIENCE_SECONDS = 0.15
"""Most scans end within this time, so that their first picture is complete."""


class TaskList(TableModel[TaskLine]):
    """A page of tasks. ``queue`` and ``state`` are `ALL` for all; ``queue`` is None at first.

    The tasks of one queue in one state are read a page at a time, in the order of the store. Any
    other list is read by a `TaskScan`; ``on_change`` is called from its thread when it found more.
    """

    title = "Tasks"
    noun = "task"

    def __init__(self, scope: Scope, on_change: Callable[[], None] = lambda: None) -> None:
        super().__init__(scope)
        self.filters = {"type": "", "error": ""}
        self.queue: str | None = None
        self.state: str = states.PENDING
        self.sorted_by = "time_ms"
        self.counts: dict[str, int] = {}
        """The number of tasks in each state, whatever the filters."""
        self.queue_names: list[str] = []
        self._on_change = on_change
        self._scan: TaskScan | None = None
        self._is_changed = False

    @property
    def columns(self) -> Sequence[Column]:
        queue = (Column("queue", "queue"),) if self.queue == ALL else ()
        return (
            Column("state", "state", STATE),
            Column("type", "type"),
            Column("id", "id"),
            *queue,
            Column("attempt", "attempt", COUNT),
            Column("time_ms", _TIME_TITLES.get(self.state, "time"), MOMENT),
            Column("error", "error"),
        )

    # --- What to show --------------------------------------------------------------------------

    def show(self, queue: str, state: str) -> None:
        """Choose a queue and a state; `ALL` for all."""
        self.queue = queue
        self.state = state if state in (*STATES, ALL) else states.PENDING
        has_order = queue != ALL and self.state not in (ALL, states.AGGREGATING)
        self.sorted_by = "time_ms" if has_order else ""
        self.is_descending = self.state in states.FINAL
        self.paging.restart()
        self.selected.clear()

    def sort(self, column: str) -> None:
        if column == self.sorted_by == "time_ms":
            self.is_descending = not self.is_descending
            self.paging.restart()
        else:
            super().sort(column)

    def changed(self) -> None:
        """Note that tasks changed: a scan is repeated earlier. May be called from any thread."""
        self._is_changed = True

    @property
    def newest_first(self) -> bool:
        """True if the last in the order of the store comes first."""
        if self.sorted_by == "time_ms":
            return self.is_descending
        return self.state in states.FINAL

    @property
    def is_page_of_store(self) -> bool:
        """True if the store itself has the order: no scan is needed."""
        is_one = self.queue != ALL and self.state not in (ALL, states.AGGREGATING)
        return is_one and not self.is_filtered and self.sorted_by in ("", "time_ms")

    @property
    def matching(self) -> int | None:
        """The number of tasks that match; None while they are being counted."""
        if self.is_page_of_store:
            return self.paging.total
        found = self._scan.found if self._scan is not None else None
        if found is None or not found.is_done:
            return None
        return found.total if found.is_partial else found.matching

    @property
    def progress(self) -> str:
        """How far a scan is, such as "looked at 40,000 of 100,000"; "" if there is none."""
        if self.is_page_of_store or self._scan is None or self._scan.found.is_done:
            return ""
        found = self._scan.found
        return f"looked at {found.looked_at:,} of {max(found.looked_at, found.total):,}"

    # --- Reading -------------------------------------------------------------------------------

    def read(self) -> None:
        self.note = ""
        self._read_names()
        if self.queue is None:
            self.rows, self.counts = [], {}
            return
        queues = self._queues()
        infos = self.scope.client.inspector.queue_infos(queues)
        self.counts = {state: sum(getattr(info, state) for info in infos) for state in STATES}
        try:
            if self.is_page_of_store:
                self._stop_scan()
                self._read_page(self.queue)
            else:
                self._read_scan(queues)
        except StoreDamaged:
            self.rows = []
            self.note = f"{self.queue} cannot be read: {infos[0].fault}"
        self.selected = self._still_listed(self.selected)

    def _read_names(self) -> None:
        """Read the names of the queues, and choose the first unless one is chosen."""
        self.queue_names = names = self.scope.queue_names()
        if not names:
            self.queue = None
        elif self.queue is None or (self.queue != ALL and self.queue not in names):
            self.queue = names[0]

    def _queues(self) -> list[str]:
        if self.queue != ALL:
            return [self.queue] if self.queue is not None else []
        if len(self.queue_names) > _MOST_QUEUES:
            total = len(self.queue_names)
            self.note = f"only the first {_MOST_QUEUES} of {total:,} queues: choose one"
        return self.queue_names[:_MOST_QUEUES]

    def _read_page(self, queue: str) -> None:
        # The page may be gone: tasks leave between two readings.
        self.paging.counted(self.counts[self.state])
        tasks = self.scope.client.inspector.page(
            queue,
            self.state,
            self.paging.first,
            self.paging.size,
            newest_first=self.newest_first,
        )
        self.rows = [self._line(task) for task in tasks]

    def _read_scan(self, queues: Sequence[str]) -> None:
        wanted = self._wanted()
        places = self._places(queues)
        total = sum(self.counts[state] for state in self._states())
        if self._scan is None or (self._scan.places, self._scan.wanted) != (places, wanted):
            self._stop_scan()
            broker = self.scope.client._session.broker
            self._scan = TaskScan(broker, places, wanted, on_change=self._on_change)
        scan, is_changed = self._scan, self._is_changed
        self._is_changed = False
        scan.refresh(total, is_changed=is_changed)
        if not scan.found.is_done:
            scan.wait(_PATIENCE_SECONDS)
        found = scan.found
        if found.fault:
            self.note = found.fault
        elif found.is_done and found.is_cut and not self.note:
            of = found.total if found.is_partial else found.matching
            self.note = f"the list was cut: it has {len(found.lines):,} of {of:,} tasks"
            if self.sorted_by:
                self.note += ", and only these are sorted"
        self.rows = self._fresh(self.paging.of(self._in_order(found.lines)))

    def _stop_scan(self) -> None:
        if self._scan is not None:
            self._scan.stop()
            self._scan = None

    def _in_order(self, rows: Sequence[TaskLine]) -> Sequence[TaskLine]:
        is_one = self.queue != ALL and self.state != ALL
        if self.sorted_by == "" or (is_one and self.sorted_by == "time_ms"):
            # They were read newest first.
            return rows if self.newest_first or not is_one else rows[::-1]
        return sorted_rows(rows, self.sorted_by, is_descending=self.is_descending)

    def _fresh(self, lines: Sequence[TaskLine]) -> list[TaskLine]:
        """Read tasks of the page again, and leave out those that match no longer."""
        fresh = self._matching([line.key for line in lines])
        if self._scan is not None:
            self._scan.drop({line.key for line in lines} - fresh.keys())
        return [_timed(fresh[line.key], line) for line in lines if line.key in fresh]

    def _matching(self, keys: Collection[str]) -> dict[str, TaskLine]:
        """Read tasks by their keys, and return those that match the filters now."""
        found: dict[str, TaskLine] = {}
        reader = StoreReader(self.scope.client._session.broker)
        for queue, ids in by_queue(keys).items():
            for task in reader.tasks(queue, ids):
                if task is not None and self._takes(task):
                    line = self._line(task)
                    found[line.key] = line
        return found

    def _takes(self, task: TaskInfo) -> bool:
        if self.queue not in (ALL, task.queue) or task.state not in self._states():
            return False
        type, error = self.filters["type"] or None, self.filters["error"] or None
        return TaskFilter(task.queue, task.state, type, error).takes(task)

    def _still_listed(self, keys: Collection[str]) -> set[str]:
        """Return those of the selected keys whose tasks are still in the list."""
        shown = {row.key for row in self.rows}
        elsewhere = set(keys) - shown
        return (set(keys) & shown) | set(self._matching(elsewhere) if elsewhere else ())

    def _states(self) -> Sequence[str]:
        return _READ_ORDER if self.state == ALL else (self.state,)

    def _places(self, queues: Sequence[str]) -> list[Place]:
        return [Place(queue, state) for state in self._states() for queue in queues]

    def _wanted(self) -> Wanted:
        types = (self.filters["type"],) if self.filters["type"] else ()
        return Wanted(types=types, error=self.filters["error"], with_attempts=False)

    def _line(self, task: TaskInfo) -> TaskLine:
        moments = {
            states.SCHEDULED: task.next_process_at,
            states.RETRY: task.next_process_at,
            states.ARCHIVED: task.last_failed_at,
            states.COMPLETED: task.completed_at,
        }
        moment = moments.get(task.state)
        time_ms = None if moment is None else to_ms(moment)
        if task.state not in moments:
            time_ms = made_ms(task.id, self.scope.now_ms)
        return TaskLine(
            key=task_key(task.queue, task.id),
            id=task.id,
            queue=task.queue,
            state=task.state,
            type=task.type,
            attempt=task.attempt,
            time_ms=time_ms,
            error=task.fault or task.error or "",
        )

    # --- Acting --------------------------------------------------------------------------------

    def actions(self) -> Sequence[Action]:
        number = len(self.selected)
        return [
            Action(
                name,
                name.capitalize(),
                f"{name.capitalize()} the {count(number, 'selected task')}",
                f"{name.capitalize()} {count(number, 'task')}?",
                bool(number),
            )
            for name in self._action_names()
        ]

    def all_actions(self) -> Sequence[Action]:
        number = self.matching
        if not number:
            return ()
        state = f"{self.state} " if self.state != ALL else ""
        of = f"{state}tasks" + (f" of {self.queue}" if self.queue != ALL else " of all queues")
        of += " that fit" if self.is_filtered else ""
        return [
            Action(
                name,
                f"{name.capitalize()} all {number:,}",
                f"{name.capitalize()} all {number:,} {of}",
                f"{name.capitalize()} {count(number, 'task')}?",
            )
            for name in self._action_names(of_all=True)
        ]

    def _action_names(self, *, of_all: bool = False) -> Sequence[str]:
        if self.state != ALL:
            return ACTIONS[self.state]
        # An action on all of them fits few states.
        return () if of_all else ("run", "cancel", "archive", "delete")

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        if action not in self._action_names(of_all=keys is None):
            raise UsageError(f"there is no action {action!r} on {self.state or 'all'} tasks")
        act = getattr(self.scope.client.inspector, action)
        if keys is None:
            results = [act(**where) for where in self._filters()]
        else:
            # Tasks may have moved on since they were drawn.
            listed = by_queue(sorted(self._matching(keys)))
            results = [act(ids, queue=queue) for queue, ids in listed.items()]
        self.selected.clear()
        self.changed()
        return _summary(action, results)

    def _filters(self) -> Iterator[dict[str, Any]]:
        """Yield the filters of the inspector that together take all tasks of the list."""
        for queue, state in self._places(self._queues()):
            chosen = {
                "queue": queue,
                "state": state,
                **{k: v for k, v in self.filters.items() if v},
            }
            if state != states.AGGREGATING:
                yield chosen
                continue
            for group in self.scope.client.inspector.groups(queue):
                yield {**chosen, "group": group}

    # --- Saving --------------------------------------------------------------------------------

    def csv(self) -> CsvFile:
        if self.queue is None or not self.is_page_of_store:
            scan = self._scan
            if scan is not None:
                scan.wait(_CSV_SECONDS)
            lines = scan.found.lines if scan is not None else []
            return self._csv_of(self._in_order(lines), self.matching)
        total = self.counts[self.state]
        rows: list[TaskLine] = []
        size = 1_000
        while len(rows) < min(total, MOST_CSV_ROWS):
            tasks = self.scope.client.inspector.page(
                self.queue, self.state, len(rows), size, newest_first=self.newest_first
            )
            rows += map(self._line, tasks)
            if len(tasks) < size:
                break
        return self._csv_of(rows, max(total, len(rows)))


def _timed(task: TaskLine, before: TaskLine) -> TaskLine:
    """Return a task with the time that was read before, if it is not known from the task alone."""
    is_known = task.time_ms is not None or task.state != before.state
    return task if is_known else task._replace(time_ms=before.time_ms)


def by_queue(keys: Collection[str]) -> dict[str, list[str]]:
    """Return the ids of tasks by their queue."""
    found: dict[str, list[str]] = {}
    for key in keys:
        queue, task_id = split_key(key)
        found.setdefault(queue, []).append(task_id)
    return found


def _summary(action: str, results: Sequence[BulkResult]) -> str:
    """Return a sentence that names the action and the number of tasks."""
    asked = sum(len(result.asked) for result in results)
    refused = [reason for result in results for reason in result.refused.values()]
    summary = f"{sum(map(len, results)):,} {_RESULTS[action]}"
    if asked:
        summary += f", {asked:,} running and asked to end"
    if refused:
        summary += f", {len(refused):,} refused ({refused[0]})"
    return summary
