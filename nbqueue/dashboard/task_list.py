"""`TaskList`: the tasks of a queue or of all, in a state or in all, filtered and sorted."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from nbqueue.broker.reads.list_tasks import Wanted
from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.client.inspection.task_filter import TaskFilter
from nbqueue.dashboard.named_tasks import NameFilter
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, MOMENT, STATE, Column
from nbqueue.dashboard.tables.table_model import (
    MOST_CSV_ROWS,
    Action,
    CsvFile,
    TableModel,
    sorted_rows,
)
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.dashboard.task_actions import (
    ACTIONS,
    ANY_STATE,
    by_queue,
    on_all,
    on_selected,
    summary,
)
from nbqueue.dashboard.task_arguments import ArgumentFilter, CallTexts
from nbqueue.dashboard.task_line import TIME_TITLES, TaskLine, line_of_info
from nbqueue.dashboard.task_scan import Place, TaskScan
from nbqueue.errors import StoreDamaged, UsageError
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

_MOST_QUEUES = 100
"""The greatest number of queues that a list of all queues reads."""

_CSV_SECONDS = 60.0
_PATIENCE_SECONDS = 0.15
"""Most scans end within this time, so that their first picture is complete."""


class TaskList(TableModel[TaskLine]):
    """A page of tasks. ``queue`` and ``state`` are `ALL` for all; ``queue`` is None at first.

    Unless `show` chooses, it has the pending tasks of the first queue, and all of its tasks once
    none is pending.

    The tasks of one queue in one state are read a page at a time, in the order of the store. Any
    other list is read by a `TaskScan`; ``on_change`` is called from its thread when it found more.
    """

    title = "Tasks"
    noun = "task"

    def __init__(self, scope: Scope, on_change: Callable[[], None] = lambda: None) -> None:
        super().__init__(scope)
        self.filters = {"type": "", "error": "", "name": "", "arguments": ""}
        self.queue: str | None = None
        self.state: str = states.PENDING
        self.sorted_by = "time_ms"
        self.counts: dict[str, int] = {}
        """The number of tasks in each state, whatever the filters."""
        self.queue_names: list[str] = []
        self._on_change = on_change
        self._scan: TaskScan | None = None
        self._scan_key: object = None
        self._calls: CallTexts | None = None
        self._is_changed = False
        self._is_chosen = False

    @property
    def columns(self) -> Sequence[Column]:
        queue = (Column("queue", "queue"),) if self.queue == ALL else ()
        return (
            Column("state", "state", STATE),
            Column("type", "type"),
            Column("call", "call", can_sort=False),
            Column("id", "id"),
            *queue,
            Column("attempt", "attempt", COUNT),
            Column("time_ms", TIME_TITLES.get(self.state, "time"), MOMENT),
            Column("error", "error"),
        )

    # --- What to show --------------------------------------------------------------------------

    def show(self, queue: str, state: str) -> None:
        """Choose a queue and a state; `ALL` for all."""
        self._is_chosen = True
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
        is_own = self._is_chosen or self.is_filtered or bool(self.selected)
        if not is_own and not self.counts[self.state] and any(self.counts.values()):
            # A list without a task would be of no use.
            self.show(self.queue, ALL)
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
        self.rows = self._with_calls(self.rows)

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
        self.rows = [line_of_info(task, self.scope.now_ms) for task in tasks]

    def _read_scan(self, queues: Sequence[str]) -> None:
        wanted, arguments, name = self._wanted(), self.filters["arguments"], self.filters["name"]
        places = self._places(queues)
        total = sum(self.counts[state] for state in self._states())
        if self._scan is None or self._scan_key != (places, wanted, arguments, name):
            self._stop_scan()
            self._scan_key = places, wanted, arguments, name
            session = self.scope.client._session
            filters = [NameFilter(session, name).takes] if name else []
            filters += [ArgumentFilter(session, arguments).takes] if arguments else []
            self._scan = TaskScan(
                session.broker,
                places,
                wanted,
                takes=(lambda row: all(takes(row) for takes in filters)) if filters else None,
                on_change=self._on_change,
            )
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
        fresh = self._matching({line.key: line for line in lines})
        if self._scan is not None:
            self._scan.drop({line.key for line in lines} - fresh.keys())
        return [fresh[line.key] for line in lines if line.key in fresh]

    def _matching(self, before: Mapping[str, TaskLine | None]) -> dict[str, TaskLine]:
        """Read tasks by their keys, and return those that match the filters now.

        Each may have its line of an earlier reading.
        """
        found: dict[str, TaskLine] = {}
        reader, now_ms = StoreReader(self.scope.client._session.broker), self.scope.now_ms
        for queue, ids in by_queue(before.keys()).items():
            for task in reader.tasks(queue, ids):
                if task is not None and self._takes(task):
                    key = task_key(queue, task.id)
                    found[key] = line_of_info(task, now_ms, before[key])
        return found

    def _with_calls(self, lines: Sequence[TaskLine]) -> list[TaskLine]:
        if self._calls is None:
            self._calls = CallTexts(self.scope.client._session)
        return self._calls.added_to(lines)

    def _takes(self, task: TaskInfo) -> bool:
        if self.queue not in (ALL, task.queue) or task.state not in self._states():
            return False
        type, error = self.filters["type"] or None, self.filters["error"] or None
        return TaskFilter(task.queue, task.state, type, error).takes(task)

    def _still_listed(self, keys: Collection[str]) -> set[str]:
        """Return those of the selected keys whose tasks are still in the list."""
        shown = set(keys) & {row.key for row in self.rows}
        elsewhere = dict.fromkeys(set(keys) - shown)
        return shown | set(self._matching(elsewhere) if elsewhere else ())

    def _states(self) -> Sequence[str]:
        return _READ_ORDER if self.state == ALL else (self.state,)

    def _places(self, queues: Sequence[str]) -> list[Place]:
        return [Place(queue, state) for state in self._states() for queue in queues]

    def _wanted(self) -> Wanted:
        types = (self.filters["type"],) if self.filters["type"] else ()
        return Wanted(
            types=types,
            error=self.filters["error"],
            with_payload=bool(self.filters["arguments"]),
            with_attempts=False,
        )

    # --- Acting --------------------------------------------------------------------------------

    def actions(self) -> Sequence[Action]:
        return on_selected(self._action_names(), len(self.selected))

    def all_actions(self) -> Sequence[Action]:
        number = self.matching
        if not number or (self._is_scanned_here and self._kept_keys() is None):
            return ()
        state = f"{self.state} " if self.state != ALL else ""
        of = f"{state}tasks" + (f" of {self.queue}" if self.queue != ALL else " of all queues")
        of += " that fit" if self.is_filtered else ""
        return on_all(self._action_names(of_all=True), number, of)

    def _action_names(self, *, of_all: bool = False) -> Sequence[str]:
        if self.state != ALL:
            return ACTIONS[self.state]
        # An action on all of them fits few states.
        return () if of_all else ANY_STATE

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        if action not in self._action_names(of_all=keys is None):
            raise UsageError(f"there is no action {action!r} on {self.state or 'all'} tasks")
        act = getattr(self.scope.client.inspector, action)
        if keys is None and self._is_scanned_here:
            keys = self._kept_keys() or ()
        if keys is None:
            results = [act(**where) for where in self._filters()]
        else:
            # Tasks may have moved on since they were drawn.
            listed = by_queue(sorted(self._matching(dict.fromkeys(keys))))
            results = [act(ids, queue=queue) for queue, ids in listed.items()]
        self.selected.clear()
        self.changed()
        return summary(action, results)

    @property
    def _is_scanned_here(self) -> bool:
        """True if a filter is not among those of the inspector."""
        return bool(self.filters["arguments"] or self.filters["name"])

    def _kept_keys(self) -> list[str] | None:
        """Return the keys of all tasks that match, or None if not all are known."""
        found = self._scan.found if self._scan is not None else None
        if found is None or not found.is_done or found.is_cut:
            return None
        return [line.key for line in found.lines]

    def _filters(self) -> Iterator[dict[str, Any]]:
        """Yield the filters of the inspector that together take all tasks of the list."""
        # Names and arguments are not among them: see `_kept_keys`.
        filters = {name: text for name, text in self.filters.items() if text}
        for queue, state in self._places(self._queues()):
            chosen = {"queue": queue, "state": state, **filters}
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
            lines = self._in_order(scan.found.lines if scan is not None else [])
            return self._csv_of(self._with_calls(lines), self.matching)
        total = self.counts[self.state]
        rows: list[TaskLine] = []
        size = 1_000
        while len(rows) < min(total, MOST_CSV_ROWS):
            tasks = self.scope.client.inspector.page(
                self.queue, self.state, len(rows), size, newest_first=self.newest_first
            )
            lines = [line_of_info(task, self.scope.now_ms) for task in tasks]
            rows += self._with_calls(lines)
            if len(tasks) < size:
                break
        return self._csv_of(rows, max(total, len(rows)))
