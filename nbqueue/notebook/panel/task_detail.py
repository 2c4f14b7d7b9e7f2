"""One task in full: its facts, arguments, result, output and attempts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.calls.functions import load_arguments
from nbqueue.client.live.task_snapshot import read_snapshot
from nbqueue.client.results.output import read_task_output
from nbqueue.clock import to_ms
from nbqueue.errors import NbqueueError, TaskNotFound
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.progress_bar import bars_html
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.notebook.panel.tab import Context

_MOST_TEXT = 4_000
_MOST_BYTES = 262_144
_MOST_ATTEMPTS = 50
_MOST_OUTPUT = 20_000


class TaskDetail:
    """One task, read again at each of its events."""

    def __init__(self, context: Context, queue: str, task_id: str) -> None:
        self._context = context
        self._queue = queue
        self._id = task_id
        self._task: TaskInfo | None = None
        self._progress: dict[str, Any] = {}
        self._attempts: list[dict[str, str]] = []
        self._arguments = ""
        self._outcome = ""
        self._output = ""
        self._seen: tuple[Any, ...] = ()

    def read(self) -> None:
        """Read the task from the store."""
        client = self._context.client
        try:
            self._task = task = client.inspector.task(self._id, self._queue)
        except TaskNotFound:
            self._task = None
            return
        session = client._session
        snapshot = read_snapshot(session, self._queue, self._id)
        self._progress = snapshot.progress if snapshot is not None else {}
        self._attempts = _attempts_of(session, self._queue, self._id)
        self._output = _output_of(client, self._queue, self._id)
        now_is = (task.state, task.attempt, task.retried)
        if now_is != self._seen:
            # Loading them takes time, and they change with these only.
            self._seen = now_is
            self._arguments = self._read_arguments(task)
            self._outcome = self._read_outcome(task)

    def html(self, acts: bool, live: bool) -> Markup:
        """Return the task, with buttons if the panel ``acts`` or is ``live``."""
        back: h.Content = ""
        if live:
            back = controls.link("‹ all tasks", "back", label="Back to all tasks")
        task = self._task
        if task is None:
            gone = f"the task {self._id} is no longer in the store"
            return h.row(back) + h.problem(gone)
        parts = [h.row(back), self._head(task)]
        if acts:
            parts.append(self._buttons(task))
        if self._progress and task.state != states.COMPLETED:
            parts.append(bars_html(self._progress, is_over=task.state in states.FINAL))
        parts.append(_section("Arguments", h.pre(self._arguments, height=160)))
        if self._outcome:
            parts.append(_section("Result" if task.state == states.COMPLETED else "Error",
                                  h.pre(self._outcome)))  # fmt: skip
        if self._output:
            parts.append(_section("Output", h.pre(self._output)))
        parts.append(self._attempt_table())
        return h.join(parts)

    def _head(self, task: TaskInfo) -> Markup:
        now = self._context.now_ms
        facts = [h.badge(task.state), h.strong(task.type), h.code(task.id)]
        facts.append(h.fact("queue", task.queue))
        facts.append(h.fact("attempt", str(task.attempt or "–")))
        if task.max_retry:
            facts.append(h.fact("retries", f"{task.retried} of {task.max_retry}"))
        if task.next_process_at is not None and task.state != states.PENDING:
            facts.append(h.fact("due", h.time(to_ms(task.next_process_at), now)))
        if task.timeout:
            facts.append(h.fact("time-out", fmt.span(task.timeout)))
        if task.deadline is not None:
            facts.append(h.fact("deadline", h.time(to_ms(task.deadline), now)))
        if task.completed_at is not None:
            facts.append(h.fact("completed", h.time(to_ms(task.completed_at), now)))
        if task.retention:
            facts.append(h.fact("kept for", fmt.span(task.retention)))
        if task.group:
            facts.append(h.fact("group", task.group))
        for name, value in list(task.headers.items())[:8]:
            facts.append(h.fact(fmt.shortened(name, 30), fmt.shortened(value, 60)))
        return h.row(*facts)

    def _buttons(self, task: TaskInfo) -> Markup:
        buttons = []
        if task.state not in states.FINAL:
            buttons.append(
                controls.button("Cancel", "cancel", label=f"Cancel {task.id}", ask="Cancel it?")
            )
        if task.state not in (states.ACTIVE, states.PENDING):
            buttons.append(controls.button("Run", "run", label=f"Run {task.id} now"))
        if task.state != states.ACTIVE:
            buttons.append(
                controls.button("Delete", "delete", label=f"Delete {task.id}", ask="Delete it?")
            )
        return h.row(*buttons, gap=6)

    def _attempt_table(self) -> Markup:
        if not self._attempts:
            return h.NOTHING
        now = self._context.now_ms
        rows = [
            [
                row.get("attempt", ""),
                h.badge(row.get("outcome", "")),
                h.time(_number(row.get("started_at")), now),
                fmt.span(_between(row)),
                row.get("worker", ""),
                fmt.shortened(row.get("error") or row.get("reason") or "", 80),
            ]
            for row in self._attempts
        ]
        heads = ["attempt", "outcome", "began", "took", "worker", "why"]
        return h.table(heads, rows, caption="Attempts that ended", numeric=(0,))

    def act(self, action: str, args: dict[str, Any]) -> None:
        """Cancel, run or delete the task."""
        if self._context.read_only or action not in ("cancel", "run", "delete"):
            return
        inspector = self._context.client.inspector
        move = getattr(inspector, action)
        more = {"reset": True} if action == "run" else {}
        result = move(self._id, queue=self._queue, **more)
        self._context.message = repr(result).strip("<>")

    # --- Values: signed ones are loaded, others are shown as bytes -------------------------------

    def _read_arguments(self, task: TaskInfo) -> str:
        if not payloads.is_call(task.payload):
            return _readable(task.payload)
        size = payloads.payload_size(task.payload)
        if size > _MOST_BYTES or size > len(task.payload):
            return f"{fmt.size(size)} of arguments"
        session = self._context.client._session
        try:
            call = session.keyring.verify_call(task.payload, task.id, task.queue, task.type)
            args, kwargs = load_arguments(call.arguments)
        except Exception as error:
            return f"cannot be shown: {error}"
        shown = [fmt.shortened(_repr(arg), 200) for arg in args]
        shown += [f"{name}={fmt.shortened(_repr(value), 200)}" for name, value in kwargs.items()]
        return f"({', '.join(shown)})"[:_MOST_TEXT]

    def _read_outcome(self, task: TaskInfo) -> str:
        if task.state not in states.FINAL:
            return task.error or ""
        size = payloads.result_size(task.result or b"")
        if task.state == states.COMPLETED and size > _MOST_BYTES:
            return f'{fmt.size(size)}; q.get("{task.id}").result() loads it'
        try:
            value = self._context.client.get(task.id).result(0)
        except NbqueueError as error:
            return str(error)
        except BaseException as error:
            cause = error.__cause__
            if isinstance(cause, RemoteTraceback) and cause.args:
                return str(cause.args[0])[-_MOST_TEXT:]
            return task.error or f"{type(error).__name__}: {error}"
        return "" if value is None and not task.result else _repr(value)[:_MOST_TEXT]


def _section(title: str, body: Markup) -> Markup:
    return h.element("div", h.strong(title), body, style="margin-top:8px")


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # raised by a class of the user
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _readable(payload: bytes) -> str:
    text = payload[:_MOST_TEXT].decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(payload), indent=1, ensure_ascii=False)[:_MOST_TEXT]
    except ValueError:
        return text if text.isprintable() else f"{fmt.size(len(payload))}: {payload[:64]!r}"


def _attempts_of(session: Any, queue: str, task_id: str) -> list[dict[str, str]]:
    rows = session.broker.attempts(queue, limit=5_000)
    return [row for row in rows if row.get("task_id") == task_id][-_MOST_ATTEMPTS:]


def _output_of(client: Any, queue: str, task_id: str) -> str:
    """Return the end of the output of the last attempt."""
    text = read_task_output(client._session, queue, task_id, None).text
    return text if len(text) <= _MOST_OUTPUT else "…" + text[-_MOST_OUTPUT:]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _between(row: dict[str, str]) -> float | None:
    began, ended = _number(row.get("started_at")), _number(row.get("finished_at"))
    return (ended - began) / 1000 if began is not None and ended is not None else None
