"""Schedules, limits, groups, locks, the inspector and removal, used together."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import nbqueue
from nbqueue.errors import UsageError

KEY = "5b" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)


@pytest.fixture
def q(lab: Any) -> Iterator[Any]:
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def overlapping(folder: str, seconds: float) -> int:
    """Return the number of tasks that ran when this one began."""
    own = Path(folder) / f"{time.time_ns()}"
    own.touch()
    number = len(list(Path(folder).iterdir()))
    time.sleep(seconds)
    own.unlink()
    return number


def names_left(lab: Any) -> list[str]:
    """Every key, but those of the workers themselves and of no queue."""
    return sorted(
        name
        for name in (key.decode() for key in lab.redis.keys("*"))
        if not name.startswith(("asynq:servers", "asynq:workers", "nbqueue:{~"))
    )


@pytest.mark.slow
def test_a_worker_does_everything_for_a_queue_that_it_was_given_later(lab: Any, q: Any) -> None:
    worker = nbqueue.Worker(
        lab.url, queues=["a"], concurrency=2, log=lab.folder / "log", group_grace_period=1
    )
    worker.aggregate(lambda group, tasks: nbqueue.Message("sum", len(tasks), retention="1h"))
    worker.handle("sum", lambda task: task.json())
    with worker:
        q.options(queue="b").schedule(abs, "@every 1s", args=(-1,), id="tick")
        worker.add_queue("b")
        lab.wait_until(lambda: lab.length("completed", "b") >= 2)
        assert lab.redis.exists("asynq:scheduler_history:b:tick")
        # As a program in Go puts tasks into a group: it announces nothing.
        from nbqueue.wire.messages import TaskMessage

        message = TaskMessage(
            type="mail", payload=b"{}", id="go-1", queue="b", timeout=60, group_key="g"
        )
        lab.redis.hset(
            "asynq:{b}:t:go-1",
            mapping={"msg": message.SerializeToString(), "state": "aggregating", "group": "g"},
        )
        lab.redis.zadd("asynq:{b}:g:g", {"go-1": int(time.time())})
        lab.redis.sadd("asynq:{b}:groups", "g")
        lab.wait_until(lambda: not lab.redis.exists("asynq:{b}:t:go-1"))
        worker.remove_queue("b")
        lab.wait_until(lambda: [list(each.queues) for each in q.inspector.servers()] == [["a"]])
        # Its tasks are still enqueued, for workers that serve it.
        lab.wait_until(lambda: lab.length("pending", "b"), 30)
        worker.add_queue("b")
        before = lab.length("completed", "b")
        lab.wait_until(lambda: lab.length("completed", "b") > before)
        assert worker.is_running
    assert "ERROR" not in (lab.folder / "log").read_text()


def test_tasks_of_a_schedule_share_its_limit(lab: Any, q: Any) -> None:
    limit = nbqueue.Limit("one", concurrency=1)
    folder = lab.folder / "running"
    folder.mkdir()
    schedule = q.schedule(overlapping, "@every 1h", args=(str(folder), 0.2), limit=limit)
    assert [each.name for each in q.inspector.limits()] == ["one"]
    futures = [schedule.run_now() for _ in range(3)]
    futures.append(q.options(limit=limit).submit(overlapping, str(folder), 0.2))
    q.remove_limit("one")
    futures.append(schedule.run_now())  # it knows the numbers, too
    assert [each.concurrency for each in q.inspector.limits()] == [1]
    q.set_limit(nbqueue.Limit("one", concurrency=2))
    schedule.update(spec="@every 2h")
    assert [each.concurrency for each in q.inspector.limits()] == [2]
    q.set_limit(limit)
    with lab.worker(concurrency=4):
        assert [each.result(30) for each in futures] == [1] * 5


def test_what_cannot_go_together_is_refused_at_once(q: Any) -> None:
    limit = nbqueue.Limit("a", concurrency=1)
    with pytest.raises(UsageError, match=r"group='g' and limit= do not go together"):
        q.enqueue("t", {}, group="g", limit=limit)
    with pytest.raises(UsageError, match=r"group='g' and on_conflict='after'"):
        q.options(group="g", unique="1h", on_conflict="after")
    with pytest.raises(UsageError, match=r"group='g' is not for schedules"):
        q.schedule_message("t", {}, "@hourly", group="g")
    with pytest.raises(UsageError, match=r"of a schedule must have a name that is text"):
        q.schedule(abs, "@hourly", args=(1,), limit=nbqueue.Limit(str, concurrency=1))


def test_a_removed_queue_leaves_nothing_of_what_its_parts_made(lab: Any, q: Any) -> None:
    limit = nbqueue.Limit("a", concurrency=1, rate="1/m")
    with lab.worker(concurrency=2, queues=["other", "default"]):
        schedule = q.schedule(abs, "@every 1h", args=(-1,), id="s", limit=limit, name="n")
        schedule.run_now().result(30)
        for _ in range(3):
            q.options(limit=limit, delay="0.1s").submit(abs, 1)
            q.options(unique="1h", on_conflict="after", delay="1h").submit(abs, 2)
        q.enqueue("mail", {}, group="g", unique="1h")
        q.serve("mail", abs)
        q.set_concurrency("default", 5)
        lab.wait_until(lambda: lab.redis.exists("asynq:schedulers:{nbqueue:default}"), 30)
        lab.wait_until(lambda: q.inspector.limits()[0].waiting == 3)
        # Not before: in a paused queue no worker looks at tasks, and so none are parked.
        q.inspector.pause("default")
        lab.redis.zadd("asynq:scheduler_history:default:s", {"x": 1})
    q.inspector.remove_queue("default", force=True)
    assert [name for name in names_left(lab) if "other" not in name] == []


def test_a_limit_is_known_again_after_its_queue_was_removed(lab: Any, q: Any) -> None:
    limited = q.options(limit=nbqueue.Limit("one", concurrency=1))
    limited.submit(abs, 1)
    q.inspector.remove_queue("default", force=True)
    assert q.inspector.limits() == []
    limited.submit(abs, 1)
    assert [each.concurrency for each in q.inspector.limits()] == [1]


def test_tasks_of_a_schedule_have_json_results_too(lab: Any, q: Any) -> None:
    schedule = q.schedule(divmod, "@every 1h", args=(7, 2), codec="json")
    with lab.worker():
        assert schedule.run_now().result(30) == [3, 1]
        assert schedule.last().result(30) == [3, 1]


@pytest.mark.slow
def test_an_aggregate_of_a_killed_worker_is_made_by_the_next_one(lab: Any, q: Any) -> None:
    def slow(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        time.sleep(1)
        return nbqueue.Message("sum", len(tasks), retention="1h")

    def start(name: str) -> nbqueue.Worker:
        worker = nbqueue.Worker(lab.url, log=lab.folder / name, group_grace_period=1, lease=5)
        worker.aggregate(slow)
        worker.handle("sum", lambda task: task.json())
        return worker.start()

    first = start("first")
    assert first.pid is not None
    futures = [q.enqueue("t", {"n": n}, group="g") for n in range(3)]
    lab.wait_until(lambda: lab.redis.zcard("asynq:{default}:aggregation_sets"))
    os.kill(first.pid, signal.SIGKILL)
    first.stop()
    second = start("second")
    try:
        ids = {future.result(60) for future in futures}
        assert len(ids) == 1
        assert q.get(ids.pop()).result(30) == 3
    finally:
        second.stop()


def test_a_limited_task_of_a_killed_worker_gives_its_place_up(lab: Any, q: Any) -> None:
    limited = q.options(limit=nbqueue.Limit("one", concurrency=1))
    with lab.worker() as worker:
        held = limited.submit(time.sleep, 2)
        lab.wait_for(held.id, "active")
        waits = limited.submit(abs, -1)
        lab.wait_until(lambda: q.inspector.limits()[0].waiting == 1)
        worker.signal(signal.SIGKILL)
        worker.wait()
    with lab.worker():
        assert waits.result(60) == 1
        held.result(60)
    assert lab.outcomes(held.id) == ["lost", "completed"]
    assert [(each.held, each.waiting) for each in q.inspector.limits()] == [(0, 0)]
