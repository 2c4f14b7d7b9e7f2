"""Calls enqueued by one version of nbqueue, run by another, read by a third.

Run as a program with the version to use on PYTHONPATH and the store's key in NBQUEUE_KEY:

    golden_calls.py enqueue URL        enqueue a task for each case
    golden_calls.py work URL           run what is enqueued
    golden_calls.py read URL           print what came of each case, as JSON
    golden_calls.py save URL FILE      write the whole store into a file, as JSON
    golden_calls.py load URL FILE      write what such a file has into an empty store
"""

from __future__ import annotations

import gzip
import json
import operator
import sys
from collections.abc import Callable
from typing import Any

import nbqueue
from nbqueue import current_task, progress, report

ENQUEUED = "enqueued"
KEY = "6e" * 32


class Point:
    def __init__(self, x: int, y: int = 0) -> None:
        self.x = x
        self.y = y

    def __repr__(self) -> str:
        return f"Point(x={self.x}, y={self.y})"

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y)


class NoFit(ValueError):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ({code})")
        self.code = code


def sum_points(points: list[Point]) -> Point:
    return Point(sum(p.x for p in points), sum(p.y for p in points))


def fail() -> None:
    raise NoFit("too wide", 7)


def fail_first() -> int:
    task = current_task()
    assert task is not None
    if task.attempt == 1:
        raise NoFit("not yet", task.attempt)
    return task.attempt


def skip_retries() -> None:
    raise nbqueue.SkipRetry("never again")


def own_task() -> Any:
    return nbqueue.current_task()


def report_while_running() -> int:
    done = 0
    for _ in progress(range(3), desc="steps"):
        done += 1
        report(done=done)
    return done


def id_of(future: Any) -> str:
    return str(future.id)


def make_adder(n: int) -> Callable[[int], int]:
    return lambda x: x + n


def a_limit(limit: Any) -> Any:
    return nbqueue.Limit(limit.name, concurrency=limit.concurrency + 1)


async def wait_and_add(x: int) -> int:
    return x + 1


def enqueue(q: Any) -> None:
    def submit(name: str, fn: Any, *args: Any, **options: Any) -> Any:
        return q.options(task_id=name, **options).submit(fn, *args)

    first = submit("reference", operator.add, 2, 3)
    submit("closure", make_adder(5), 2)
    submit("coroutine", wait_and_add, 2)
    submit("classes", sum_points, [Point(1), Point(2, 3).moved(1)])
    submit("exception", fail)
    submit(
        "policy", fail_first, retry=3, retry_on=NoFit, retry_delay=nbqueue.exponential(0.01, 0.02)
    )
    submit("skip", skip_retries, retry=3, retry_delay=nbqueue.asynq_delay)
    submit("task", own_task)
    submit("reports", report_while_running)
    submit("future", id_of, first)
    submit("limit", a_limit, nbqueue.Limit("api", concurrency=2))
    submit("future-back", operator.itemgetter(0), [first])


EXPECTED: dict[str, Any] = {
    "reference": 5,
    "closure": 7,
    "coroutine": 3,
    "classes": "Point(x=4, y=3)",
    "exception": "NoFit too wide (7) code=7",
    "policy": 2,
    "skip": "SkipRetry",
    "task": "Task task 1",
    "reports": 3,
    "future": "reference",
    "limit": "Limit api 3",
    "future-back": "TaskFuture reference",
}
"""The expected answer of `read` for each case."""


def read(q: Any) -> dict[str, Any]:
    return {name: shown(q.get(name)) for name in EXPECTED}


def shown(future: Any) -> Any:
    try:
        value = future.result(60)
    except Exception as error:
        if type(error).__name__ != "NoFit":
            return type(error).__name__
        return f"NoFit {error} code={error.code}"  # type: ignore[attr-defined]
    kind = type(value).__name__
    if kind == "Task":
        return f"Task {value.id} {value.attempt}"
    if kind == "Limit":
        return f"Limit {value.name} {value.concurrency}"
    if kind == "TaskFuture":
        return f"TaskFuture {value.id}"
    return value if isinstance(value, int | str) else repr(value)


# --- The whole store in a file ------------------------------------------------------------------


def save(redis: Any) -> dict[str, Any]:
    """Return what is enqueued: keys with their kinds and values, bytes as Latin-1."""
    content: dict[str, Any] = {}
    for key in sorted(redis.keys("*")):
        kind = redis.type(key).decode()
        if kind == "stream":
            continue  # events, which a new reader does not need
        value = {
            "string": redis.get,
            "hash": redis.hgetall,
            "list": lambda k: redis.lrange(k, 0, -1),
            "set": lambda k: sorted(redis.smembers(k)),
            "zset": lambda k: dict(redis.zrange(k, 0, -1, withscores=True)),
        }[kind](key)
        content[key.decode("latin-1")] = [kind, _as_text(value)]
    return content


def load(redis: Any, content: dict[str, Any]) -> None:
    for name, (kind, value) in content.items():
        key = name.encode("latin-1")
        if kind == "string":
            redis.set(key, value.encode("latin-1"))
        elif kind == "hash":
            redis.hset(key, mapping={_b(k): _b(v) for k, v in value.items()})
        elif kind == "list":
            redis.rpush(key, *map(_b, value))
        elif kind == "set":
            redis.sadd(key, *map(_b, value))
        else:
            redis.zadd(key, {_b(k): score for k, score in value.items()})


def _b(text: str) -> bytes:
    return text.encode("latin-1")


def _as_text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {_as_text(k): _as_text(v) for k, v in value.items()}
    return [_as_text(each) for each in value] if isinstance(value, list) else value


def main(command: str, url: str, *more: str) -> None:
    if command == "work":
        nbqueue.Worker(
            url, concurrency=2, burst=True, executor=more[0] if more else "process"
        ).run()
        return
    q = nbqueue.connect(url)
    redis = q._session.broker.store.redis
    if command == "enqueue":
        enqueue(q)
    elif command == "read":
        print(json.dumps(read(q)))
    elif command == "save":
        with gzip.open(more[0], "wt") as file:
            json.dump(save(redis), file)
    else:
        with gzip.open(more[0], "rt") as file:
            load(redis, json.load(file))
    q.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
