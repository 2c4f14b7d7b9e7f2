"""Attempts as Chrome's trace events, for viewers such as https://ui.perfetto.dev."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nbqueue.views.plots.lanes import lanes_by_worker, worker_names

if TYPE_CHECKING:
    import pandas as pd


def trace(frame: pd.DataFrame) -> str:
    """Return a frame of attempts as JSON in Chrome's trace event format.

    Workers are processes, and their slots are threads. Times are microseconds from the first start.
    The details of an attempt are the arguments of its event.

    >>> open("run.json", "w").write(q.timeline(format="trace"))
    """
    known = frame.dropna(subset=["started_at", "finished_at"]).reset_index(drop=True)
    lanes = lanes_by_worker(known)
    workers = list(dict.fromkeys(known["worker"].astype("string").fillna("unknown worker")))
    pids = {name: number for number, name in enumerate(workers, 1)}
    events: list[dict[str, Any]] = [
        {"ph": "M", "name": "process_name", "pid": pids[name], "args": {"name": shown}}
        for name, shown in worker_names(workers).items()
    ]
    first = known["started_at"].min() if len(known) else None
    for row, lane in zip(known.to_dict("records"), lanes.of_row.tolist(), strict=True):
        events.append(_event(row, pids, lane, first))
    return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})


def _event(row: dict[str, Any], pids: dict[str, int], lane: int, first: Any) -> dict[str, Any]:
    worker = row["worker"] if isinstance(row["worker"], str) else "unknown worker"
    details = {name: str(row[name]) for name in ("task_id", "queue", "attempt", "outcome")}
    for name in ("reason", "error"):
        if isinstance(row[name], str):
            details[name] = row[name]
    waited = row["waited"]
    if waited == waited:  # else it is NaT or NaN
        seconds = waited if isinstance(waited, float) else waited.total_seconds()
        details["waited_ms"] = str(round(seconds * 1000))
    return {
        "ph": "X",
        "name": str(row["type"]),
        "cat": str(row["outcome"]),
        "pid": pids[worker],
        "tid": lane,
        "ts": round((row["started_at"] - first).total_seconds() * 1e6),
        "dur": round((row["finished_at"] - row["started_at"]).total_seconds() * 1e6),
        "args": details,
    }
