"""I and L: memory of an idle worker, and of waiting tasks in the store."""

from __future__ import annotations

import time
import uuid

import psutil
from bench import TEXT, Bench, noop

from nbqueue.wire.messages import TaskMessage


def proportional(pids: list[int]) -> float:
    """Megabytes of these processes together; what they share is counted once."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 1e6


def of_worker(bench: Bench) -> dict[str, float]:
    """I: the supervisor and two executors, after a few tasks."""
    with bench.client() as q, bench.worker() as worker:
        q.map(noop, range(20), [TEXT] * 20).results(60)
        assert worker.pid is not None
        supervisor, executors = [worker.pid], worker.executor_pids()
        return {
            "MB": proportional(supervisor + executors),
            "supervisor, MB": proportional(supervisor),
        }


def _of_asynq(bench: Bench, tasks: int) -> float:
    """Memory of tasks as Asynq's client writes them.

    A UUID, half an hour, 25 retries, and a payload of 100 bytes.
    """
    from asynq_peer import AsynqPeer

    bench.redis.flushall()
    go = AsynqPeer(bench.redis, "default")
    before = bench.redis.info("memory")["used_memory"]
    for _ in range(tasks):
        task_id = str(uuid.uuid4())
        message = TaskMessage(
            type="bench:noop",
            id=task_id,
            queue="default",
            payload=b"x" * 100,
            retry=25,
            timeout=1800,
        )
        go.enqueue(task_id, message.SerializeToString(), time.time_ns())
    return float(bench.redis.info("memory")["used_memory"] - before) / tasks


def of_tasks(bench: Bench) -> dict[str, float]:
    """L: bytes in the store for each waiting task of a map."""
    tasks = bench.count(10_000)
    with bench.client() as q:
        q.map(noop, range(10), [TEXT] * 10)
        before = bench.redis.info("memory")["used_memory"]
        q.map(noop, range(tasks), [TEXT] * tasks)
        used = bench.redis.info("memory")["used_memory"] - before
    figure, of_asynq = used / tasks, _of_asynq(bench, tasks)
    return {
        "bytes/task": figure,
        "as Asynq writes them, bytes/task": of_asynq,
        "ratio to Asynq's": figure / of_asynq,
    }
