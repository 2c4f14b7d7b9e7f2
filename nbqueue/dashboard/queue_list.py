"""`QueueList`: the queues with their tasks by state, their speed, and pausing."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from nbqueue.broker.reads.models import QueueInfo
from nbqueue.client.obstacles.obstacle import UNSERVED, Obstacle
from nbqueue.dashboard.measures.queue_pace import QueuePace
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, SECONDS, SHARE, STATE, Column
from nbqueue.dashboard.tables.table_model import MOST_CSV_ROWS, Action, CsvFile, TableModel
from nbqueue.dashboard.task_list import STATES
from nbqueue.errors import UsageError
from nbqueue.views.format import count
from nbqueue.wire import states

# A column for a state that no task is in would only push the others apart.
_ALWAYS: Final = frozenset((states.PENDING, states.ACTIVE, states.ARCHIVED, states.COMPLETED))

_MOST_SORTED = 500
"""Most queues that are read to sort them by what they hold: each costs the store some work."""


if TYPE_CHECKING:
    from nbqueue.client.obstacles.obstacle_watch import Found


class QueueLine(NamedTuple):
    """A queue. A count is None if it cannot be read; ``latency`` is in seconds."""

    key: str
    queue: str
    state: str
    """``running``, ``paused`` or ``no worker``, or what is wrong with it in a few words."""
    fault: str
    """Why it cannot be read or is not served, or ""."""
    size: int
    pending: int | None
    active: int | None
    scheduled: int | None
    retry: int | None
    archived: int | None
    completed: int | None
    aggregating: int | None
    latency: float | None
    per_second: float
    ended: tuple[int, ...]
    """Attempts that ended in each of the last steps of `QueuePace`."""
    ended_badly: tuple[int, ...]
    processed: int
    failed: int
    failed_share: float


class QueueList(TableModel[QueueLine]):
    """The queues of a store, a page at a time."""

    title = "Queues"
    noun = "queue"

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.filters = {"name": ""}
        self._paces: dict[str, QueuePace] = {}
        self._obstacles: dict[str, Found] = {}

    @property
    def notices(self) -> list[Obstacle]:
        """Why the tasks of queues of this page do not run; paused queues have a state for that."""
        return [
            obstacle
            for row in self.rows
            if row.pending or row.scheduled or row.aggregating
            for obstacle in self._obstacles.get(row.queue, ())
            if obstacle.kind != "paused"
        ]

    @property
    def columns(self) -> Sequence[Column]:
        return (
            Column("queue", "queue"),
            Column("state", "", STATE),
            *(Column(state, state, COUNT) for state in self.shown_states),
            Column("latency", "waits", SECONDS),
            Column("per_second", "per second", COUNT),
            Column("processed", "ended today", COUNT),
            Column("failed", "failed today", COUNT),
            Column("failed_share", "failed share", SHARE),
        )

    @property
    def shown_states(self) -> list[str]:
        """The states that any task is in, and the usual ones."""
        return [
            state
            for state in STATES
            if state in _ALWAYS or any(getattr(row, state) for row in self.rows)
        ]

    @property
    def task_count(self) -> int | None:
        """The number of tasks of all queues; None if the page has only some of them."""
        is_all = len(self.rows) == self.paging.total
        return sum(row.size for row in self.rows) if is_all else None

    def read(self) -> None:
        names = self._names()
        self.note = ""
        if self.sorted_by not in ("", "queue") and len(names) > _MOST_SORTED:
            self.note = f"sorted among the first {_MOST_SORTED:,} of {len(names):,} queues"
            names = names[:_MOST_SORTED]
        if self.sorted_by in ("", "queue"):
            # Only those of the page are read, as there may be thousands.
            self.rows = self._lines(self.paging.of(names[:: -1 if self.is_descending else 1]))
        else:
            self._show(self._lines(names))

    def _names(self) -> list[str]:
        part = self.filters["name"]
        return [name for name in self.scope.queue_names() if part in name]

    def _lines(self, names: Sequence[str]) -> list[QueueLine]:
        now = time.monotonic()
        self._obstacles = self.scope.client._session.obstacles.known_of_queues(names)
        return [self._line(info, now) for info in self.scope.client.inspector.queue_infos(names)]

    def _line(self, info: QueueInfo, now: float) -> QueueLine:
        pace = self._paces.setdefault(info.queue, QueuePace())
        pace.add(now, info.processed_total, info.failed_total)
        is_unserved = any(each.kind in UNSERVED for each in self._obstacles.get(info.queue, ()))
        state = "paused" if info.paused else "no worker" if is_unserved else "running"
        if info.fault:
            state = "cannot be read" if info.unknown else "not served"
        return QueueLine(
            key=info.queue,
            queue=info.queue,
            state=state,
            fault=info.fault or "",
            size=info.size,
            latency=info.latency,
            per_second=pace.per_second,
            ended=tuple(pace.done),
            ended_badly=tuple(pace.failed),
            processed=info.processed,
            failed=info.failed,
            failed_share=info.failed / info.processed if info.processed else 0.0,
            **{name: None if name in info.unknown else getattr(info, name) for name in STATES},
        )

    # --- Acting --------------------------------------------------------------------------------

    def row_actions(self, row: QueueLine) -> Sequence[Action]:
        flow = Action("pause", "Pause", f"Pause {row.queue}")
        if row.state == "paused":
            flow = Action("resume", "Resume", f"Resume {row.queue}")
        waiting = row.size - (row.active or 0)
        label = f"Delete all tasks of {row.queue} that do not run"
        question = f"Delete {count(waiting, 'task')}?"
        return flow, Action("clear", "Clear", label, question, bool(waiting))

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        act = {"pause": self._pause, "resume": self._resume, "clear": self._clear}.get(action)
        if act is None or keys is None:
            raise UsageError(f"there is no action {action!r} on queues")
        return "; ".join(act(queue) for queue in keys if self.scope.includes(queue))

    def _pause(self, queue: str) -> str:
        self.scope.client.inspector.pause(queue)
        return f"{queue} is paused: what runs goes on, and nothing new begins"

    def _resume(self, queue: str) -> str:
        self.scope.client.inspector.unpause(queue)
        return f"{queue} goes on"

    def _clear(self, queue: str) -> str:
        inspector = self.scope.client.inspector
        total = 0
        for state in STATES:
            if state == states.ACTIVE:
                continue
            groups = inspector.groups(queue) if state == states.AGGREGATING else (None,)
            for group in groups:
                total += len(inspector.delete(queue=queue, state=state, group=group))
        return f"{count(total, 'task')} of {queue} deleted"

    def csv(self) -> CsvFile:
        names = self._names()
        return self._csv_of(self._in_order(self._lines(names[:MOST_CSV_ROWS])), len(names))
