"""`TaskDetail`: one task in full, with its arguments, outcome, output and attempts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.broker.reads.task_attempts import attempts_of
from nbqueue.calls import payloads
from nbqueue.client.arguments.stored_arguments import ArgumentReader
from nbqueue.client.live.task_snapshot import read_snapshot
from nbqueue.client.results.failed_calls import FailedTask, failed_call
from nbqueue.client.results.json_results import has_json_result
from nbqueue.client.results.outcome import Outcome, RawOutcome
from nbqueue.client.results.output import Part, read_task_output
from nbqueue.client.results.shown_result import shown_result
from nbqueue.clock import to_ms
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import COUNT, MOMENT, SECONDS, STATE, TEXT, Column
from nbqueue.dashboard.tables.table_model import READ_ONLY, Action
from nbqueue.errors import NbqueueError, TaskNotFound, UsageError
from nbqueue.tasks.result_preview import ResultPreview
from nbqueue.views.failed_call import FailedCall
from nbqueue.views.format import shortened, size
from nbqueue.views.output_lines import OutputLines
from nbqueue.wire import states
from nbqueue.wire.decoding import time_ms, whole_number
from nbqueue.wire.ids import made_ms

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_MOST_TEXT = 4_000
_MOST_ATTEMPTS = 50
_MOST_HEADERS = 8


class Fact(NamedTuple):
    """A named value of a task, with a unit of `nbqueue.dashboard.tables.column`."""

    name: str
    value: str | int | float
    unit: str = TEXT


class AttemptLine(NamedTuple):
    """An attempt that ended. ``seconds`` is its duration."""

    key: str
    attempt: int
    outcome: str
    started_ms: int | None
    seconds: float | None
    worker: str
    reason: str
    """The error or the reason of its end, or ""."""


class OutputTail(NamedTuple):
    """The end of the output of the last attempt."""

    first: int
    """The number of lines that were left out before ``lines``."""
    lines: Sequence[str]


ATTEMPT_COLUMNS = (
    Column("attempt", "attempt", COUNT),
    Column("outcome", "outcome", STATE),
    Column("started_ms", "began", MOMENT),
    Column("seconds", "took", SECONDS),
    Column("worker", "worker"),
    Column("reason", "why"),
)


class TaskDetail:
    """One task as of the last `read`. It is empty if the task is not in the store."""

    def __init__(self, scope: Scope, queue: str, task_id: str) -> None:
        self.scope = scope
        self.queue = queue
        self.id = task_id
        self.state = ""
        """The state, or "" if the task is no longer in the store."""
        self.type = ""
        self.facts: Sequence[Fact] = ()
        self.progress: Mapping[str, Any] = {}
        """The progress that the task reported; see `nbqueue.views.progress_bar`."""
        self.arguments = ""
        """The call as Python would write it, or the payload of a message."""
        self.outcome = ""
        """The last error of a task that did not complete, or ""."""
        self.result: ResultPreview | None = None
        """The result of a completed task, as it is shown."""
        self.failed: FailedCall | None = None
        """The failure, with its traceback, of an archived task with a signed error."""
        self.output = OutputTail(0, ())
        self.attempts: Sequence[AttemptLine] = ()
        self._seen: tuple[Any, ...] = ()

    def read(self) -> None:
        """Read the task from the store. Raises `StoreError`."""
        client = self.scope.client
        try:
            task = client.inspector.task(self.id, self.queue)
        except TaskNotFound:
            self.state, self._seen = "", ()
            return
        session = client._session
        snapshot = read_snapshot(session, self.queue, self.id)
        self.state, self.type = task.state, task.type
        self.facts = _facts(task)
        self.progress = snapshot.progress if snapshot is not None else {}
        self.output = _tail(read_task_output(session, self.queue, self.id, None).parts)
        now_is = (task.state, task.attempt, task.retried)
        if now_is != self._seen:
            # Loading them takes time, and they change with these only.
            self._seen = now_is
            self.attempts = _attempts_of(session, task)
            self.arguments = self._read_arguments(task)
            self.failed = self.result = None
            self.outcome = ""
            if task.state == states.COMPLETED:
                self.result = self._read_result(task)
            else:
                self.outcome = self._read_error(task)

    # --- Acting --------------------------------------------------------------------------------

    def actions(self) -> Sequence[Action]:
        """Return the actions that the state of the task allows."""
        found = []
        if self.state and self.state not in states.FINAL:
            found.append(Action("cancel", "Cancel", f"Cancel {self.id}", "Cancel it?"))
        if self.state not in ("", states.ACTIVE, states.PENDING):
            found.append(Action("run", "Run", f"Run {self.id} now"))
        if self.state not in ("", states.ACTIVE):
            found.append(Action("delete", "Delete", f"Delete {self.id}", "Delete it?"))
        return found

    def act(self, action: str) -> str:
        """Cancel, run or delete the task. Returns a sentence with the result."""
        if self.scope.read_only:
            return READ_ONLY
        if action not in ("cancel", "run", "delete"):
            raise UsageError(f"there is no action {action!r} on a task")
        more = {"reset": True} if action == "run" else {}
        act = getattr(self.scope.client.inspector, action)
        return repr(act(self.id, queue=self.queue, **more)).strip("<>")

    # --- Values: signed ones are loaded, others are shown as bytes -------------------------------

    def _read_arguments(self, task: TaskInfo) -> str:
        if not payloads.is_call(task.payload):
            return _readable(task.payload)
        call = ArgumentReader(self.scope.client._session).call(task.queue, task, _MOST_TEXT)
        return call.text if call.fault is None else f"{call.text}: {call.fault}"

    def _read_result(self, task: TaskInfo) -> ResultPreview | None:
        session, result = self.scope.client._session, task.result or b""
        is_call = payloads.is_call(task.payload)
        if not result and not is_call:
            return None
        is_json = is_call and has_json_result(session.keyring, task.queue, task)
        end = RawOutcome(states.COMPLETED, result)
        outcome = Outcome(task.id, end, session.keyring, is_call, is_json)
        return shown_result(session, task.queue, task.id, outcome, payloads.result_size(result))

    def _read_error(self, task: TaskInfo) -> str:
        if task.state not in states.FINAL:
            return task.error or ""
        try:
            self.scope.client.get(task.id).result(0)
        except NbqueueError as error:
            return str(error)
        except BaseException as error:
            failed = FailedTask(task.type, task.queue, task.id, error)
            self.failed = failed_call(self.scope.client._session, failed)
            return task.error or f"{type(error).__name__}: {error}"
        return ""


def _facts(task: TaskInfo) -> list[Fact]:
    """Return the facts of a task that are known, in the order of their importance."""
    # Asynq keeps archived tasks for a time of its own.
    kept = task.retention if task.state != states.ARCHIVED else None
    due = task.next_process_at if task.state != states.PENDING else None
    retries = f"{task.retried} of {task.max_retry}" if task.max_retry else None
    known: list[tuple[str, Any, str]] = [
        ("queue", task.queue, TEXT),
        ("attempt", task.attempt or "–", TEXT),
        ("retries", retries, TEXT),
        ("due", due, MOMENT),
        ("time-out", task.timeout, SECONDS),
        ("deadline", task.deadline, MOMENT),
        ("completed", task.completed_at, MOMENT),
        ("kept for", kept or None, SECONDS),
        ("group", task.group, TEXT),
    ]
    facts = [
        Fact(name, to_ms(value) if unit == MOMENT else value, unit)
        for name, value, unit in known
        if value is not None
    ]
    headers = list(task.headers.items())[:_MOST_HEADERS]
    return facts + [Fact(shortened(name, 30), shortened(value, 60)) for name, value in headers]


def _tail(parts: Iterable[Part]) -> OutputTail:
    """Return the last lines of an output, each of a bounded length."""
    output = OutputLines()
    for part in parts:
        output.add(part.kind, part.text)
    return OutputTail(output.first, output.lines)


def _readable(payload: bytes) -> str:
    text = payload[:_MOST_TEXT].decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(payload), indent=1, ensure_ascii=False)[:_MOST_TEXT]
    except ValueError:
        return text if text.isprintable() else f"{size(len(payload))}: {payload[:64]!r}"


def _attempts_of(session: Session, task: TaskInfo) -> list[AttemptLine]:
    """Return the last attempts of a task, oldest first: mostly in one read of a page."""
    ended = task.completed_at or task.last_failed_at if task.state in states.FINAL else None
    # A task of nbqueue had no attempt before its id was made.
    rows = attempts_of(
        session.broker,
        task.queue,
        {task.id},
        newest_ms=None if ended is None else to_ms(ended),
        oldest_ms=made_ms(task.id, session.clock.now_ms()) or 0,
    )
    # An active task has begun its last attempt, which has not ended.
    count = task.attempt - (task.state == states.ACTIVE)
    found: list[dict[str, str]] = []
    for row in islice(rows, _MOST_ATTEMPTS if count > 0 else 0):
        found.append(row)
        if len(found) >= count and row.get("attempt") == "1":
            break
    return [_attempt_line(number, row) for number, row in enumerate(reversed(found))]


def _attempt_line(number: int, row: Mapping[str, str]) -> AttemptLine:
    began, ended = time_ms(row.get("started_at")), time_ms(row.get("finished_at"))
    seconds = None if began is None or ended is None else max(0, ended - began) / 1000
    return AttemptLine(
        key=f"{row.get('attempt', '')}/{began}/{number}",
        attempt=whole_number(row.get("attempt")) or 0,
        outcome=row.get("outcome", ""),
        started_ms=began,
        seconds=seconds,
        worker=row.get("worker", ""),
        reason=row.get("error") or row.get("reason") or "",
    )
