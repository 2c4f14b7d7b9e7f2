"""B, M and K: the speed at which waiting tasks are processed."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import redis
from bench import TEXT, Bench, NotHere, noop
from server import append_only

import nbqueue

_CHUNK = 100_000


def fill(bench: Bench, tasks: int, queues: Sequence[str] = ("default",)) -> None:
    """Let so many tasks wait, in queues that are served in turn."""
    share = tasks // len(queues)
    for queue in queues:
        for start in range(0, share, _CHUNK):
            # A client of its own for each part: it would hold the future of every task.
            q = nbqueue.connect(bench.url)
            numbers = range(start, min(start + _CHUNK, share))
            q.options(queue=queue).map(noop, numbers, [TEXT] * len(numbers))
            q.close()


def waiting(bench: Bench) -> dict[str, float]:
    """B: from the start of the first to the acknowledgement of the last."""
    tasks = bench.count(10_000)
    bench.redis.flushall()
    fill(bench, tasks)
    with bench.worker():
        bench.wait_for(lambda: bench.completed() >= tasks)
    first = bench.redis.xrange("nbqueue:{default}:attempts", count=1)[0][1]
    last = bench.redis.xrevrange("nbqueue:{default}:events", count=1)[0][1]
    return {"tasks/s": tasks / ((int(last[b"at"]) - int(first[b"started_at"]) or 1) / 1000)}


def with_append_only_file(bench: Bench) -> dict[str, float]:
    """M: the same while the store writes its append-only file."""
    try:
        with append_only(bench.redis):
            return waiting(bench)
    except redis.ResponseError as error:
        raise NotHere(f"the server refuses: {error}") from error


def _first(bench: Bench, backlog: int, tasks: int) -> float:
    """Tasks per second over the first so many of a longer line."""
    bench.redis.flushall()
    fill(bench, backlog)
    with bench.worker():
        bench.wait_for(lambda: bench.completed() >= tasks)
    rows = bench.redis.xrange("nbqueue:{default}:attempts", count=tasks)
    return tasks / ((int(rows[-1][1][b"finished_at"]) - int(rows[0][1][b"started_at"]) or 1) / 1000)


def backlog(bench: Bench) -> dict[str, float]:
    """K: the first 10,000 of a long line, against those of a short one."""
    tasks, long = bench.count(10_000), bench.count(1_000_000 if bench.slow else 100_000)
    short_rate = _first(bench, tasks, tasks)
    long_rate = _first(bench, long, tasks)
    bench.redis.flushall()
    return {f"{long:,} waiting, tasks/s": long_rate, "ratio to 10,000": long_rate / short_rate}


def rate_together(bench: Bench, queues: Sequence[str], workers: int, tasks: int) -> float:
    """Tasks per second of all workers, which are ready before the tasks come."""
    bench.redis.flushall()
    fill(bench, tasks, queues)
    for queue in queues:
        bench.redis.rename(f"asynq:{{{queue}}}:pending", f"held:{{{queue}}}")
    share = tasks // len(queues)
    with ExitStack() as stack:
        for _ in range(workers):
            stack.enter_context(bench.worker(queues=queues))
        for queue in queues:
            bench.redis.rename(f"held:{{{queue}}}", f"asynq:{{{queue}}}:pending")
        bench.wait_for(lambda: all(bench.completed(queue) >= share for queue in queues))
    rows = []
    for queue in queues:
        rows += [fields for _, fields in bench.redis.xrange(f"nbqueue:{{{queue}}}:attempts")]
    began = min(int(row[b"started_at"]) for row in rows)
    ended = max(int(row[b"finished_at"]) for row in rows)
    return len(rows) / ((ended - began or 1) / 1000)
