"""`q.inspector`: arguments, results, and effects on workers and futures."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pandas as pd
import pytest
from thread_worker import ThreadWorker

import nbqueue
from nbqueue import Client, QueueNotFound, TaskNotFound, TaskStateError, UsageError
from nbqueue.client.inspection.task_filter import BulkResult
from nbqueue.wire.keys import queue_keys

KEYS = queue_keys("default")


def add(*numbers: int) -> int:
    return sum(numbers)


def fail(text: str) -> None:
    raise ValueError(text)


@pytest.fixture
def worker(client: Client, store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


def archived(client: Client, worker: ThreadWorker, *texts: str) -> list[str]:
    """Tasks that failed with these texts."""
    futures = [client.submit(fail, text) for text in texts]
    worker.work()
    return [future.id for future in futures]


class TestQueues:
    def test_a_look(self, client: Client, worker: ThreadWorker) -> None:
        archived(client, worker, "a", "b")
        client.submit(add)
        client.options(queue="other", delay="1h").submit(add)
        look = client.inspector
        assert look.queues() == ["default", "other"]
        found = look.queue("default")
        assert isinstance(found, nbqueue.QueueInfo)
        assert (found.size, found.pending, found.archived) == (3, 1, 2)
        assert (found.processed, found.failed, found.failed_total) == (2, 2, 2)
        assert found.latency is not None
        assert found.latency < 60
        assert found.memory is None
        assert [each.failed for each in look.history("default", 2)] == [2, 0]
        with pytest.raises(
            QueueNotFound, match=r"did you mean 'default'\? There are 'default', 'other'"
        ):
            look.queue("defualt")
        with pytest.raises(UsageError, match="days=0"):
            look.history("default", 0)

    def test_pause(self, client: Client) -> None:
        assert client.inspector.pause("default")
        assert not client.inspector.pause("default")
        client.submit(add)
        assert client.inspector.queue("default").paused
        assert client.inspector.unpause("default")
        assert not client.inspector.unpause("default")

    def test_removing_a_queue_tells_who_waits(self, client: Client, redis: Any) -> None:
        future = client.options(unique="1h", name="it").submit(add, 1)
        with pytest.raises(nbqueue.QueueNotEmpty):
            client.inspector.remove_queue("default")
        client.inspector.remove_queue("default", force=True)
        with pytest.raises(TaskNotFound):
            future.result(10)
        assert redis.keys("*") == [b"nbqueue:{~schema:00}:version"]
        assert client.submit(add, 1).state == "pending"  # the queue begins anew
        assert client.inspector.queues() == ["default"]

    def test_a_queue_stays_while_a_worker_runs_a_task(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        [held] = worker.fetch()
        with pytest.raises(nbqueue.QueueNotEmpty, match="workers run tasks"):
            client.inspector.remove_queue("default", force=True)
        worker.succeed(held, 1)
        assert future.result(10) == 1

    def test_what_the_archive_keeps(self, client: Client, worker: ThreadWorker, redis: Any) -> None:
        client.inspector.set_archive_limits("default", most=2, days=0.5)
        assert redis.hgetall(KEYS.settings) == {b"archive_max": b"2", b"archive_days": b"0.5"}
        ids = archived(client, worker, "a", "b", "c")
        assert client.inspector.queue("default").archived == 2
        assert client.inspector.queue("default").trimmed == 1
        future = client.submit(add, 1)
        result = client.inspector.archive(future.id)
        assert result.trimmed == 1
        assert "1 deleted from the full archive" in repr(result)
        assert future.id in {t.id for t in client.inspector.tasks("default", "archived")}
        assert len(ids) == 3
        client.inspector.set_archive_limits("default")
        assert redis.hgetall(KEYS.settings) == {}
        for wrong in ({"most": 0}, {"most": True}, {"days": -1}, {"days": "x"}):
            with pytest.raises(UsageError):
                client.inspector.set_archive_limits("default", **wrong)  # type: ignore[arg-type]

    def test_slots(self, client: Client) -> None:
        assert client.inspector.cluster_key_slot("123456789") == 0x31C3 % 16384


class TestLooking:
    def test_a_task(self, client: Client, worker: ThreadWorker) -> None:
        [task_id] = archived(client, worker, "boom")
        found = client.inspector.task(task_id)
        assert found == client.inspector.task(task_id, "default")
        assert isinstance(found, nbqueue.TaskInfo)
        assert (found.id, found.queue, found.state, found.attempt) == (
            task_id, "default", "archived", 1,
        )  # fmt: skip
        assert found.error == "ValueError: boom"
        assert "payload" not in repr(found)
        for name in (None, "default"):
            with pytest.raises(TaskNotFound):
                client.inspector.task("no such", name)

    def test_all_of_many(self, client: Client) -> None:
        group = client.map(add, range(1_200))
        found = list(client.inspector.tasks("default", "pending"))
        assert [each.id for each in found] == [future.id for future in group.futures]
        assert [each.id for each in client.inspector.tasks("default", "pending", limit=2)] == [
            future.id for future in group.futures[:2]
        ]
        assert list(client.inspector.tasks("default", "pending", limit=0)) == []
        some = [group[700].id, group[1].id]
        chosen = client.inspector.tasks("default", "pending", ids=some)
        assert [each.id for each in chosen] == [group[1].id, group[700].id]

    def test_by_type_error_and_time(self, client: Client, worker: ThreadWorker) -> None:
        ids = archived(client, worker, "timed out", "no such host", "timed out")
        client.enqueue("email:welcome", {})
        client.enqueue("email:bye", {})
        look = client.inspector

        def found(*args: Any, **more: Any) -> list[str]:
            return [each.id for each in look.tasks("default", *args, **more)]

        assert sorted(found("archived", error="timed")) == sorted([ids[0], ids[2]])
        assert found("archived", error="x" * 9) == []
        kinds = [each.type for each in look.tasks("default", "pending", type="email:*")]
        assert kinds == ["email:welcome", "email:bye"]
        assert len(found("pending", type="email:bye")) == 1
        assert found("pending", type="email") == []
        now = datetime.now(timezone.utc)
        for state, number in (("archived", 3), ("pending", 2)):
            assert len(found(state, since="1h")) == number
            assert len(found(state, until=now + timedelta(hours=1))) == number
            assert found(state, since=now + timedelta(hours=1)) == []
            assert found(state, until="1h") == []

    def test_completed_ones_by_when_they_were_completed(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        worker.work()
        assert future.result(10) == 1
        look = client.inspector
        assert [t.id for t in look.tasks("default", "completed", since="1h")] == [future.id]
        assert list(look.tasks("default", "completed", until="1h")) == []
        assert len(look.delete(queue="default", state="completed", until="1h")) == 0
        assert len(look.delete(queue="default", state="completed", since="1h")) == 1

    @pytest.mark.parametrize(
        ("where", "text"),
        [
            ({"state": "done"}, "state='done' is no state: did you mean 'completed'"),
            ({"state": "aggregating"}, "group=None"),
            ({"state": "retry", "group": "g"}, "group='g'"),
            ({"state": "active", "since": "1h"}, "active"),
            ({"state": "retry", "since": datetime(2020, 1, 1)}, "time zone"),
            ({"state": "retry", "ids": "abc"}, "ids='abc'"),
            ({"state": "retry", "limit": -1}, "limit=-1"),
            ({"state": "retry", "until": "soon"}, "soon"),
        ],
    )
    def test_what_cannot_be_right(self, client: Client, where: Any, text: str) -> None:
        client.submit(add)
        with pytest.raises(UsageError, match=text):
            client.inspector.tasks("default", **where)


class TestMoving:
    def test_one_task_by_its_id(self, client: Client, worker: ThreadWorker) -> None:
        [task_id] = archived(client, worker, "boom")
        look = client.inspector
        assert look.run(task_id).done == [task_id]
        with pytest.raises(TaskStateError, match=r"cannot run it: task .* is pending") as caught:
            look.run(task_id)
        assert (caught.value.task_id, caught.value.state) == (task_id, "pending")
        assert look.archive(task_id, queue="default").done == [task_id]
        assert look.delete(client.get(task_id)).done == [task_id]
        with pytest.raises(TaskNotFound, match="is not in the store"):
            look.delete(task_id)
        with pytest.raises(TaskNotFound):
            look.delete(task_id, queue="default")

    def test_tasks_are_named_by_their_names_too(self, client: Client) -> None:
        first = client.options(name="mine").submit(add, 1)
        second = client.options(name="other", queue="low").submit(add, 2)
        assert client.inspector.archive("mine").done == [first.id]
        result = client.inspector.delete(["mine", "other", "no such name"])
        assert (set(result.done), list(result.refused)) == (
            {first.id, second.id},
            ["no such name"],
        )

    def test_of_many_the_refused_ones_are_told(self, client: Client, worker: ThreadWorker) -> None:
        first, second, third = (client.submit(add, i) for i in range(3))
        [held] = worker.fetch()
        result = client.inspector.delete([first, second.id, "no such", third, third])
        assert result.done == [second.id, third.id]
        assert result.refused == {
            first.id: "is running: cancel it",
            "no such": "is not in the store",
        }
        assert len(result) == 2
        assert repr(result) == (
            "<delete: 2 done, 2 refused (1 is not in the store; 1 is running: cancel it)>"
        )
        assert repr(client.inspector.delete(["no such", "nor this"])) == (
            "<delete: 0 done, 2 refused (2 are not in the store)>"
        )
        with pytest.raises(TaskNotFound):
            second.result(10)
        worker.succeed(held, 0)

    def test_a_frame_a_series_and_a_group(self, client: Client) -> None:
        def ids(count: int) -> list[str]:
            return [future.id for future in client.map(add, range(count)).futures]

        look = client.inspector
        frames: list[Any] = [
            pd.DataFrame({"x": [1, 2]}, index=pd.Index(ids(2), name="task_id")),
            pd.DataFrame({"task_id": ids(2), "queue": "default"}),
            pd.Series(ids(2), name="task_id"),
            pd.Series([1, 2], index=ids(2)),
        ]
        for frame in frames:
            assert len(look.delete(frame)) == 2
        assert len(look.delete(pd.DataFrame({"task_id": []}))) == 0
        group = client.map(add, range(3))
        assert len(look.delete(group)) == 3
        for wrong in (pd.DataFrame({"x": [1]}), 5, [5], [""], b"x", {"a": 1}):
            with pytest.raises(UsageError):
                look.delete(wrong)

    def test_all_that_fit_a_filter(self, client: Client, worker: ThreadWorker) -> None:
        ids = archived(client, worker, "timed out", "no such host", "timed out")
        result = client.inspector.run(queue="default", state="archived", error="timed out")
        assert sorted(result.done) == sorted([ids[0], ids[2]])
        assert client.inspector.queue("default").pending == 2
        assert client.inspector.task(ids[1]).state == "archived"
        with pytest.raises(QueueNotFound):
            client.inspector.run(queue="other", state="archived")

    def test_more_than_one_call_takes(self, client: Client) -> None:
        client.map(add, range(1_200))
        look = client.inspector
        assert len(look.archive(queue="default", state="pending")) == 1_200
        assert len(look.run(queue="default", state="archived", reset=True)) == 1_200
        assert len(look.reschedule(queue="default", state="pending", delay="1h")) == 1_200
        assert len(look.cancel(queue="default", state="scheduled")) == 1_200
        assert len(look.delete(queue="default", state="archived")) == 1_200
        assert look.queue("default").size == 0

    @pytest.mark.parametrize(
        ("args", "where", "text"),
        [
            ((), {}, "pass ids, or queue= and state="),
            ((), {"queue": "default"}, "state="),
            (("a",), {"state": "retry"}, "state= is of filters"),
            (("a",), {"states": "retry"}, "'states' chooses no tasks: did you mean 'state'"),
            (("a",), {"queue": "a/b"}, "cannot name a queue"),
        ],
    )
    def test_what_cannot_be_right(self, client: Client, args: Any, where: Any, text: str) -> None:
        for act in ("run", "archive", "delete", "cancel"):
            with pytest.raises(UsageError, match=text):
                getattr(client.inspector, act)(*args, **where)

    def test_an_id_that_two_queues_have(self, client: Client) -> None:
        for queue in ("a", "b"):
            client.options(queue=queue, task_id="same").submit(add)
        with pytest.raises(UsageError, match=r"several queues have a task 'same' \(a, b\)"):
            client.inspector.delete("same")
        assert len(client.inspector.delete("same", queue="b")) == 1
        assert client.inspector.task("same").queue == "a"

    def test_who_waits_for_an_archived_task_is_told(self, client: Client) -> None:
        future = client.submit(add, 1)
        client.inspector.archive(future)
        with pytest.raises(nbqueue.TaskFailed, match="archived by hand"):
            future.result(10)

    def test_run_again_with_all_its_retries(self, client: Client, worker: ThreadWorker) -> None:
        future = client.options(retry=0).submit(fail, "boom")
        worker.work()
        client.inspector.run(future, reset=True)
        found = client.inspector.task(future.id)
        assert (found.state, found.retried, found.error, found.last_failed_at) == (
            "pending", 0, None, None,
        )  # fmt: skip

    def test_cancel_whatever_the_state(self, client: Client, worker: ThreadWorker) -> None:
        running = client.submit(add, 1)
        [held] = worker.fetch()
        waiting, later = client.submit(add, 2), client.options(delay="1h").submit(add, 3)
        with worker.obeying(held, nbqueue.TaskCancelled("cancelled")):
            result = client.inspector.cancel([running, waiting, later, "no such"])
            for future in (running, waiting, later):
                with pytest.raises(nbqueue.TaskCancelled):
                    future.result(10)
        assert result.asked == [running.id]
        assert sorted(result.done) == sorted([waiting.id, later.id])
        assert result.refused == {"no such": "is not in the store"}
        with pytest.raises(TaskStateError, match="is archived"):
            client.inspector.cancel(waiting.id)
        client.inspector.cancel_running("whoever")

    def test_reschedule(self, client: Client, worker: ThreadWorker) -> None:
        future = client.options(delay="1h").submit(add, 1)
        soon = datetime.now(timezone.utc) + timedelta(minutes=5, milliseconds=123)
        client.inspector.reschedule(future, at=soon)
        found = client.inspector.task(future.id).next_process_at
        assert found is not None
        assert abs(found - soon) < timedelta(milliseconds=2)
        client.inspector.reschedule(future, delay=0)
        with worker.running():
            pass
        assert client.inspector.task(future.id).state == "scheduled"
        for wrong in ({}, {"at": soon, "delay": 1}, {"at": datetime(2020, 1, 1)}):
            with pytest.raises(UsageError):
                client.inspector.reschedule(future, **wrong)  # type: ignore[arg-type]

    def test_another_payload(self, client: Client) -> None:
        message = client.enqueue("email:bye", {"user": 1})
        client.inspector.update_payload(message.id, {"user": 2})
        assert client.inspector.task(message.id).payload == b'{"user":2}'
        client.inspector.archive(message)
        with pytest.raises(TaskStateError, match="is archived, and only what is pending"):
            client.inspector.update_payload(message.id, b"x", queue="default")
        call = client.submit(add, 1)
        with pytest.raises(UsageError, match="is a call, whose payload is signed"):
            client.inspector.update_payload(call.id, b"x")
        for queue in (None, "default"):
            with pytest.raises(TaskNotFound):
                client.inspector.update_payload("no such", b"x", queue=queue)

    def test_a_closed_client(self, client: Client) -> None:
        client.close()
        for act in (client.inspector.queues, lambda: client.inspector.delete("a")):
            with pytest.raises(RuntimeError, match="shut down"):
                act()


def test_a_result_without_anything() -> None:
    assert not BulkResult("run")
    assert repr(BulkResult("run")) == "<run: 0 done>"


class TestWithWorkers:
    def test_a_paused_queue_waits_and_goes_on_at_once(self, lab: Any) -> None:
        with nbqueue.connect(lab.url, key="5b" * 32) as client, lab.worker(concurrency=1):
            assert client.submit(add, 1).result(30) == 1
            client.inspector.pause("default")
            future = client.submit(add, 1, 2)
            with pytest.raises(TimeoutError):
                future.result(0.5)
            client.inspector.unpause("default")
            assert future.result(30) == 3

    def test_tasks_that_are_run_and_rescheduled_by_hand_run(self, lab: Any) -> None:
        with nbqueue.connect(lab.url, key="5b" * 32) as client, lab.worker(concurrency=2):
            one, two = (client.options(delay="1h").submit(add, i) for i in (1, 2))
            client.inspector.run(one)
            client.inspector.reschedule(two, delay="100ms")
            assert (one.result(30), two.result(30)) == (1, 2)

    def test_a_running_task_is_cancelled(self, lab: Any) -> None:
        with nbqueue.connect(lab.url, key="5b" * 32) as client, lab.worker(concurrency=1):
            future = client.submit(lab_sleep, 60)
            lab.wait_for(future.id, "active")
            assert client.inspector.cancel(future).asked == [future.id]
            with pytest.raises(nbqueue.TaskCancelled):
                future.result(30)

    def test_a_worker_says_that_the_archive_is_full(self, lab: Any) -> None:
        with nbqueue.connect(lab.url, key="5b" * 32) as client, lab.worker() as running:
            client.inspector.set_archive_limits("default", most=1)
            for _ in range(2):
                with pytest.raises(ValueError, match="boom"):
                    client.submit(fail, "boom").result(30)
            said = "archive is full, its oldest tasks were deleted queue=default tasks=1"
            # The client learns of the end before the worker learns of the reply.
            lab.wait_until(lambda: said in running.log())

    def test_cancelled_tasks_have_one_error_text_and_no_log_line_when_they_are_dropped(
        self, lab: Any
    ) -> None:
        with nbqueue.connect(lab.url, key="5b" * 32) as client, lab.worker() as running:
            running_one = client.submit(lab_sleep, 60)
            lab.wait_for(running_one.id, "active")
            waiting = client.options(delay="1h").submit(lab_sleep, 60)
            client.inspector.cancel([running_one, waiting])
            lab.wait_for(running_one.id, "archived")
            for future in (running_one, waiting):
                assert client.inspector.task(future.id).error == "the task was cancelled"
                with pytest.raises(nbqueue.TaskCancelled, match=r"^the task was cancelled$"):
                    future.result(30)
            client.inspector.set_archive_limits("default", most=1)
            third = client.submit(lab_sleep, 60)
            lab.wait_for(third.id, "active")
            client.inspector.cancel(third)
            lab.wait_until(lambda: client.inspector.queue("default").trimmed == 2)
            with pytest.raises(ValueError, match="boom"):
                client.submit(fail, "boom").result(30)
            lab.wait_until(lambda: client.inspector.queue("default").trimmed == 3)
            with pytest.raises(ValueError, match="boom"):
                client.submit(fail, "boom").result(30)
            lab.wait_until(lambda: "archive is full" in running.log())
            assert running.log().count("archive is full") == 1


def lab_sleep(seconds: float) -> None:
    import time

    time.sleep(seconds)
