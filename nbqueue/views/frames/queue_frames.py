"""Frames of queues, workers and schedules, with fixed columns and dtypes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from nbqueue.broker.reads.models import QueueInfo, ServerInfo
from nbqueue.clock import to_ms
from nbqueue.views.frames.columns import (
    category,
    instants,
    name_dicts,
    name_lists,
    spans,
    texts,
    truths,
    whole,
)

if TYPE_CHECKING:
    import pandas as pd

_NUMBERS: Final = (
    "size",
    "pending",
    "active",
    "scheduled",
    "retry",
    "archived",
    "completed",
    "aggregating",
    "groups",
    "processed",
    "failed",
    "processed_total",
    "failed_total",
    "trimmed",
)
QUEUE_COLUMNS: Final = (*_NUMBERS, "paused", "latency", "memory", "fault")
WORKER_COLUMNS: Final = (
    "host",
    "pid",
    "status",
    "concurrency",
    "active",
    "queues",
    "strict_priority",
    "started_at",
    "uptime",
    "tasks",
)
SCHEDULE_COLUMNS: Final = (
    "spec",
    "tz",
    "queue",
    "type",
    "paused",
    "next_at",
    "prev_at",
    "runs",
    "last_task_id",
    "missed",
    "overlap",
    "jitter",
    "start",
    "until",
    "max_runs",
    "owner",
    "created_at",
    "fault",
)


def queues(infos: Sequence[QueueInfo]) -> pd.DataFrame:
    """Return queues as a frame indexed by ``queue``, in alphabetical order.

    Numbers are ``Int64``: of tasks, in all and in each state; of groups; of attempts that ended and
    failed, today (UTC) and ever; of tasks that a full archive dropped; ``memory`` in bytes, where
    it was asked for. ``paused`` is ``boolean``. ``latency`` is the waiting time of the oldest
    pending task (``timedelta64[ns]``). ``fault`` names the part of a queue that cannot be read, or
    the reason why it is not served (``string``).
    """
    columns: dict[str, Any] = {
        name: whole([None if name in info.unknown else getattr(info, name) for info in infos])
        for name in _NUMBERS
    }
    columns["paused"] = truths([info.paused for info in infos])
    columns["latency"] = spans([_ms(info.latency) for info in infos])
    columns["memory"] = whole([info.memory for info in infos])
    columns["fault"] = texts([info.fault for info in infos])
    return _frame(columns, QUEUE_COLUMNS, "queue", [info.queue for info in infos])


def workers(infos: Sequence[ServerInfo], as_of_ms: int) -> pd.DataFrame:
    """Return workers as a frame indexed by ``worker``, ``<host>:<process id>:<id>``.

    ``host`` and ``status`` (``category``); ``pid``, ``concurrency`` and ``active``, the number of
    running tasks at the last report (``Int64``); ``queues``, weights by name (``object``);
    ``strict_priority`` (``boolean``); ``started_at`` (``datetime64[ns, UTC]``) and ``uptime``
    (``timedelta64[ns]``); ``tasks``, the ids of the running tasks (``object``).
    """
    started = [to_ms(info.started_at) for info in infos]
    columns = {
        "host": category([info.host for info in infos]),
        "pid": whole([info.pid for info in infos]),
        "status": category([info.status for info in infos]),
        "concurrency": whole([info.concurrency for info in infos]),
        "active": whole([len(info.active_tasks) for info in infos]),
        "queues": name_dicts([info.queues for info in infos]),
        "strict_priority": truths([info.strict_priority for info in infos]),
        "started_at": instants(started),
        "uptime": spans([max(0, as_of_ms - each) for each in started]),
        "tasks": name_lists([[task.task_id for task in info.active_tasks] for info in infos]),
    }
    return _frame(columns, WORKER_COLUMNS, "worker", [worker_name(info) for info in infos])


def worker_name(info: ServerInfo) -> str:
    """Return the name of a worker, as in frames of attempts."""
    usual = f"{info.host}:{info.pid}:"
    return info.id if info.id.startswith(usual) else usual + info.id


def schedules(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return schedules as a frame indexed by ``id``.

    ``rows`` have the columns by name, and ``id``; absent ones are missing values. ``spec`` and
    ``last_task_id`` (``string``); ``tz``, ``queue``, ``type``, ``missed`` and ``owner``
    (``category``); ``paused`` and ``overlap`` (``boolean``); ``next_at``, ``prev_at``, ``start``,
    ``until`` and ``created_at`` (``datetime64[ns, UTC]``); ``runs`` and ``max_runs`` (``Int64``);
    ``jitter``, of seconds (``timedelta64[ns]``); ``fault``, why it cannot be read (``string``).
    """

    def column(name: str) -> list[Any]:
        return [row.get(name) for row in rows]

    columns: dict[str, Any] = {
        name: texts(column(name)) for name in ("spec", "last_task_id", "fault")
    }
    for name in ("tz", "queue", "type", "missed", "owner"):
        columns[name] = category([None if v is None else str(v) for v in column(name)])
    for name in ("paused", "overlap"):
        columns[name] = truths(column(name))
    for name in ("next_at", "prev_at", "start", "until", "created_at"):
        columns[name] = instants([_moment_ms(at) for at in column(name)])
    for name in ("runs", "max_runs"):
        columns[name] = whole(column(name))
    columns["jitter"] = spans([_ms(seconds) for seconds in column("jitter")])
    return _frame(columns, SCHEDULE_COLUMNS, "id", [str(each) for each in column("id")])


def limits(rows: Sequence[tuple[str, Any]]) -> pd.DataFrame:
    """Return limits as a frame indexed by ``name``; each row is a queue and a `LimitInfo`.

    ``queue`` (``category``); ``concurrency``, ``held`` and ``waiting`` (``Int64``); ``rate`` and
    ``fault``, why it cannot be read (``string``).
    """
    infos = [info for _, info in rows]
    columns = {
        "queue": category([queue for queue, _ in rows]),
        "concurrency": whole([info.concurrency for info in infos]),
        "rate": texts([info.rate for info in infos]),
        "held": whole([info.held for info in infos]),
        "waiting": whole([info.waiting for info in infos]),
        "fault": texts([info.fault for info in infos]),
    }
    return _frame(columns, tuple(columns), "name", [info.name for info in infos])


def _ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1000)


def _moment_ms(at: datetime | int | None) -> int | None:
    return to_ms(at) if isinstance(at, datetime) else at


def _frame(
    columns: Mapping[str, Any], names: Sequence[str], index: str, keys: Sequence[str]
) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = pd.DataFrame(
        dict(columns),
        columns=list(names),
        index=pd.Index(texts(keys), name=index),
    )
    return frame
