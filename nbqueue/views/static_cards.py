"""Cards that do not change: clients, workers, queues, tasks, schedules, results. Pure functions.

Each takes plain values and returns HTML that can be saved; see `nbqueue.views.html`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, tzinfo
from typing import Any, Final

from markupsafe import Markup

from nbqueue.broker.reads.models import QueueInfo, ServerInfo, TaskInfo
from nbqueue.calls.payloads import payload_size, result_size
from nbqueue.clock import to_ms
from nbqueue.cron import shown_zone
from nbqueue.views.format import (
    count,
    number,
    shortened,
    size,
    span,
    task_state,
    worker_state,
    zoned_time,
)
from nbqueue.views.html import (
    NOTHING,
    Content,
    badge,
    card,
    code,
    fact,
    join,
    pale,
    problem,
    row,
    strong,
    table,
    time,
    unbroken,
)
from nbqueue.views.notices import Notice, notices_html

_COUNTED: Final = (
    "pending",
    "active",
    "scheduled",
    "retry",
    "aggregating",
    "completed",
    "archived",
)
_ALWAYS: Final = frozenset({"pending", "active", "completed"})
MOST_QUEUES = 20
_MOST_REASONS = 8
_MOST_IDS = 5


def client_card(
    url: str,
    *,
    is_open: bool,
    queues: Sequence[QueueInfo] = (),
    queue_count: int | None = None,
    trouble: str = "",
    notices: Iterable[Notice] = (),
) -> Markup:
    """Return the card of a client: its store and queues, and why tasks do not run.

    ``queue_count`` is the number of all queues, if ``queues`` are not all.
    """
    parts = [row(strong("nbqueue client"), badge("connected" if is_open else "closed"), code(url))]
    if trouble:
        parts.append(problem(trouble))
    elif queues:
        parts.append(queue_table(queues, queue_count))
    elif is_open:
        parts.append(row(pale("no queues yet: q.submit(fn, …) makes the first")))
    parts += notices_html(notices)
    return card(*parts, label=f"Client of {url}")


def queue_table(queues: Sequence[QueueInfo], total: int | None = None) -> Markup:
    """Return a table of queues: the number of tasks in each state.

    ``total`` is the number of all queues, if ``queues`` are not all.
    """
    total = len(queues) if total is None else total
    # A column for a state that no task is in would only push the others apart.
    counted = [
        name for name in _COUNTED if name in _ALWAYS or any(getattr(info, name) for info in queues)
    ]
    heads = ["queue", *counted, "latency", "failed today"]
    lines = [
        [
            join([info.queue, badge("paused")] if info.paused else [info.queue], " "),
            *(_quiet(getattr(info, name)) for name in counted),
            span(info.latency),
            _quiet(info.failed),
        ]
        for info in queues[:MOST_QUEUES]
    ]
    more = total - len(lines)
    as_of = zoned_time(to_ms(queues[0].timestamp))
    caption = f"{count(total, 'queue')}, as of {as_of}"
    if more > 0:
        caption += f"; {more} more in q.queues()"
    return table(heads, lines, caption=caption, numeric=range(1, len(heads)))


def queue_card(info: QueueInfo) -> Markup:
    """Return the card of one queue."""
    counts = [
        fact(name, number(getattr(info, name))) for name in _COUNTED if getattr(info, name)
    ] or [pale("empty")]
    today = [
        fact("processed today", number(info.processed)),
        fact("failed today", number(info.failed)),
        fact("in all", f"{number(info.processed_total)}, {number(info.failed_total)} failed"),
    ]
    more = [fact("oldest pending task waits", span(info.latency))] if info.latency else []
    if info.memory is not None:
        more.append(fact("memory", f"about {size(info.memory)}"))
    if info.trimmed:
        more.append(fact("dropped from the full archive", number(info.trimmed)))
    return card(
        row(
            strong(info.queue),
            badge("paused") if info.paused else "",
            pale(count(info.size, "task")),
            fact("as of", time(to_ms(info.timestamp))),
        ),
        row(*counts),
        row(*today),
        row(*more) if more else NOTHING,
        label=f"Queue {info.queue}",
    )


def task_card(info: TaskInfo) -> Markup:
    """Return the card of a task, as it was when it was read."""
    state = task_state(info.state, info.error)
    facts = [fact("begun", count(info.attempt, "time"))] if info.attempt else []
    if info.max_retry:
        facts.append(fact("retries", f"{number(info.retried)} of {number(info.max_retry)}"))
    for name, at in (
        ("due", info.next_process_at if info.state in ("scheduled", "retry") else None),
        ("completed", info.completed_at),
        ("last failed", info.last_failed_at),
        ("deadline", info.deadline),
    ):
        if at is not None:
            facts.append(fact(name, time(to_ms(at))))
    if info.timeout:
        facts.append(fact("time-out", span(info.timeout)))
    if info.retention:
        facts.append(fact("kept", span(info.retention)))
    if info.group:
        facts.append(fact("group", info.group))
    sizes = [fact("payload", size(payload_size(info.payload)))]
    if info.result is not None:
        sizes.append(fact("result", size(result_size(info.result))))
    return card(
        row(strong(info.type), badge(state), pale("nobody holds it") if info.is_orphaned
            else "", fact("queue", info.queue), code(info.id)),
        row(*facts, *sizes),
        problem(shortened(info.error, 400)) if info.error else NOTHING,
        label=f"Task {info.id}, {info.type}, {state}",
    )  # fmt: skip


def server_card(info: ServerInfo) -> Markup:
    """Return the card of a worker, as of its last report."""
    parts = [
        row(
            strong(f"{info.host}:{info.pid}"),
            badge(worker_state(info.status)),
            fact("running", f"{len(info.active_tasks)} of {info.concurrency}"),
            fact("queues", _weights(info.queues)),
            fact("since", time(to_ms(info.started_at))),
        )
    ]
    if info.active_tasks:
        lines = [
            [task.type, task.queue, time(to_ms(task.started_at)),
             code(task.task_id)]
            for task in info.active_tasks
        ]  # fmt: skip
        parts.append(table(["type", "queue", "since", "id"], lines, caption="what it runs"))
    return card(*parts, label=f"Worker {info.host}:{info.pid}")


@dataclass(frozen=True)
class WorkerFacts:
    """Facts about a `Worker` that are known without the store."""

    is_running: bool
    pid: int | None
    queues: Mapping[str, int]
    concurrency: int
    executor: str
    log: str | None = None
    store: str | None = None


def worker_card(worker: WorkerFacts) -> Markup:
    """Return the card of a `Worker` object of this process."""
    kind = "processes" if worker.executor == "process" else f"{worker.executor}s"
    return card(
        row(
            strong("nbqueue worker"),
            badge("running") if worker.is_running else pale("not running"),
            fact("process", str(worker.pid)) if worker.pid is not None else "",
        ),
        row(
            fact("queues", _weights(worker.queues)),
            fact("runs at once", f"{worker.concurrency} in {kind}"),
            fact("store", code(worker.store)) if worker.store else "",
            fact("log", code(worker.log)) if worker.log else "",
        ),
        label="Worker, " + ("running" if worker.is_running else "not running"),
    )


def schedule_card(schedule: Mapping[str, Any], notices: Iterable[Notice] = ()) -> Markup:
    """Return the card of a schedule, from a row of `views.frames.queue_frames.schedules`."""
    zone = shown_zone(schedule.get("spec"), schedule.get("tz"))
    parts = [
        fact("next run", _moment(schedule.get("next_at"), zone)),
        fact("last run", _moment(schedule.get("prev_at"), zone)),
        fact("queue", str(schedule.get("queue") or "–")),
    ]
    if schedule.get("tz"):
        parts.append(fact("zone", str(schedule["tz"])))
    if schedule.get("paused"):
        parts.append(unbroken(pale("its times pass without a run, until"), code("s.resume()")))
    return card(
        row(
            strong(str(schedule.get("id"))),
            badge("paused" if schedule.get("paused") else "running"),
            code(str(schedule.get("spec"))),
            str(schedule.get("type") or ""),
        ),
        row(*parts),
        *notices_html(notices),
        label=f"Schedule {schedule.get('id')}",
    )


def bulk_card(
    action: str, done: Sequence[str], refused: Mapping[str, str], asked: Sequence[str], trimmed: int
) -> Markup:
    """Return the card of the result of an action on many tasks."""
    parts = [row(strong(action), count(len(done), "task") + " done")]
    if asked:
        parts.append(row(pale(f"{count(len(asked), 'running task')} asked to end")))
    if trimmed:
        parts.append(row(pale(f"{count(trimmed, 'task')} deleted from the full archive")))
    by_reason: dict[str, list[str]] = {}
    for task_id, reason in refused.items():
        by_reason.setdefault(reason, []).append(task_id)
    if by_reason:
        lines = [
            [number(len(ids)), reason, _ids(ids)]
            for reason, ids in sorted(by_reason.items(), key=lambda pair: -len(pair[1]))
        ]
        parts.append(
            table(
                ["tasks", "reason", "ids"],
                lines[:_MOST_REASONS],
                caption=f"{count(len(refused), 'task')} refused, and left as they are",
                numeric=[0],
            )
        )
    return card(*parts, label=f"{action}: {len(done)} done, {len(refused)} refused")


def _ids(ids: Sequence[str]) -> Markup:
    shown: list[Content] = [code(each) for each in ids[:_MOST_IDS]]
    return join([*shown, "…"] if len(ids) > _MOST_IDS else shown, " ")


def _weights(queues: Mapping[str, int]) -> str:
    shown = list(queues.items())[:MOST_QUEUES]
    is_equal = len(set(queues.values())) <= 1
    text = ", ".join(name if is_equal else f"{name} ×{weight}" for name, weight in shown)
    more = len(queues) - len(shown)
    return text + (f", … {more:,} more" if more else "")


def _moment(at: datetime | None, zone: tzinfo | None) -> Content:
    return "–" if at is None else time(to_ms(at), tz=zone)


def _quiet(value: int) -> Content:
    return number(value) if value else pale("0")
