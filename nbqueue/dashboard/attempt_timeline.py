"""`AttemptTimeline`: the attempts of the last hours, as a timeline shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, MOMENT, STATE, Column
from nbqueue.dashboard.tables.table_model import TableModel
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.durations import parse_duration
from nbqueue.errors import UsageError
from nbqueue.wire.decoding import time_ms, whole_number

SPANS: Final = ("5m", "1h", "6h", "1d", "7d")
MOST_ATTEMPTS: Final = 20_000


class TimelineLine(NamedTuple):
    """An attempt that ended."""

    key: str
    task_id: str
    queue: str
    type: str
    attempt: int
    outcome: str
    worker: str
    started_ms: int
    finished_ms: int


class AttemptTimeline(TableModel[TimelineLine]):
    """The newest attempts that ended within ``since``, oldest first. It has no pages."""

    title = "Timeline"
    noun = "attempt"
    rest_seconds = 5.0
    columns = (
        Column("type", "type"),
        Column("task_id", "id"),
        Column("queue", "queue"),
        Column("attempt", "attempt", COUNT),
        Column("outcome", "outcome", STATE),
        Column("worker", "worker"),
        Column("started_ms", "began", MOMENT),
        Column("finished_ms", "ended", MOMENT),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self.since = "1h"

    def show(self, since: str) -> None:
        """Choose how far back it goes: one of `SPANS`."""
        if since not in SPANS:
            raise UsageError(f"since={since!r} must be one of {', '.join(SPANS)}")
        self.since = since

    def _show(self, rows: Sequence[TimelineLine]) -> None:
        self.rows = list(rows)
        self.note = ""
        if len(rows) >= MOST_ATTEMPTS:
            self.note = f"only the newest {MOST_ATTEMPTS:,} attempts"

    def _all_rows(self) -> list[TimelineLine]:
        since_ms = self.scope.now_ms - round(parse_duration(self.since, "since") * 1000)
        names = self.scope.queue_names()
        session = self.scope.client._session
        found = session.attempt_rows(names, since_ms, MOST_ATTEMPTS)
        lines = (_line(number, row) for number, row in enumerate(found))
        return [line for line in lines if line is not None]


def _line(number: int, row: dict[str, Any]) -> TimelineLine | None:
    began, ended = time_ms(row.get("started_at", "")), time_ms(row.get("finished_at", ""))
    if began is None or ended is None:
        return None
    queue, task_id = row.get("queue", ""), row.get("task_id", "")
    return TimelineLine(
        key=f"{task_key(queue, task_id)}/{number}",
        task_id=task_id,
        queue=queue,
        type=row.get("type", ""),
        attempt=whole_number(row.get("attempt")) or 0,
        outcome=row.get("outcome", ""),
        worker=row.get("worker", ""),
        started_ms=began,
        finished_ms=max(began, ended),
    )
