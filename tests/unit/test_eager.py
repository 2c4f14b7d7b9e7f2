"""Tasks that run at once, without a store."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from datetime import timedelta
from typing import Any

import pytest

import nbqueue
from nbqueue import testing
from nbqueue.client.client import Client
from nbqueue.errors import (
    CannotPickle,
    HandlerNotFound,
    NbqueueError,
    TaskIdConflict,
    TaskNotFound,
    TaskNotUnique,
    UsageError,
)
from nbqueue.testing import EagerClient


@pytest.fixture
def q() -> Any:
    return testing.eager_client()


def add(a: int, b: int = 1) -> int:
    return a + b


def about() -> list[Any]:
    task = nbqueue.current_task()
    assert task is not None
    return [task.id, task.queue, task.attempt, task.max_retry]


def flaky(path: str, failures: int) -> int:
    with open(path, "a") as file:
        file.write("x")
    with open(path) as file:
        tries = len(file.read())
    if tries <= failures:
        raise OSError(f"try {tries}")
    return tries


def steer(path: str, how: str) -> str:
    import nbqueue as n

    with open(path, "a") as file:
        file.write("x")
    with open(path) as file:
        tries = len(file.read())
    if tries < 3:
        raise {"skip": n.SkipRetry("no"), "revoke": n.RevokeTask(), "later": n.RetryLater("1h"),
               "cancelled": n.TaskCancelled("me")}[how]  # fmt: skip
    return f"after {tries}"


def test_a_call_has_ended_when_its_future_is_there(q: EagerClient) -> None:
    future = q.submit(add, 1, b=2)
    assert future.done()
    assert (future.result(), future.state, future.exception()) == (3, "completed", None)
    assert isinstance(future, concurrent.futures.Future)
    told: list[Any] = []
    future.add_done_callback(told.append)
    assert told == [future]
    assert nbqueue.current_task() is None


def test_each_task_sees_one_object_of_its_own() -> None:
    def inner() -> str:
        task = nbqueue.current_task()
        assert task is not None
        return task.id

    def outer() -> list[Any]:
        task = nbqueue.current_task()
        future = nbqueue.connect().submit(inner)
        assert future.result() == future.id
        assert task is not None
        return [nbqueue.current_task() is task, task.id != future.id]

    with testing.eager():
        assert nbqueue.connect().submit(outer).result() == [True, True]
    assert nbqueue.current_task() is None


def test_large_arguments_and_results_lie_nowhere_else(q: EagerClient) -> None:
    future = q.submit(bytes.upper, b"y" * 100_000)
    assert future.result() == b"Y" * 100_000
    assert q.get(future.id).result() == b"Y" * 100_000


def test_what_a_task_sees_is_what_it_was_given(q: EagerClient) -> None:
    box = [1]
    future = q.submit(lambda box: box.append(2) or box, box)
    assert (future.result(), box) == ([1, 2], [1])
    options = q.options(queue="gpu", retry=4, task_id="mine", delay="1h")
    assert options.submit(about).result() == ["mine", "gpu", 1, 4]
    with pytest.raises(TaskIdConflict):
        options.submit(about)


def test_what_cannot_travel_fails_as_it_would(q: EagerClient) -> None:
    with pytest.raises(CannotPickle):
        q.submit(add, threading.Lock())
    with pytest.raises(CannotPickle):
        q.submit(lambda: threading.Lock()).result()


def test_errors_arrive_in_the_future_with_their_traceback(q: EagerClient) -> None:
    future = q.submit(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        future.result()
    assert future.state == "archived"
    assert future.exception().__cause__ is not None  # type: ignore[union-attr]


def test_retries_happen_without_waiting(q: EagerClient, tmp_path: Any) -> None:
    patient = q.options(retry=2, retry_delay="1h")
    assert patient.submit(flaky, str(tmp_path / "a"), 2).result() == 3
    with pytest.raises(OSError, match="try 3"):
        patient.submit(flaky, str(tmp_path / "b"), 3).result()
    with pytest.raises(OSError, match="try 1"):
        patient.options(retry_on=ValueError).submit(flaky, str(tmp_path / "c"), 3).result()
    assert patient.submit(int, "7").result() == 7  # a class, with its contents
    rows = q._session.broker.attempts("default")[:-1]
    assert [row["outcome"] for row in rows] == [
        "retry", "retry", "completed", "retry", "retry", "archived", "archived",
    ]  # fmt: skip
    assert list(q.attempts()["attempt"]) == [1, 2, 3, 1, 2, 3, 1, 1]


@pytest.mark.parametrize(
    ("how", "ends"),
    [
        ("later", "after 3"),
        ("skip", nbqueue.SkipRetry),
        ("revoke", TaskNotFound),
        ("cancelled", concurrent.futures.CancelledError),
    ],
)
def test_tasks_steer_what_happens_next(q: EagerClient, tmp_path: Any, how: str, ends: Any) -> None:
    future = q.options(retry=5).submit(steer, str(tmp_path / "f"), how)
    if isinstance(ends, str):
        assert future.result() == ends
    else:
        with pytest.raises(ends):
            future.result()
        assert (tmp_path / "f").read_text() == "x"


def test_a_task_that_would_never_end_is_an_error(q: EagerClient) -> None:
    def never() -> None:
        raise nbqueue.RetryLater(1, counts=False)

    with pytest.raises(NbqueueError, match="asks for another"):
        q.submit(never)


def test_maps_groups_and_coroutines(q: EagerClient) -> None:
    async def double(x: int) -> list[Any]:
        await asyncio.sleep(0)
        task = nbqueue.current_task()
        assert task is not None
        return [2 * x, task.attempt]

    group = q.map(double, range(3))
    assert group.results() == [[0, 1], [2, 1], [4, 1]]
    assert [f.result()[0] for f in group.as_completed()] == [0, 2, 4]

    async def within_a_loop() -> Any:
        return await q.submit(double, 5)

    assert asyncio.run(within_a_loop()) == [10, 1]


def test_handlers_run_messages(q: EagerClient) -> None:
    @q.handle("email:")
    def deliver(task: nbqueue.Task) -> Any:
        return {"to": task.json()["to"], "type": task.type, "headers": task.headers}

    found = q.enqueue("email:x", {"to": 1}, headers={"a": "b"}, retention=9).result()
    assert found == {"to": 1, "type": "email:x", "headers": {"a": "b"}}
    assert q.enqueue("email:y", {"to": 1}).result()["type"] == "email:y"
    q.use(lambda handler: lambda task: ["wrapped", handler(task)])
    assert q.enqueue("email:x", {"to": 2}).result()[0] == "wrapped"
    with pytest.raises(HandlerNotFound):
        q.enqueue("sms", retry=0).result()


def test_a_worker_lends_its_handlers_and_its_policy(tmp_path: Any) -> None:
    worker = nbqueue.Worker(retry_on=KeyError)
    worker.handle("t", lambda task: task.type)
    q = testing.eager_client(worker)
    assert q.enqueue("t").result() == "t"
    with pytest.raises(OSError, match="try 1"):
        q.options(retry=3).submit(flaky, str(tmp_path / "f"), 9).result()


def test_tasks_are_found_again(q: EagerClient) -> None:
    future = q.options(name="train", codec="json").submit(add, 1)
    assert q.get("train").result() == q.get(future.id).result() == 2
    with pytest.raises(TaskNotFound):
        q.get("other")
    done = q.options(retention=0).submit(add, 1)
    assert done.result() == 2
    with pytest.raises(TaskNotFound):
        q.get(done.id)


def test_a_failed_task_keeps_what_it_reported(q: EagerClient) -> None:
    def fail() -> None:
        nbqueue.report(result="half")
        raise KeyError

    future = q.submit(fail)
    assert isinstance(future.exception(), KeyError)
    assert future.reported() == "half"


def test_unique_tasks_keep_each_other_away_while_they_run() -> None:
    def outer(again: bool = True) -> Any:
        q = nbqueue.connect()
        try:
            return q.options(unique="1h").submit(outer).result()
        except nbqueue.TaskNotUnique as error:
            return error.task_id

    with testing.eager() as q:
        future = q.options(unique="1h").submit(outer)
        assert future.result() == future.id
        assert q.options(unique="1h").submit(outer).result() != future.id
    assert issubclass(TaskNotUnique, NbqueueError)


def test_within_the_block_every_new_client_is_eager() -> None:
    from nbqueue.client.client import connect

    with testing.eager() as q:
        other = connect("redis://nowhere.invalid:1")
        future = other.options(name="n").submit(add, 2)
        assert future.result() == 3
        assert q.get("n").result() == 3
        with other:
            pass
        with pytest.raises(RuntimeError, match="shut down"):
            other.submit(add, 2)
        assert q.submit(add, 2).result() == 3


def test_a_client_that_exists_is_eager_within_the_block(client: Client) -> None:
    fit = client.task(add)
    with testing.eager(client):
        assert fit.submit(1).result(0) == 2
        assert client.submit(add, 5).result(0) == 6
    future = client.submit(add, 1)
    assert not future.done()
    assert testing.drain(client) == 1
    assert future.result(20) == 2


def test_what_needs_a_store_says_so(q: EagerClient) -> None:
    with pytest.raises(NbqueueError, match="an eager client has none"):
        q.serve("t", about)
    with pytest.raises(UsageError):
        q.options(timeout=timedelta(0)).submit(add, 1)


def test_the_keyboard_ends_the_test_and_not_the_task(q: EagerClient) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        q.submit(interrupt)


def test_limits_keep_nothing_back_where_nothing_waits(q: EagerClient) -> None:
    limit = nbqueue.Limit(lambda a: f"n{a}", concurrency=1, rate="1/h")
    assert list(q.options(limit=limit).map(add, [1, 2])) == [2, 3]
    q.set_limit(nbqueue.Limit("n1", concurrency=2))
    assert q.remove_limit("n1") is False
    with pytest.raises(NbqueueError, match="needs a store"):
        q.limits()
    with pytest.raises(NbqueueError, match="needs a store"):
        q.schedule(add, "@hourly", args=(1,))
