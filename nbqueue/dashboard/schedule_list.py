"""`ScheduleList`: the schedules, their next and last runs, and the history of one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.clock import to_ms
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import MOMENT, STATE, Column
from nbqueue.dashboard.tables.table_model import READ_ONLY, Action, TableModel
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.errors import NbqueueError, UsageError

if TYPE_CHECKING:
    from nbqueue.client.schedules.schedule import Schedule

_MOST_RUNS = 20


class ScheduleLine(NamedTuple):
    """A schedule. ``next_ms`` is None if it is paused, or never runs again."""

    key: str
    id: str
    state: str
    """``running``, ``paused``, or ``cannot be read``."""
    spec: str
    tz: str
    """Name of the time zone of ``spec``; "" for UTC."""
    type: str
    queue: str
    next_ms: int | None
    prev_ms: int | None
    fault: str


class ScheduledRun(NamedTuple):
    """One due time of a schedule: what was done at it."""

    key: str
    due_ms: int | None
    outcome: str
    """``enqueued``, or why nothing was; see `Schedule.history`."""
    task_id: str
    detail: str


class ScheduleHistory(TableModel[ScheduledRun]):
    """The last due times of one schedule, newest first; see `ScheduleList.open`."""

    title = "Runs"
    noun = "run"
    columns = (
        Column("due_ms", "for", MOMENT),
        Column("outcome", "outcome"),
        Column("task_id", "task"),
        Column("detail", "why"),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.schedule: Schedule | None = None

    def _all_rows(self) -> list[ScheduledRun]:
        if self.schedule is None:
            return []
        try:
            entries = self.schedule.history(_MOST_RUNS)
        except NbqueueError as error:
            self.note = str(error)
            return []
        self.note = ""
        return [
            ScheduledRun(
                key=f"{_ms(each['at'])}/{each['task_id']}/{number}",
                due_ms=_ms(each["due"] or each["at"]),
                outcome=each["outcome"],
                task_id=each["task_id"] or "",
                detail=each["detail"] or "",
            )
            for number, each in enumerate(reversed(entries))
        ][::-1]


class ScheduleList(TableModel[ScheduleLine]):
    """The schedules of a store, a page at a time, and the history of the open one."""

    title = "Schedules"
    noun = "schedule"
    columns = (
        Column("id", "schedule"),
        Column("state", "", STATE),
        Column("spec", "when"),
        Column("type", "type"),
        Column("queue", "queue"),
        Column("next_ms", "next", MOMENT),
        Column("prev_ms", "last", MOMENT),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._handles: dict[str, Schedule] = {}
        self.opened = ""
        """The key of the schedule whose history is read, or ""."""
        self.history = ScheduleHistory(scope)

    def read(self) -> None:
        super().read()
        if self.opened not in self._handles:
            self.opened = ""
        self.history.schedule = self._handles.get(self.opened)
        self.history.read()

    def _all_rows(self) -> list[ScheduleLine]:
        found = self.scope.client.inspector.schedules()
        handles, lines = {}, []
        for handle, row in zip(found, found.rows(), strict=True):
            if self.scope.includes(handle.queue):
                line = _line(handle, row)
                lines.append(line)
                handles[line.key] = handle
        self._handles = handles
        return lines

    def open(self, key: str) -> None:
        """Show the history of a schedule, or none if it is shown already."""
        self.opened = "" if self.opened == key else key

    def turn(self, pages: int) -> None:
        super().turn(pages)
        self.opened = ""

    # --- Acting --------------------------------------------------------------------------------

    def row_actions(self, row: ScheduleLine) -> Sequence[Action]:
        word = "Resume" if row.state == "paused" else "Pause"
        return (
            Action("run", "Run now", f"Run {row.id} now"),
            Action(word.lower(), word, f"{word} {row.id}"),
            Action("remove", "Remove", f"Remove {row.id}", "Remove 1 schedule?"),
        )

    def change_spec(self, key: str, spec: str) -> str:
        """Change when a schedule runs. Returns a sentence with the result."""
        if self.scope.read_only:
            return READ_ONLY

        def change(handle: Schedule) -> str:
            handle.update(spec=spec.strip())
            return f"{handle.id} runs at {handle.spec} from now on"

        return self._apply(change, [key])

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        act = _ACTIONS.get(action)
        if act is None or keys is None:
            raise UsageError(f"there is no action {action!r} on schedules")
        return self._apply(act, keys)

    def _apply(self, act: Callable[[Schedule], str], keys: Collection[str]) -> str:
        results = []
        for key in keys:
            handle = self._handles.get(key)
            if handle is None:
                continue
            try:
                results.append(act(handle))
            except NbqueueError as error:
                results.append(str(error))
        return "; ".join(results)


def _run(handle: Schedule) -> str:
    return f"{handle.id} runs now, as task {handle.run_now().id}"


def _pause(handle: Schedule) -> str:
    handle.pause()
    return f"{handle.id} is paused: its times pass, and nothing runs"


def _resume(handle: Schedule) -> str:
    handle.resume()
    return f"{handle.id} goes on"


def _remove(handle: Schedule) -> str:
    handle.remove()
    return f"{handle.id} is removed; its tasks go on"


_ACTIONS = {"run": _run, "pause": _pause, "resume": _resume, "remove": _remove}


def _line(handle: Schedule, row: dict[str, Any]) -> ScheduleLine:
    state = "paused" if row.get("paused") else "running"
    tz = str(row.get("tz") or "UTC")
    return ScheduleLine(
        key=task_key(handle.queue, handle.id),
        id=handle.id,
        state="cannot be read" if row.get("fault") else state,
        spec=row["spec"] or "",
        tz="" if tz == "UTC" else tz,
        type=str(row.get("type") or ""),
        queue=handle.queue,
        next_ms=None if state == "paused" else _ms(row.get("next_at")),
        prev_ms=_ms(row.get("prev_at")),
        fault=row.get("fault") or "",
    )


def _ms(at: datetime | None) -> int | None:
    return to_ms(at) if at is not None else None
