"""Each transition of a task, once, end to end on a store of any kind."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue import TaskCancelled, TaskFailed, TaskIdConflict, TaskNotUnique, WorkerLost
from nbqueue.client.client import Client

pytestmark = pytest.mark.usefixtures("worker")

SECONDS = 60.0


@pytest.fixture
def q(url: str, worker: Any) -> Any:
    """A client of the store that the worker of this module serves; nothing is emptied."""
    found = nbqueue.connect(url)
    yield found
    found.close()


def test_a_result_comes_back(q: Client) -> None:
    assert q.submit(lambda a, b: a * b, 6, b=7).result(SECONDS) == 42


def test_a_map_comes_back_in_order(q: Client) -> None:
    assert q.map(lambda x: x * x, range(300)).results(SECONDS) == [x * x for x in range(300)]


def test_a_large_value_goes_there_and_back(q: Client) -> None:
    data = os.urandom(9_000_001)
    assert q.submit(lambda b: b[::-1], data).result(SECONDS) == data[::-1]


def test_an_error_comes_back_as_itself(q: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        q.submit(lambda: 1 / 0).result(SECONDS)


def test_a_failed_attempt_is_tried_again(q: Client) -> None:
    def second_time() -> int:
        attempt = nbqueue.current_task().attempt  # type: ignore[union-attr]
        if attempt < 2:
            raise ValueError("not yet")
        return attempt

    assert q.options(retry=2, retry_delay=0.05).submit(second_time).result(SECONDS) == 2


def test_a_lost_executor_is_no_lost_task(q: Client) -> None:
    with pytest.raises((WorkerLost, TaskFailed)):
        q.submit(lambda: os._exit(3)).result(SECONDS)
    assert q.submit(int, "5").result(SECONDS) == 5


def test_output_and_progress_are_kept(q: Client) -> None:
    def work() -> None:
        for i in nbqueue.progress(range(3)):
            print("line", i)

    future = q.submit(work)
    future.result(SECONDS)
    wait_until(lambda: "line 2" in q.get(future.id).output().text)


def test_a_scheduled_task_runs_when_it_is_due(q: Client) -> None:
    future = q.options(delay=1).submit(time.time)
    assert future.state == "scheduled"
    assert future.result(SECONDS) > 0


def test_a_pending_task_is_cancelled(q: Client) -> None:
    future = q.options(queue="nobody").submit(int, 1)
    assert future.cancel()
    with pytest.raises(TaskCancelled):
        future.result(SECONDS)


def test_a_running_task_is_cancelled(q: Client) -> None:
    future = q.submit(time.sleep, 600)
    wait_until(future.running)
    assert future.cancel()
    with pytest.raises(TaskCancelled):
        future.result(SECONDS)


def test_another_client_gets_the_same_task(q: Client, url: str) -> None:
    future = q.options(name="mine").submit(int, "9")
    future.result(SECONDS)
    other = nbqueue.connect(url)
    assert other.get(future.id).result(SECONDS) == other.get("mine").result(SECONDS) == 9
    other.close()


def test_an_id_and_a_lock_are_taken_once(q: Client) -> None:
    q.options(queue="nobody", task_id="taken").submit(int, 1)
    with pytest.raises(TaskIdConflict):
        q.options(queue="nobody", task_id="taken").submit(int, 2)
    q.options(queue="nobody", unique="1h").submit(int, 3)
    with pytest.raises(TaskNotUnique):
        q.options(queue="nobody", unique="1h").submit(int, 3)


def test_a_limit_holds(q: Client) -> None:
    limited = q.options(limit=nbqueue.Limit("one", concurrency=1))
    assert limited.map(lambda x: x + 1, range(5)).results(SECONDS) == [1, 2, 3, 4, 5]


def test_a_message_is_handled(q: Client) -> None:
    future = q.enqueue("greet:one", {"name": "Ada"}, retention=600)
    assert future.result(SECONDS) == {"hello": "Ada"}


def test_a_schedule_fires(q: Client) -> None:
    schedule = q.schedule(int, "@every 1s", args=("4",), id="each-second")
    try:
        wait_until(lambda: schedule.runs)
    finally:
        schedule.remove()


def test_a_queue_is_paused_and_goes_on(q: Client) -> None:
    q.inspector.pause("low")
    future = q.options(queue="low").submit(int, "1")
    assert q.inspector.queue("low").paused
    q.inspector.unpause("low")
    assert future.result(SECONDS) == 1


def test_frames_show_tasks_attempts_queues_and_workers(q: Client) -> None:
    future = q.submit(int, "8")
    future.result(SECONDS)
    assert future.id in q.tasks().index
    wait_until(lambda: future.id in set(q.attempts()["task_id"]))
    assert "default" in set(q.queues().reset_index()["queue"])
    assert len(q.workers()) >= 1


def test_tasks_archived_by_hand_run_again(q: Client) -> None:
    future = q.options(queue="nobody", retention=timedelta(hours=1)).submit(int, 1)
    assert q.inspector.archive(future.id)
    assert q.get(future.id).state == "archived"
    assert q.inspector.run(future.id)
    assert q.get(future.id).state == "pending"
    assert q.inspector.delete(future.id)


def test_a_lost_connection_of_everybody_loses_nothing(q: Client, url: str) -> None:
    group = q.map(lambda x: x + 1, range(200))
    q._session.store.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    q._session.store.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    assert group.results(SECONDS) == [x + 1 for x in range(200)]
