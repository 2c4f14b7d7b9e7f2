"""C and D: the time of one task while the worker is idle."""

from __future__ import annotations

import time
from typing import Any

from bench import TEXT, Bench, noop, percentiles

import nbqueue
from nbqueue.wire.messages import TaskMessage

_PAUSE = 0.002
_WARM = 20


def first_line(text: str) -> int:
    return time.monotonic_ns()


def stamp(task: Any) -> bytes:
    return str(time.monotonic_ns()).encode()


def to_result(bench: Bench) -> dict[str, float]:
    """C: from submit to the result in the client."""
    times = []
    with bench.client() as q, bench.worker():
        for number in range(_WARM + bench.count(200)):
            time.sleep(_PAUSE)
            began = time.perf_counter()
            q.submit(noop, number, TEXT).result(30)
            times.append((time.perf_counter() - began) * 1e3)
    return percentiles(times[_WARM:], "ms")


def to_first_line(bench: Bench) -> dict[str, float]:
    """D: from submit to the first line of the function.

    Also of messages as a Go client writes them.
    """
    times = []
    with bench.client() as q, bench.worker():
        for _ in range(_WARM + bench.count(200)):
            time.sleep(_PAUSE)
            began = time.monotonic_ns()
            times.append((q.submit(first_line, TEXT).result(30) - began) / 1e6)
    return {**percentiles(times[_WARM:], "ms"), **_from_go(bench)}


def _from_go(bench: Bench) -> dict[str, float]:
    from asynq_peer import AsynqPeer

    bench.redis.flushall()
    worker = nbqueue.Worker(bench.url, concurrency=2, log="/dev/null")
    worker.handle("bench", stamp)
    go, times = AsynqPeer(bench.redis, "default"), []
    with worker:
        for number in range(_WARM + bench.count(100)):
            time.sleep(_PAUSE)
            task_id = f"go-{number}"
            message = TaskMessage(
                type="bench", id=task_id, queue="default", timeout=60, retention=60
            )
            began = time.monotonic_ns()
            go.enqueue(task_id, message.SerializeToString(), time.time_ns())
            key = f"asynq:{{default}}:t:{task_id}"
            bench.wait_for(lambda key=key: bench.redis.hexists(key, "result"), 30)
            times.append((int(bench.redis.hget(key, "result")) - began) / 1e6)
    found = percentiles(times[_WARM:], "ms")
    return {f"from Go, {name}": value for name, value in found.items()}
