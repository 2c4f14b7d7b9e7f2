"""One task in full: what it is, what came of it, what it printed, and each attempt."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.clock import to_ms
from nbqueue.errors import NbqueueError, TaskNotFound
from nbqueue.printable import escape
from nbqueue.views import format as words
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
    """A task, read anew whenever something happens to it."""

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
        client = self._context.client
        try:
            self._task = task = client.inspector.task(self._id, self._queue)
        except TaskNotFound:
            self._task = None
            return
        session = client._session
        from nbqueue.client.live.task_snapshot import read_snapshot

        snapshot = read_snapshot(session, self._queue, self._id)
        self._progress = snapshot.progress if snapshot is not None else {}
        self._attempts = _attempts_of(session, self._queue, self._id)
        self._output = _output_of(client, self._queue, self._id)
        now_is = (task.state, task.attempt, task.retried)
        if now_is != self._seen:
            # To load them again at each event would be work for nothing.
            self._seen = now_is
            self._arguments = self._read_arguments(task)
            self._outcome = self._read_outcome(task)

    def html(self, acts: bool, live: bool) -> str:
        back = h.link("‹ all tasks", "back", label="Back to all tasks") if live else ""
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
        return "".join(parts)

    def _head(self, task: TaskInfo) -> str:
        now = self._context.now_ms
        facts = [words.badge_html(task.state), h.strong(task.type), h.code(task.id)]
        facts.append(h.fact("queue", escape(task.queue)))
        facts.append(h.fact("attempt", str(task.attempt or "–")))
        if task.max_retry:
            facts.append(h.fact("retries", f"{task.retried} of {task.max_retry}"))
        if task.next_process_at is not None and task.state != states.PENDING:
            facts.append(h.fact("due", words.time_html(to_ms(task.next_process_at), now)))
        if task.timeout:
            facts.append(h.fact("time-out", words.span(task.timeout)))
        if task.deadline is not None:
            facts.append(h.fact("deadline", words.time_html(to_ms(task.deadline), now)))
        if task.completed_at is not None:
            facts.append(h.fact("completed", words.time_html(to_ms(task.completed_at), now)))
        if task.retention:
            facts.append(h.fact("kept for", words.span(task.retention)))
        if task.group:
            facts.append(h.fact("group", escape(task.group)))
        for name, value in list(task.headers.items())[:8]:
            facts.append(h.fact(words.shortened(name, 30), escape(words.shortened(value, 60))))
        return h.row(*facts)

    def _buttons(self, task: TaskInfo) -> str:
        buttons = []
        if task.state not in states.FINAL:
            buttons.append(
                h.button("Cancel", "cancel", label=f"Cancel {task.id}", ask="Cancel it?")
            )
        if task.state not in (states.ACTIVE, states.PENDING):
            buttons.append(h.button("Run", "run", label=f"Run {task.id} now"))
        if task.state != states.ACTIVE:
            buttons.append(
                h.button("Delete", "delete", label=f"Delete {task.id}", ask="Delete it?")
            )
        return h.row(*buttons, gap=6)

    def _attempt_table(self) -> str:
        if not self._attempts:
            return ""
        now = self._context.now_ms
        rows = [
            [
                escape(row.get("attempt", "")),
                words.badge_html(row.get("outcome", "")),
                words.time_html(_number(row.get("started_at")), now),
                words.span(_between(row)),
                escape(row.get("worker", "")),
                escape(words.shortened(row.get("error") or row.get("reason") or "", 80)),
            ]
            for row in self._attempts
        ]
        heads = ["attempt", "outcome", "began", "took", "worker", "why"]
        return h.table(heads, rows, caption="Attempts that ended", numeric=(0,))

    def act(self, action: str, args: dict[str, Any]) -> None:
        if self._context.read_only or action not in ("cancel", "run", "delete"):
            return
        inspector = self._context.client.inspector
        move = getattr(inspector, action)
        more = {"reset": True} if action == "run" else {}
        result = move(self._id, queue=self._queue, **more)
        self._context.said = repr(result).strip("<>")

    # --- What is signed, is loaded; what is not, is shown as bytes -------------------------------

    def _read_arguments(self, task: TaskInfo) -> str:
        if not payloads.is_call(task.payload):
            return _readable(task.payload)
        size = payloads.payload_size(task.payload)
        if size > _MOST_BYTES or size > len(task.payload):
            return f"{words.size(size)} of arguments"
        from nbqueue.calls.functions import load_arguments

        session = self._context.client._session
        try:
            call = session.keyring.verify_call(task.payload, task.id, task.queue, task.type)
            args, kwargs = load_arguments(call.arguments)
        except Exception as error:
            return f"cannot be shown: {error}"
        said = [words.shortened(_repr(arg), 200) for arg in args]
        said += [f"{name}={words.shortened(_repr(value), 200)}" for name, value in kwargs.items()]
        return f"({', '.join(said)})"[:_MOST_TEXT]

    def _read_outcome(self, task: TaskInfo) -> str:
        if task.state not in states.FINAL:
            return task.error or ""
        size = payloads.result_size(task.result or b"")
        if task.state == states.COMPLETED and size > _MOST_BYTES:
            return f'{words.size(size)}; q.get("{task.id}").result() loads it'
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


def _section(title: str, body: str) -> str:
    return f'<div style="margin-top:8px">{h.strong(title)}{body}</div>'


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # of somebody's class
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def _readable(payload: bytes) -> str:
    text = payload[:_MOST_TEXT].decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(payload), indent=1, ensure_ascii=False)[:_MOST_TEXT]
    except ValueError:
        return text if text.isprintable() else f"{words.size(len(payload))}: {payload[:64]!r}"


def _attempts_of(session: Any, queue: str, task_id: str) -> list[dict[str, str]]:
    rows = session.broker.attempts(queue, limit=5_000)
    return [row for row in rows if row.get("task_id") == task_id][-_MOST_ATTEMPTS:]


def _output_of(client: Any, queue: str, task_id: str) -> str:
    """What the task printed last, if anything of it is kept."""
    from nbqueue.client.futures.output import read_task_output

    text = read_task_output(client._session, queue, task_id, None).text
    return text if len(text) <= _MOST_OUTPUT else "…" + text[-_MOST_OUTPUT:]


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _between(row: dict[str, str]) -> float | None:
    began, ended = _number(row.get("started_at")), _number(row.get("finished_at"))
    return (ended - began) / 1000 if began is not None and ended is not None else None
