"""Abbreviations for tables of keys before and after a transition."""

from __future__ import annotations

from typing import Any

from keyspace import NOW_MS, Stream, Until, Zset, encoded, task

from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Ended, token_fence
from nbqueue.wire.attempts import failure_mark
from nbqueue.wire.messages import TaskMessage

NOW = NOW_MS // 1000
DAY = "2033-05-18"
SINCE = (NOW_MS - 5_000) * 1_000_000
"""The time at which a fetched task had become pending, in nanoseconds."""
TOKEN = "host:1:ab:1999999999000:1"
FENCE = token_fence(TOKEN)
LEASE_MS = NOW_MS + 30_000
SCORE = 2_000_000_030.123
WHO = Who("host:1:ab", "host")
COUNTED_UNTIL = NOW + 90 * 86_400


def counted(processed: int = 0, failed: int = 0) -> dict[str, Any]:
    """Return the counters after this many processed and failed tasks."""
    found: dict[str, Any] = {}
    for name, number in (("processed", processed), ("failed", failed)):
        if number:
            found[name] = str(number)
            found[f"{name}:{DAY}"] = Until(str(number), COUNTED_UNTIL)
    return found


def active(task_id: str, more: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Return the hash of a task fetched under `TOKEN`, for its first attempt."""
    own = {"nbq:lease": f"{TOKEN}|{SINCE}", "nbq:attempt": 1, **(more or {})}
    return task(task_id, "active", {k: v for k, v in own.items() if v is not None}, **fields)


def fetched(*tasks: Any) -> dict[str, Any]:
    """Return the keys after the holder of `TOKEN` has fetched these tasks of `active`."""
    ids = [each["msg"]["id"] for each in tasks]
    return {
        "active": ids[::-1],
        "lease": Zset(dict.fromkeys(ids, SCORE)),
        **{f"t:{i}": each for i, each in zip(ids, tasks, strict=True)},
    }


def events(*entries: tuple[str, str]) -> dict[str, Any]:
    """Return the stream of events: (name, ids) of each, all at `NOW_MS`."""
    return {"own:events": Stream({"event": n, "at": str(NOW_MS), "ids": i} for n, i in entries)}


def ended(task_id: str, **changed: Any) -> Ended:
    """Return a success after ten milliseconds, of a task without a retention."""
    usual: dict[str, Any] = {
        "task_id": task_id,
        "fence": FENCE,
        "keep_until": None,
        "msg": b"",
        "result": b"r",
        "type": "t",
        "attempt": 1,
        "started_ms": NOW_MS - 10,
        "finished_ms": NOW_MS,
        "waited_ms": 4_990,
        "peak_memory": 77,
    }
    return Ended(**{**usual, **changed})


def kept(task_id: str, seconds: int = 60, **changed: Any) -> Ended:
    """Return a success with a retention."""
    msg = encoded(task_id, retention=seconds, completed_at=NOW)
    return ended(task_id, keep_until=NOW + seconds, msg=msg, **changed)


def mark(**fields: Any) -> str:
    """Return the mark of the failure in a message with these fields."""
    return failure_mark(TaskMessage(**fields))


def failure(task_id: str, **changed: Any) -> Failure:
    """Return a failure, ten milliseconds after the start."""
    usual: dict[str, Any] = {
        "task_id": task_id,
        "fence": FENCE,
        "type": "t",
        "attempt": 1,
        "started_ms": NOW_MS - 10,
        "waited_ms": 4_990,
        "reason": "error",
        "peak_memory": 77,
        "error_text": "boom",
    }
    return Failure(**{**usual, **changed})


def attempt(task_id: str, outcome: str, **changed: Any) -> dict[str, str]:
    """Return the attempt of `ended` or `failure`."""
    found = {
        "task_id": task_id,
        "type": "t",
        "attempt": "1",
        "started_at": str(NOW_MS - 10),
        "finished_at": str(NOW_MS),
        "waited": "4990",
        "worker": WHO.worker,
        "host": WHO.host,
        "outcome": outcome,
        "peak_memory": "77",
    }
    if outcome != "completed":
        found |= {"reason": "error", "error": "boom"}
    return {**found, **changed}


def attempts(*entries: dict[str, str]) -> dict[str, Any]:
    return {"own:attempts": Stream(entries)}
