"""The client against a real store: results and errors, whatever happens to the task."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import psutil
import pytest
from thread_worker import GoWorker, ThreadWorker
from waits import wait_until

import nbqueue
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import RemoteTraceback
from nbqueue.calls.functions import dump_value
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.client import Client
from nbqueue.client.completion import awaited_tasks
from nbqueue.client.completion import listener as listener_module
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group import TaskGroup
from nbqueue.errors import (
    CannotPickle,
    SignatureError,
    StoreError,
    StoreUnreachable,
    TaskCancelled,
    TaskFailed,
    TaskIdConflict,
    TaskNotFound,
    TaskTimeout,
    UnknownKey,
    UsageError,
    WorkerLost,
)
from nbqueue.store.embedded import status, stop_server
from nbqueue.transport.topology import ANYWHERE
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage

WAIT = 30.0
KEYS = queue_keys("default")
TIMEOUTS = (TimeoutError, concurrent.futures.TimeoutError, asyncio.TimeoutError)
"""Three classes before Python 3.11."""


@pytest.fixture
def worker(store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


@pytest.fixture
def go(redis: Any) -> GoWorker:
    return GoWorker(redis)


def add(a: int, b: int = 0) -> int:
    return a + b


def double(a: int) -> int:
    return 2 * a


class NoFit(ValueError):
    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ({code})")
        self.code = code


def fail(code: int = 7) -> None:
    raise NoFit("it does not fit", code)


def odd_fails(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n


def fit(lr: int, depth: int = 3) -> int:
    return lr * depth


def stored(redis: Any, future: nbqueue.TaskFuture[Any]) -> TaskMessage:
    message: TaskMessage = TaskMessage.FromString(
        redis.hget(queue_keys(future.queue).task(future.id), "msg")
    )
    return message


class TestSubmit:
    def test_result_comes_back_by_push(self, client: Client, worker: ThreadWorker) -> None:
        future = client.submit(add, 2, b=3)
        assert (future.state, future.done()) == ("pending", False)
        assert worker.work() == 1
        # Rounds of looking come every 10 seconds only.
        assert future.result(timeout=WAIT) == 5
        assert (future.state, future.done(), future.cancelled()) == ("completed", True, False)
        assert repr(future) == f"<TaskFuture {future.type} completed id={future.id}>"

    def test_a_call_that_the_function_does_not_take_is_not_enqueued(
        self, client: Client, redis: Any
    ) -> None:
        calls: list[Callable[[], object]] = [
            lambda: client.submit(fit, 1, dept=2),  # type: ignore[call-overload]
            lambda: client.submit(fit),  # type: ignore[call-overload]
            lambda: client.task(fit).submit(1, 2, 3),  # type: ignore[call-arg]
            lambda: client.map(fit, [1], [2], [3]),
            lambda: client.schedule(fit, "@hourly", kwargs={"lr": 1, "dept": 2}),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=r"^fit\(lr, depth=…\): "):
                call()
        with pytest.raises(UsageError, match="map needs an iterable"):
            client.map(fit)
        assert not [key for key in redis.keys("*") if b"{default}" in key]

    def test_function_of_main_travels(self, client: Client, worker: ThreadWorker) -> None:
        factor = 3
        future = client.submit(lambda n: n * factor, 5)
        worker.work()
        assert future.result(WAIT) == 15

    def test_a_call_has_defaults_that_suit_a_notebook(self, client: Client, redis: Any) -> None:
        future = client.submit(add, 1)
        message = stored(redis, future)
        assert (message.retry, message.timeout, message.deadline) == (0, FAR_TIMEOUT, 0)
        assert (message.retention, message.queue) == (86_400, "default")
        assert message.type == future.type
        assert message.id == future.id
        call = payloads.parse_call(message.payload)
        assert call.flags == 0

    def test_options_arrive(self, client: Client, redis: Any) -> None:
        deadline = datetime(2100, 1, 2, tzinfo=timezone.utc)
        future = (
            client.options(queue="gpu", retry=3, timeout="10m", retention="7d")
            .options(deadline=deadline, headers={"who": "me"}, on_lost="fail", retry=4)
            .submit(add, 1)
        )
        message = stored(redis, future)
        assert (message.queue, message.retry, message.timeout) == ("gpu", 4, 600)
        assert (message.deadline, message.retention) == (4102531200, 604_800)
        assert dict(message.headers) == {"who": "me"}
        assert payloads.parse_call(message.payload).flags & payloads.FAIL_IF_LOST

    def test_a_short_timeout_is_a_second_long_for_asynq_and_exact_for_us(
        self, client: Client, redis: Any
    ) -> None:
        message = stored(redis, client.options(timeout="10ms").submit(add, 1))
        assert message.timeout == 1
        assert payloads.parse_call(message.payload).timeouts == (10, 0)
        at = datetime(2050, 1, 1, 0, 0, 0, 1_000, tzinfo=timezone.utc)
        message = stored(redis, client.options(timeout=2, deadline=at).submit(add, 1))
        assert (message.timeout, message.deadline) == (2, 2_524_608_001)
        assert payloads.parse_call(message.payload).timeouts == (2000, 2_524_608_000_001)
        message = stored(redis, client.enqueue("t", timeout=0.25))
        assert (message.timeout, dict(message.headers)) == (1, {"nbq:limits": "250|0"})

    def test_a_deadline_alone_leaves_the_timeout_open(self, client: Client, redis: Any) -> None:
        at = datetime.now(timezone.utc) + timedelta(hours=1)
        assert stored(redis, client.options(deadline=at).submit(add, 1)).timeout == 0

    def test_coroutine_functions_are_marked(self, client: Client, redis: Any) -> None:
        async def wait() -> None: ...

        message = stored(redis, client.submit(wait))
        assert payloads.parse_call(message.payload).flags & payloads.COROUTINE

    @pytest.mark.parametrize("how", ["delay", "at"])
    def test_later_is_scheduled_to_the_millisecond(
        self, client: Client, redis: Any, how: str
    ) -> None:
        now_ms = client._session.clock.now_ms()
        at = datetime.fromtimestamp(now_ms / 1000, timezone.utc) + timedelta(minutes=1)
        future = client.options(**{how: "1m" if how == "delay" else at}).submit(add, 1)
        assert future.state == "scheduled"
        due = int(redis.hget(KEYS.task(future.id), "nbq:due"))
        assert 0 <= due - now_ms - 60_000 < 2_000
        assert redis.zrange(KEYS.scheduled, 0, -1) == [future.id.encode()]

    def test_a_moment_in_the_past_is_now(self, client: Client, worker: ThreadWorker) -> None:
        long_ago = datetime(2001, 1, 1, tzinfo=timezone.utc)
        future = client.options(at=long_ago).submit(add, 1)
        worker.work()
        assert future.result(WAIT) == 1

    def test_ids_are_unique_and_sort_by_time(self, client: Client) -> None:
        ids = [client.submit(add, n).id for n in range(5)] + list(client.map(add, range(5)).ids)
        assert sorted(ids) == ids
        assert len(set(ids)) == 10
        assert all(len(i) == 17 and i.isascii() and i.isalnum() for i in ids)
        assert len({i[:6] for i in ids}) == 1

    def test_code_is_stored_once(self, client: Client, redis: Any) -> None:
        for n in range(3):
            client.submit(add, n)
        client.map(add, range(10))
        assert len(redis.keys(KEYS.code_prefix + "*")) == 1

    def test_an_own_id_that_exists_is_refused(self, client: Client, worker: ThreadWorker) -> None:
        first = client.options(task_id="nightly").submit(add, 1)
        for options in ({}, {"unique": "1h"}):
            nightly = client.options(task_id="nightly", **options)
            with pytest.raises(TaskIdConflict, match="'nightly' exists in queue") as caught:
                nightly.submit(add, 2)
            assert caught.value.task_id == "nightly"
        worker.work()
        assert first.result(WAIT) == 1

    def test_an_own_id_may_come_again_after_its_task_was_deleted(
        self, client: Client, worker: ThreadWorker, go: GoWorker
    ) -> None:
        first = client.options(task_id="nightly").submit(add, 1)
        go.done("nightly")
        second = client.options(task_id="nightly").submit(add, 2)
        with pytest.raises(TaskNotFound):
            first.result(WAIT)
        worker.work()
        assert second.result(WAIT) == 2

    @pytest.mark.parametrize("options", [{}, {"unique": "1h"}])
    def test_an_own_id_is_listened_to_before_its_task_is_written(
        self, client: Client, worker: ThreadWorker, redis: Any, monkeypatch: Any, options: Any
    ) -> None:
        broker = client._session.broker

        def ended_at_once(write: Any) -> Any:
            def run(*args: Any, **kwargs: Any) -> Any:
                found = write(*args, **kwargs)
                worker.work()
                assert not redis.exists(KEYS.task("nightly"))
                return found

            return run

        monkeypatch.setattr(broker, "enqueue", ended_at_once(broker.enqueue))
        nightly = client.options(task_id="nightly", retention=0, **options)
        # The end that arrives is of this task, and not of the one before.
        assert [nightly.submit(add, n).result(WAIT) for n in range(3)] == [0, 1, 2]
        # And the channel is followed no longer than that.
        assert set(client._session.listener._state.tasks.channels) <= {
            KEYS.end_channel(client._session.ids.prefix)
        }

    def test_an_own_id_may_come_again_before_its_end_was_read(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        nightly = client.options(task_id="nightly", retention=0)
        first = nightly.submit(add, 1)
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with client._session.listener.inline_read.read_lock:  # so that no thread reads
                worker.work()
                again = pool.submit(nightly.submit, add, 2)
                wait_until(lambda: len(client._session.listener._state.tasks.channels) == 2)
            second = again.result(WAIT)
        worker.work()
        assert [first.result(WAIT), second.result(WAIT)] == [1, 2]

    def test_whoever_attaches_to_an_own_id_waits_until_it_is_written(
        self, client: Client, worker: ThreadWorker, store_url: str, monkeypatch: Any
    ) -> None:
        other = nbqueue.connect(store_url)
        other.options(task_id="nightly").submit(add, 1)
        other.shutdown(wait=False)
        listener, found = client._session.listener, []
        get = threading.Thread(target=lambda: found.append(client.get("nightly").result(WAIT)))
        broker, write = client._session.broker, client._session.broker.enqueue

        def attached(*args: Any, **kwargs: Any) -> Any:
            get.start()
            wait_until(lambda: listener._state.changed._waiters)  # type: ignore[attr-defined]
            return write(*args, **kwargs)

        monkeypatch.setattr(broker, "enqueue", attached)
        with pytest.raises(TaskIdConflict):
            client.options(task_id="nightly").submit(add, 2)
        worker.work()
        get.join(3)
        assert found == [1]
        assert not listener.outstanding()

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({"retries": 3}, "'retries' is no option"),
            ({"queue": ""}, "queue='' is empty"),
            ({"queue": "a/b"}, "cannot name a queue"),
            ({"timeout": "10 minuts"}, "timeout='10 minuts' is not a duration"),
            ({"timeout": 0}, "leaves no time to run"),
            ({"deadline": datetime(2030, 1, 1)}, "has no time zone"),
            ({"retry": -1}, "retry=-1"),
            ({"headers": {"a": "\ud800"}}, "headers"),
            ({"retention": "200000w"}, "hundred years"),
        ],
    )
    def test_wrong_options_are_refused_where_they_are_said(
        self, client: Client, options: dict[str, Any], told: str
    ) -> None:
        with pytest.raises(UsageError, match=told):
            client.options(**options)
        with pytest.raises(UsageError, match=told):
            client.task(**options)

    def test_what_cannot_be_sent_is_named(self, client: Client, redis: Any) -> None:
        lock = threading.Lock()
        with pytest.raises(CannotPickle, match="lock"):
            client.submit(add, lock)
        with pytest.raises(CannotPickle, match="'lock'"):
            client.submit(lambda: lock)
        with pytest.raises(CannotPickle):
            client.submit(add(1, 2))  # type: ignore[arg-type]
        assert redis.llen(KEYS.pending) == 0

    def test_unreachable_stores_are_errors_at_connect(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnreachable, match="cannot be reached"):
            nbqueue.connect(f"unix://{tmp_path}/none")

    def test_wrong_keys_are_errors_at_connect(self, store_url: str) -> None:
        with pytest.raises(UsageError, match="NBQUEUE_KEY"):
            nbqueue.connect(store_url, key="short")

    def test_repr_of_a_client_shows_no_secret(self, client: Client, store_url: str) -> None:
        assert repr(client).startswith(f"<Client of {store_url}")
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(client)


class TestOutcomes:
    def test_failure_raises_the_original_type_with_the_remote_traceback(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(fail)
        worker.work()
        with pytest.raises(NoFit, match="it does not fit") as caught:
            future.result(WAIT)
        assert caught.value.code == 7
        assert isinstance(caught.value.__cause__, RemoteTraceback)
        assert 'raise NoFit("it does not fit"' in str(caught.value.__cause__)
        assert future.exception() is caught.value
        assert (future.state, future.cancelled()) == ("archived", False)

    @pytest.mark.parametrize(
        "error", [TaskTimeout("too long"), WorkerLost("it died"), SignatureError("not ours")]
    )
    def test_errors_of_nbqueue_name_their_task(
        self, client: Client, worker: ThreadWorker, error: Exception
    ) -> None:
        future = client.submit(add, 1)
        worker.fail(worker.fetch()[0], error)
        with pytest.raises(type(error)) as caught:
            future.result(WAIT)
        assert getattr(caught.value, "task_id", future.id) == future.id

    def test_exit_of_a_task_does_not_end_this_program(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        worker.fail(worker.fetch()[0], SystemExit(3))
        with pytest.raises(TaskFailed, match="SystemExit: 3"):
            future.result(WAIT)

    def test_failure_without_an_exception_has_its_text(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        worker.archive(worker.fetch()[0], "the worker said so")
        with pytest.raises(TaskFailed, match="the worker said so"):
            future.result(WAIT)

    def test_large_results_are_read_from_the_task(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(lambda: bytes(1_000_000))
        worker.work()
        assert future.result(WAIT) == bytes(1_000_000)

    def test_a_result_that_is_not_kept_still_arrives(
        self, client: Client, worker: ThreadWorker, redis: Any
    ) -> None:
        future = client.options(retention=0).submit(add, 1)
        worker.work()
        assert future.result(WAIT) == 1
        assert future.state == "completed"
        assert not redis.exists(KEYS.task(future.id))

    def test_unsigned_results_are_not_loaded(
        self, client: Client, worker: ThreadWorker, tmp_path: Path
    ) -> None:
        bait = tmp_path / "loaded"

        class Bait:
            def __reduce__(self) -> Any:
                return Path.touch, (bait,)

        future = client.submit(add, 1)
        poison = payloads.pack_result(payloads.VALUE, pickle.dumps(Bait()))
        worker.complete([(worker.fetch()[0], poison)])
        with pytest.raises(SignatureError, match="not signed"):
            future.result(WAIT)
        assert not bait.exists()

    def test_results_of_another_task_or_key_are_not_loaded(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        futures = [client.submit(add, n) for n in range(3)]
        envelope = payloads.pack_result(payloads.VALUE, dump_value(99))
        first, second, third = worker.fetch(3)
        stolen = worker.keys.sign_result(envelope, second.message.id)
        foreign = Keyring([os.urandom(32)]).sign_result(envelope, second.message.id)
        worker.complete([(first, stolen), (second, foreign), (third, b"plain bytes")])
        with pytest.raises(SignatureError, match="another task"):
            futures[0].result(WAIT)
        with pytest.raises(UnknownKey):
            futures[1].result(WAIT)
        with pytest.raises(SignatureError, match="is not signed"):
            futures[2].result(WAIT)

    def test_an_exception_is_no_value(self, client: Client, worker: ThreadWorker) -> None:
        future = client.submit(add, 1)
        [held] = worker.fetch()
        envelope = payloads.pack_result(payloads.EXCEPTION, b"")
        worker.complete([(held, worker.keys.sign_result(envelope, held.message.id))])
        with pytest.raises(SignatureError, match="does not belong"):
            future.result(WAIT)

    def test_garbage_on_a_channel_harms_nobody(
        self, client: Client, worker: ThreadWorker, redis: Any
    ) -> None:
        future = client.submit(add, 1)
        for garbage in (b"", b"x", b"\xff" * 40, future.id.encode()):
            redis.publish(KEYS.end_channel(future.id), garbage)
        worker.work()
        assert future.result(WAIT) == 1


class TestRealFuture:
    def test_wait_and_as_completed(self, client: Client, worker: ThreadWorker) -> None:
        futures = [client.submit(odd_fails, n) for n in range(4)]
        worker.work(3)
        done = concurrent.futures.wait(
            futures, timeout=WAIT, return_when=concurrent.futures.FIRST_EXCEPTION
        ).done
        assert futures[1] in done
        worker.work()
        seen = list(concurrent.futures.as_completed(futures, timeout=WAIT))
        assert set(seen) == set(futures)
        assert [f.exception() is None for f in futures] == [True, False, True, False]

    def test_callbacks_see_the_result(self, client: Client, worker: ThreadWorker) -> None:
        seen: list[Any] = []
        future = client.submit(add, 1, 2)
        future.add_done_callback(lambda f: seen.append(f.result()))
        worker.work()
        wait_until(lambda: seen)
        future.add_done_callback(lambda f: seen.append(f.state))
        assert seen == [3, "completed"]

    def test_a_callback_may_submit_but_not_wait(self, client: Client, worker: ThreadWorker) -> None:
        seen: list[Any] = []

        def go_on(future: nbqueue.TaskFuture[int]) -> None:
            following = client.options(queue="other").submit(add, future.result(), 1)
            seen.append(following)
            try:
                following.result()
            except RuntimeError as error:
                seen.append(str(error))

        client.submit(add, 1).add_done_callback(go_on)
        worker.work()
        wait_until(lambda: len(seen) == 2)
        assert "a callback of a future cannot wait" in seen[1]
        other = ThreadWorker(client.url, "other")
        try:
            other.work()
            assert seen[0].result(WAIT) == 2
        finally:
            other.close()

    def test_an_exit_in_a_callback_does_not_end_the_listening(
        self, client: Client, worker: ThreadWorker, caplog: pytest.LogCaptureFixture
    ) -> None:
        first = client.submit(add, 1)
        first.add_done_callback(lambda _: sys.exit("no"))
        worker.work()
        # A waiting thread could read the end and run the callback, so the exit would end it.
        wait_until(first.done)
        assert first.result(WAIT) == 1
        second = client.submit(add, 2)
        worker.work()
        assert second.result(WAIT) == 2

    def test_timeout_of_a_wait_leaves_the_task_alone(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        for error in TIMEOUTS:
            with pytest.raises(error, match="has not ended yet"):
                future.result(timeout="10ms")
            with pytest.raises(error, match="has not ended yet"):
                future.exception(0)
        assert worker.work() == 1
        assert future.result(WAIT) == 1

    def test_running_is_what_the_store_says(self, client: Client, worker: ThreadWorker) -> None:
        future = client.submit(add, 1)
        assert not future.running()
        [held] = worker.fetch()
        wait_until(future.running)
        assert future.state == "active"
        assert " active" in repr(future)
        assert repr(future).endswith(f" id={future.id}>")
        assert future.refresh().attempt == 1
        worker.succeed(held, 1)
        assert future.result(WAIT) == 1
        assert not future.running()

    def test_refresh_finds_an_end_that_nobody_announced(self, client: Client, go: GoWorker) -> None:
        group = client.map(add, range(2))
        go.done(group.ids[0])
        assert group[0].refresh().state == "deleted"
        assert group.done_count == 1

    def test_values_are_loaded_once_and_by_who_asks(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        class Here:
            def __reduce__(self) -> Any:
                return threading.current_thread, ()

        future = client.submit(add, 1)
        worker.succeed(worker.fetch()[0], Here())
        assert future.result(WAIT) is threading.current_thread()
        assert future.result() is future.result()


class TestAsync:
    def test_await_and_gather(self, client: Client, worker: ThreadWorker) -> None:
        async def main() -> list[Any]:
            futures = [client.submit(odd_fails, n) for n in range(3)]
            return await asyncio.gather(*futures, return_exceptions=True)

        with worker.running():
            first, error, last = asyncio.run(main())
        assert (first, last) == (0, 2)
        assert isinstance(error, ValueError)

    def test_giving_up_never_cancels_the_task(self, client: Client, worker: ThreadWorker) -> None:
        future = client.submit(add, 5)

        async def main() -> None:
            for _ in range(2):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(future, 0.02)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.gather(future), 0.02)
            # Even where asyncio hands the cancellation to the future itself.
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.wrap_future(future), 0.02)
            waiting = asyncio.ensure_future(asyncio.shield(_result(future)))
            await asyncio.sleep(0)
            waiting.cancel()

        async def _result(future: nbqueue.TaskFuture[int]) -> int:
            return await future

        asyncio.run(main())
        assert not future._async_waiters._waiters
        assert (future.cancelled(), future.refresh().state) == (False, "pending")
        worker.work()
        assert future.result(WAIT) == 5

    def test_wrap_future_and_run_in_executor(self, client: Client, worker: ThreadWorker) -> None:
        async def main() -> tuple[int, int]:
            loop = asyncio.get_running_loop()
            wrapped = asyncio.wrap_future(client.submit(add, 1))
            return await wrapped, await loop.run_in_executor(client, add, 2)

        with worker.running():
            assert asyncio.run(main()) == (1, 2)

    def test_await_of_a_cancelled_task_is_no_cancellation_of_the_wait(self, client: Client) -> None:
        future = client.submit(add, 1)

        async def main() -> None:
            waiting = asyncio.ensure_future(_wait())
            await asyncio.sleep(0)
            assert await asyncio.to_thread(future.cancel)
            with pytest.raises(TaskCancelled):
                await waiting

        async def _wait() -> int:
            return await future

        asyncio.run(main())

    def test_groups_can_be_awaited(self, client: Client, worker: ThreadWorker) -> None:
        async def main() -> None:
            group = client.map(double, range(5))
            assert [result async for result in group] == [0, 2, 4, 6, 8]
            assert await client.map(add, range(3)) == [0, 1, 2]
            ended = [f async for f in client.map(add, range(3)).as_completed()]
            assert sorted(f.result() for f in ended) == [0, 1, 2]

        with worker.running():
            asyncio.run(main())

    def test_an_await_of_a_group_can_have_a_timeout_or_return_exceptions(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        group = client.map(lambda x: 1 / x, [1, 0])

        async def main() -> list[Any]:
            with pytest.raises(TIMEOUTS):
                await asyncio.wait_for(group, 0.02)
            worker.work()
            with pytest.raises(ZeroDivisionError):
                await group
            return await asyncio.gather(*group.futures, return_exceptions=True)

        first, second = asyncio.run(main())
        assert (first, type(second)) == (1.0, ZeroDivisionError)

    def test_awaiting_the_list_of_results_warns_as_the_call_has_blocked_already(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        group = client.map(add, range(3))
        worker.work()

        async def main() -> tuple[Any, Any]:
            found = group.results()
            with pytest.warns(DeprecationWarning, match="await g"):
                return found, await found  # type: ignore[misc]

        found, awaited = asyncio.run(main())
        assert found == awaited == [0, 1, 2]
        assert type(pickle.loads(pickle.dumps(found))) is list


class TestCancel:
    @pytest.mark.parametrize("options", [{}, {"delay": "1h"}])
    def test_waiting_task_is_archived(
        self, client: Client, redis: Any, options: dict[str, Any]
    ) -> None:
        future = client.options(**options).submit(add, 1)
        assert future.cancel()
        assert future.cancelled()
        assert future.done()
        assert future.state == "archived"
        with pytest.raises(TaskCancelled) as caught:
            future.result()
        assert caught.value.task_id == future.id
        with pytest.raises(concurrent.futures.CancelledError):
            future.exception()
        assert future in concurrent.futures.wait([future], timeout=WAIT).done
        assert redis.zrange(KEYS.archived, 0, -1) == [future.id.encode()]
        assert future.cancel()

    def test_others_learn_that_tasks_were_cancelled_that_the_archive_does_not_keep(
        self, client: Client, store_url: str, redis: Any
    ) -> None:
        group = client.map(add, range(12_000))
        other = nbqueue.connect(store_url)
        there = [other.get(group.ids[n]) for n in (0, 11_999)]
        for future in there:
            assert not future.done()
        channel = KEYS.end_channel(group.ids[0])
        wait_until(lambda: redis.pubsub_numsub(channel)[0][1] == 2)
        assert group.cancel() == 12_000
        for future in there:
            wait_until(future.cancelled)
        other.close()
        with pytest.raises(TaskCancelled) as caught:
            group[0].result(WAIT)
        assert caught.value.task_id == group.ids[0]
        assert redis.zcard(KEYS.archived) == 10_000

    def test_what_another_handle_cancelled_ends_here_without_an_announcement(
        self, client: Client
    ) -> None:
        group = client.map(add, range(3))
        seen: list[int] = []
        group.on_progress(lambda g: seen.append(g.counts().cancelled))
        assert len(client.cancel(group.ids).done) == 3
        assert (group.counts().cancelled, seen) == (3, [3])

    @pytest.mark.parametrize("waits", [True, False])
    def test_an_interrupted_cancellation_ends_what_it_removed(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, waits: bool
    ) -> None:
        group = client.map(add, range(11_000))
        broker = client._session.broker
        run_all = type(broker).run_all

        def interrupted(self: Any, batch: Any) -> Any:
            replies = run_all(self, batch)
            # The listener shares the class: a key press interrupts the main thread alone.
            if threading.current_thread() is threading.main_thread():
                raise KeyboardInterrupt
            return replies

        with monkeypatch.context() as patch:
            patch.setattr(type(broker), "run_all", interrupted)
            with pytest.raises(KeyboardInterrupt):
                group.cancel()
        if waits:
            wait_until(lambda: group.counts().cancelled >= 1_000)
            assert group.counts().failed == 0
        group.cancel()
        # Tasks that the first call deleted end once the listener has looked for them.
        wait_until(lambda: group.counts() == (11_000, 0, 0, 11_000, 0))

    def test_large_messages_leave_a_long_line_together(self, client: Client, redis: Any) -> None:
        before = client.map(add, range(3_000))
        large = client.map(len, [os.urandom(70_000) for _ in range(20)])
        behind = client.map(add, range(3_000))
        redis.config_resetstat()
        assert large.cancel() == 20
        assert redis.info("commandstats")["cmdstat_lrem"]["calls"] < 5
        assert redis.llen(KEYS.pending) == len(before) + len(behind)
        assert redis.zcard(KEYS.scheduled) == 0
        assert all(f.refresh().state == "archived" for f in large.futures[:3])
        assert TaskMessage.FromString(redis.hget(KEYS.task(large.ids[0]), "msg")).error_msg

    def test_others_learn_that_it_was_cancelled(self, client: Client, store_url: str) -> None:
        future = client.submit(add, 1)
        seen: list[bool] = []
        future.add_done_callback(lambda f: seen.append(f.cancelled()))
        other = nbqueue.connect(store_url)
        assert other.get(future.id).cancel()
        with pytest.raises(TaskCancelled):
            future.result(WAIT)
        wait_until(lambda: seen)
        assert seen == [True]
        other.close()

    def test_running_task_is_ended_by_its_worker(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        future = client.submit(add, 1)
        [held] = worker.fetch()
        with worker.obeying(held, TaskCancelled("cancelled")):
            assert future.cancel()
        with pytest.raises(TaskCancelled):
            future.result(WAIT)

    def test_running_task_whose_worker_does_not_obey_goes_on(
        self, client: Client, worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("nbqueue.client.futures.future.CANCEL_SECONDS", 0.05)
        future = client.submit(add, 1)
        [held] = worker.fetch()
        assert not future.cancel()
        assert future.running()
        worker.succeed(held, 1)
        assert future.result(WAIT) == 1
        assert not future.cancel()

    def test_cancelled_callbacks_see_it_so(self, client: Client) -> None:
        future = client.submit(add, 1)
        seen: list[Any] = []
        future.add_done_callback(lambda f: seen.append((f.cancelled(), f.done())))
        future.cancel()
        assert seen == [(True, True)]

    def test_group(self, client: Client, worker: ThreadWorker, redis: Any) -> None:
        group = client.map(add, range(600))
        future = group[400]
        worker.work(50)
        wait_until(lambda: group.done_count == 50)
        assert group.cancel() == 550
        assert group.done()
        assert group.counts() == (600, 50, 0, 550, 0)
        assert future.cancelled()
        assert redis.zcard(KEYS.archived) == 550
        assert sum(isinstance(r, TaskCancelled) for r in group.results(0, True)) == 550


class TestMap:
    def test_results_in_order(self, client: Client, worker: ThreadWorker) -> None:
        with worker.running():
            group = client.map(add, range(10), range(100, 105))
            assert list(group) == [100, 102, 104, 106, 108]
            assert list(group) == [100, 102, 104, 106, 108]
        assert next(group) == 100
        assert next(group) == 102
        assert len(group) == 5
        assert "5 of 5 done" in repr(group)

    def test_an_error_shows_at_its_place(self, client: Client, worker: ThreadWorker) -> None:
        with worker.running():
            group = client.map(odd_fails, range(4))
            results = iter(group)
            assert next(results) == 0
            with pytest.raises(ValueError, match="1 is odd"):
                next(results)
            with pytest.raises(ValueError, match="1 is odd"):
                group.results(WAIT)
            kinds = [type(r) for r in group.results(WAIT, return_exceptions=True)]
        assert kinds == [int, ValueError, int, ValueError]
        assert group.counts() == (4, 2, 2, 0, 0)
        assert group.counts().done == group.done_count == 4

    def test_nothing_to_do(self, client: Client) -> None:
        group = client.map(add, [])
        assert (len(group), list(group), group.results(), group.done()) == (0, [], [], True)
        assert group.wait(WAIT)
        assert list(group.as_completed()) == []
        assert group.cancel() == 0

    def test_as_completed_and_progress(self, client: Client, worker: ThreadWorker) -> None:
        group = client.map(double, range(5))
        seen: list[int] = []
        group.on_progress(lambda g: seen.append(g.done_count))
        worker.work(2)
        futures = group.as_completed(timeout=WAIT)
        first = [next(futures).result() for _ in range(2)]
        assert sorted(first) == [0, 2]
        worker.work(3)
        assert sorted(f.result() for f in futures) == [4, 6, 8]
        assert seen == [2, 5]

    def test_timeouts(self, client: Client, worker: ThreadWorker) -> None:
        group = client.map(add, range(3), timeout=0.02)

        for error in TIMEOUTS:
            for wait in (
                lambda: list(group),
                lambda: group.results(0.01),
                lambda: list(group.as_completed(0.01)),
            ):
                with pytest.raises(error, match="3 of 3 tasks have not"):
                    wait()
        assert not group.wait(0)
        worker.work()
        assert group.wait(WAIT)
        assert list(group) == [0, 1, 2]

    def test_futures_are_ordinary_ones(self, client: Client, worker: ThreadWorker) -> None:
        group: TaskGroup[int] = client.options(name="sweep").map(double, range(4))
        assert group.futures[1] is group[1] is group.futures[-3]
        assert [f.id for f in group.futures[1:3]] == list(group.ids[1:3])
        assert group[2].name == "sweep-2"
        assert client.get(group[3].id) is group[3]
        worker.work()
        done = concurrent.futures.wait(group.futures, timeout=WAIT).done
        assert sorted(f.result() for f in done) == [0, 2, 4, 6]

    def test_ten_thousand(self, client: Client, worker: ThreadWorker) -> None:
        group = client.map(double, range(10_000))
        with worker.running():
            assert group.results(90) == [2 * n for n in range(10_000)]
        assert not group._futures

    def test_nothing_is_left_behind_by_a_map_that_fails(self, client: Client, redis: Any) -> None:
        def arguments() -> Iterator[int]:
            yield from range(3_000)
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            client.map(add, arguments())
        assert redis.llen(KEYS.pending) == 0
        assert not client._session.listener.outstanding()

    def test_an_own_id_makes_no_sense(self, client: Client) -> None:
        with pytest.raises(UsageError, match="task_id= names one task"):
            client.options(task_id="one").map(add, [1])

    def test_frames(self, client: Client, worker: ThreadWorker) -> None:
        group = client.map(odd_fails, range(4))
        client.options(queue="other").submit(add, 1)
        worker.work()
        assert group.wait(WAIT)
        assert sorted(group.attempts()["task_id"]) == sorted(group.ids)
        assert (
            list(client.attempts(since="1h", limit=2, columns=["queue"])["queue"])
            == ["default"] * 2
        )
        assert len(client.attempts(since=datetime.now(timezone.utc) + timedelta(hours=1))) == 0
        with pytest.raises(UsageError, match="no time zone"):
            client.attempts(since=datetime(2020, 1, 1))


class TestTaskDecorator:
    def test_here_and_there(self, client: Client, worker: ThreadWorker, redis: Any) -> None:
        @client.task(queue="gpu", retry=3)
        def scaled(n: int, by: int = 2) -> int:
            """Scales."""
            return n * by

        assert scaled(3) == 6
        assert scaled.__name__ == "scaled"
        assert scaled.__doc__ == "Scales."
        future = scaled.submit(3, by=4)
        message = stored(redis, future)
        assert (message.queue, message.retry) == ("gpu", 3)
        assert scaled.options(retry=1).submit(1).queue == "gpu"
        # Submitted by another client method, it keeps what its decorator set.
        assert client.submit(scaled, 1).queue == "gpu"
        assert client.options(queue="cpu").submit(scaled, 1).queue == "cpu"
        assert len(scaled.map([1, 2])) == 2

    def test_within_another_task_it_is_the_plain_function(
        self, client: Client, worker: ThreadWorker
    ) -> None:
        @client.task
        def factorial(n: int) -> int:
            return 1 if n < 2 else n * factorial(n - 1)

        assert factorial(4) == 24
        future = factorial.submit(5)
        nested = client.submit(lambda: type(factorial).__name__)
        worker.work()
        assert future.result(WAIT) == 120
        assert nested.result(WAIT) == "function"

    def test_methods(self, client: Client) -> None:
        class Model:
            size = 3

            @client.task
            def grown(self, by: int) -> int:
                return self.size + by

        assert Model().grown(2) == 5


class TestGet:
    def test_from_elsewhere_before_and_after_the_end(
        self, client: Client, store_url: str, worker: ThreadWorker
    ) -> None:
        future = client.options(name="train").submit(add, 20, 1)
        other = nbqueue.connect(store_url)
        again = other.get("train")
        assert again is not future
        assert (again.id, again.state, again.name) == (future.id, "pending", "train")
        assert other.get(future.id) is again
        worker.work()
        assert again.result(WAIT) == 21
        late = other.get(future.id)
        assert (late.done(), late.result(), late.attempt) == (True, 21, 1)
        other.close()

    def test_a_name_is_of_its_newest_task(self, client: Client, redis: Any) -> None:
        client.options(name="train").submit(add, 1)
        newest = client.options(name="train", queue="gpu", delay="100d").submit(add, 2)
        assert client.get("train").id == newest.id
        assert redis.ttl(queue_keys("gpu").name("train")) > 101 * 86_400
        assert redis.ttl(KEYS.name("train")) == pytest.approx(90 * 86_400, abs=5)

    def test_what_is_not_there(self, client: Client, redis: Any) -> None:
        with pytest.raises(TaskNotFound, match="has no task with the id or the name 'nothing'"):
            client.get("nothing")
        future = client.options(name="gone").submit(add, 1)
        redis.delete(KEYS.task(future.id))
        with pytest.raises(TaskNotFound, match=f"{future.id}, the newest with the name 'gone'"):
            client.get("gone")
        with pytest.raises(UsageError):
            client.get("")

    def test_messages_give_their_bytes(self, client: Client, redis: Any, go: GoWorker) -> None:
        message = TaskMessage(type="mail", payload=b"{}", id="m1", queue="default", timeout=9)
        redis.sadd("asynq:queues", "default")
        redis.hset(
            KEYS.task("m1"),
            mapping={"msg": message.SerializeToString(), "state": "pending", "pending_since": 1},
        )
        redis.lpush(KEYS.pending, "m1")
        future = client.get("m1")
        go.complete("m1", b"sent")
        assert future.result(WAIT) == b"sent"

    def test_a_pickled_future_finds_its_task(
        self, client: Client, worker: ThreadWorker, redis: Any, store_url: str
    ) -> None:
        seen: list[int] = []
        future = client.options(name="kept").submit(add, 4)
        data = pickle.dumps(future)
        assert pickle.loads(data) is future
        worker.work()
        assert future.result(WAIT) == 4
        late = pickle.loads(data)
        assert late is not future
        assert late.result(WAIT) == 4
        client.close()
        lone = pickle.loads(data)
        assert repr(lone).startswith("<TaskFuture kept pending")
        assert lone.result(WAIT) == 4
        assert lone.name == "kept"
        with nbqueue.connect(store_url) as third:
            more = third.submit(add, 5)
            copy = pickle.loads(pickle.dumps(more))
            stranger = TaskFuture(None, more._facts, third.url)
            stranger.add_done_callback(lambda f: seen.append(f.result()))
            worker.work()
            assert (copy.result(WAIT), stranger.result(WAIT)) == (5, 5)
            wait_until(lambda: seen == [5])
        assert lone._session is not client._session
        lone._session.close()

    def test_a_pickle_holds_no_password(self, client: Client) -> None:
        from nbqueue.client.futures.future import revive

        lone = revive("redis://:***@example.invalid:6379/0", "id", "default", "fit", None, True)
        assert not lone.done()
        with pytest.raises(UsageError, match="holds no password"):
            lone.result(WAIT)


class TestOtherWorkers:
    """Ends without an announcement, by programs in Go and people with tools."""

    @pytest.fixture(autouse=True)
    def _quick_rounds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(awaited_tasks, "OWN_INTERVAL", 0.1)

    def test_completed(self, store_url: str, go: GoWorker, worker: ThreadWorker) -> None:
        with nbqueue.connect(store_url) as client:
            future = client.submit(add, 1)
            body = payloads.pack_result(payloads.VALUE, dump_value(42))
            go.complete(future.id, worker.keys.sign_result(body, future.id))
            assert future.result(5) == 42

    def test_completed_without_a_result(self, store_url: str, go: GoWorker) -> None:
        with nbqueue.connect(store_url) as client:
            future = client.submit(add, 1)
            go.complete(future.id)
            with pytest.raises(SignatureError):
                future.result(5)

    def test_deleted(self, store_url: str, go: GoWorker) -> None:
        with nbqueue.connect(store_url) as client:
            group = client.map(add, range(3))
            for task_id in group.ids:
                go.done(task_id)
            assert group.wait(5)
            assert group[0].state == "deleted"
            with pytest.raises(TaskNotFound, match="no longer in the store"):
                group[0].result()

    def test_archived(self, store_url: str, go: GoWorker) -> None:
        with nbqueue.connect(store_url) as client:
            future = client.submit(add, 1)
            go.archive(future.id, "handler not found for task")
            with pytest.raises(TaskFailed, match="handler not found"):
                future.result(5)

    def test_what_runs_is_noticed(self, store_url: str, worker: ThreadWorker) -> None:
        with nbqueue.connect(store_url) as client:
            future = client.submit(add, 1)
            [held] = worker.fetch()
            wait_until(future.running)
            worker.succeed(held, 1)


class TestShutdown:
    def test_waits_for_its_tasks(self, store_url: str, worker: ThreadWorker) -> None:
        with worker.running(), nbqueue.connect(store_url) as client:
            futures = [client.submit(add, n) for n in range(20)]
        assert all(f.done() for f in futures)
        with pytest.raises(RuntimeError, match="shut down"):
            client.submit(add, 1)
        with pytest.raises(RuntimeError, match="shut down"):
            client.map(add, [1])
        client.shutdown()
        assert repr(client).endswith("closed>")

    def test_can_cancel_what_does_not_run(self, store_url: str, worker: ThreadWorker) -> None:
        client = nbqueue.connect(store_url)
        running = client.submit(add, 1)
        [held] = worker.fetch()
        group = client.map(add, range(3))
        waiting = client.submit(add, 2)
        client.shutdown(wait=False, cancel_futures=True)
        assert waiting.cancelled()
        assert group.counts().cancelled == 3
        worker.succeed(held, 5)
        assert running.result(WAIT) == 5
        client.shutdown()

    def test_does_not_wait_for_a_task_that_it_only_looked_at(
        self, client: Client, store_url: str
    ) -> None:
        future = client.submit(add, 1)
        with nbqueue.connect(store_url) as other:
            seen = other.get(future.id)
        with pytest.raises(StoreError, match="client was closed"):
            seen.result()

    def test_close_ends_waits_and_threads(self, client: Client) -> None:
        future = client.submit(add, 1)
        thread = client._session.listener._loop.thread
        assert thread is not None
        waiting = threading.Timer(0.02, client.close)
        waiting.start()
        with pytest.raises(StoreError, match=future.id):
            future.result(WAIT)
        waiting.join()
        assert not thread.is_alive()

    def test_a_dropped_client_leaves_no_thread(self, store_url: str, worker: ThreadWorker) -> None:
        import gc

        client = nbqueue.connect(store_url)
        future = client.submit(add, 1)
        thread = client._session.listener._loop.thread
        assert thread is not None
        del client
        gc.collect()
        worker.work()
        assert future.result(WAIT) == 1
        del future
        wait_until(lambda: (gc.collect(), not thread.is_alive())[1])


class TestFaults:
    def test_lost_connection_loses_no_end(
        self,
        client: Client,
        worker: ThreadWorker,
        redis: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first = client.submit(add, 1)
        worker.work()
        assert first.result(WAIT) == 1
        futures = [client.submit(odd_fails, n) for n in range(4)]
        group = client.map(double, range(3_000))
        may_connect, connect = threading.Event(), client._session.listener._loop._connect

        def connect_later() -> None:
            may_connect.wait()
            connect()

        monkeypatch.setattr(client._session.listener._loop, "_connect", connect_later)
        redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        wait_until(lambda: not client._session.listener.is_connected)
        while worker.work(500):
            assert group.done_count == 0
        may_connect.set()
        assert group.results(WAIT) == [2 * n for n in range(3_000)]
        assert futures[0].result(WAIT) == 0
        with pytest.raises(ValueError, match="odd"):
            futures[3].result(WAIT)

    @pytest.mark.slow
    def test_connections_lost_again_and_again(
        self, client: Client, worker: ThreadWorker, redis: Any
    ) -> None:
        with worker.running():
            futures = []
            for n in range(30):
                futures.append(client.submit(add, n))
                redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            assert [f.result(WAIT) for f in futures] == list(range(30))

    def test_killed_server_is_waited_for(
        self, own_store: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = nbqueue.connect(own_store)
        waiting = client.submit(add, 1)
        # The append-only file is as of the last second.
        client._session.broker.call(("CONFIG", "SET", "appendfsync", "always"), on=ANYWHERE)
        later = client.submit(add, 2)
        folder = Path(own_store.removeprefix("embedded://"))
        for _ in range(2):
            pid = status(folder).pid
            assert pid is not None
            psutil.Process(pid).kill()
            # The client that needs it starts it again: this one does, since it waits for tasks.
            wait_until(lambda pid=pid: status(folder).pid not in (None, pid))  # type: ignore[misc]
        worker = ThreadWorker(own_store)
        assert worker.work() == 2
        assert [waiting.result(WAIT), later.result(WAIT)] == [1, 2]
        worker.close()
        client.close()

    def test_idle_client_leaves_a_stopped_server_in_peace(
        self, own_store: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = nbqueue.connect(own_store)
        worker = ThreadWorker(own_store)
        future = client.submit(add, 1)
        worker.work()
        assert future.result(WAIT) == 1
        folder = Path(own_store.removeprefix("embedded://"))
        assert stop_server(folder)
        wait_until(lambda: not client._session.listener.is_connected)
        assert not status(folder).running
        # And starts it again when there is something to do.
        again = client.submit(add, 2)
        worker.work()
        assert again.result(WAIT) == 2
        worker.close()
        client.close()

    def test_submit_says_that_the_store_is_away(
        self,
        own_server: subprocess.Popen[bytes],
        own_server_url: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(listener_module, "CONFIRM_SECONDS", 0.05)
        client = nbqueue.connect(own_server_url)
        client._session.broker._patience = 0.2
        future = client.submit(add, 1)
        own_server.kill()
        own_server.wait()
        with pytest.raises(StoreUnreachable):
            client.submit(add, 2)
        # It may come back with the task in it, so the wait continues.
        with pytest.raises(concurrent.futures.TimeoutError):
            future.result(0.2)
        client.close()
        with pytest.raises(StoreError, match="client was closed"):
            future.result()

    def test_a_fault_in_the_listener_reaches_who_waits(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr("nbqueue.client.completion.error_pauses._FIRST_PAUSE", 0.001)
        future = client.submit(add, 1)

        def broken(link: object) -> float:
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr(client._session.listener._loop, "_look", broken)
        client._session.listener._state.wake()
        with pytest.raises(nbqueue.NbqueueError, match=r"failed within nbqueue.*a fault"):
            future.result(WAIT)

    def test_interrupting_a_wait_leaves_the_task(
        self, client: Client, store_url: str, worker: ThreadWorker
    ) -> None:
        program = textwrap.dedent(
            f"""
            import nbqueue, sys
            q = nbqueue.connect({store_url!r})
            f = q.options(task_id="slow").submit(sum, [1, 2])
            g = q.map(abs, [-1])
            for wait in (f.result, g.results):
                try:
                    print("waiting", flush=True)
                    wait()
                except KeyboardInterrupt:
                    print("interrupted", f.state, f.done(), flush=True)
            print(f.result(), g.results(), flush=True)
            """
        )
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                for _ in range(2):
                    assert process.stdout.readline() == "waiting\n"
                    # It is in the wait, or just before it: both are interrupted.
                    process.send_signal(signal.SIGINT)
                    assert process.stdout.readline() == "interrupted pending False\n"
                assert worker.work() == 2
                assert process.stdout.readline() == "3 [1]\n"
                assert process.wait(WAIT) == 0
            finally:
                process.kill()

    def test_after_a_fork_both_go_on(self, client: Client, worker: ThreadWorker) -> None:
        before = client.submit(add, 1)
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            said = b"failed"
            try:
                mine = client.submit(add, 10)
                assert mine.id[:6] != before.id[:6]
                said = f"{mine.result(WAIT)} {before.result(WAIT)}".encode()
            finally:
                os.write(write_end, said)
                os._exit(0)
        os.close(write_end)
        with worker.running(), open(read_end, "rb") as answer:
            after = client.submit(add, 2)
            assert (before.result(WAIT), after.result(WAIT)) == (1, 2)
            assert answer.read() == b"10 1"
        os.waitpid(child, 0)


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[str]:
    """An embedded store that a test may kill."""
    home = tmp_path / "s"
    yield f"embedded://{home}"
    stop_server(home)


@pytest.fixture
def own_server_url(tmp_path: Path) -> str:
    return f"unix://{tmp_path}/r.sock"


@pytest.fixture
def own_server(
    tmp_path: Path, own_server_url: str, server_program: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server that nothing restarts."""
    path = tmp_path / "r.sock"
    words = [str(server_program.path), "--port", "0", "--unixsocket", str(path)]
    process = subprocess.Popen(
        [*words, "--dir", str(tmp_path), "--save", ""], stdout=subprocess.DEVNULL
    )
    wait_until(path.exists)
    yield process
    process.kill()
    process.wait()


def after_sending(client: Client, then: Callable[[], object]) -> Callable[..., Any]:
    """`run_packed` of the client's connection, with a call between the reply and its reading."""
    run_packed = client._session.broker._router.connection("default").run_packed

    def run(*args: Any) -> Any:
        reply = run_packed(*args)
        then()
        return reply

    return run


def lose_reply() -> None:
    error = StoreUnreachable("lost")
    error.was_sent = True
    raise error


def test_an_end_that_comes_before_its_task_is_confirmed_is_heard(
    client: Client, worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, listener = (
        client._session.broker._router.connection("default"),
        client._session.listener,
    )

    def wait_for_end() -> None:
        wait_until(lambda: not listener.outstanding())

    with worker.running():
        assert client.submit(len, "ab").result(WAIT) == 2  # from now on it is listening
        monkeypatch.setattr(channel, "run_packed", after_sending(client, wait_for_end))
        # Much sooner than a task whose end is not announced is looked at.
        assert client.submit(len, "abc").result(awaited_tasks.OWN_INTERVAL / 2) == 3


def test_a_lost_reply_to_a_task_that_has_ended_leaves_nothing_to_wait_for(
    client: Client, worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, listener = (
        client._session.broker._router.connection("default"),
        client._session.listener,
    )

    def lose() -> None:
        wait_until(lambda: not listener.outstanding())
        lose_reply()

    with worker.running():
        assert client.submit(len, "ab").result(WAIT) == 2  # so the code is there
        monkeypatch.setattr(channel, "run_packed", after_sending(client, lose))
        assert client.submit(len, "abc").result(WAIT) == 3
        assert listener.outstanding() == []


def test_an_end_that_comes_while_all_connections_are_lost_is_looked_for_at_once(
    client: Client, worker: ThreadWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, listener = (
        client._session.broker._router.connection("default"),
        client._session.listener,
    )
    connect, has_ended = listener._loop._connect, threading.Event()
    end_channel = KEYS.end_channel(client._session.ids.prefix)

    def connect_late() -> None:
        assert has_ended.wait(WAIT)
        connect()

    def lose() -> None:
        listener._connection.subscription._raw.socket.shutdown(2)  # type: ignore[union-attr]
        wait_until(lambda: not listener._connection.is_subscribed(end_channel))
        assert worker.work() == 1
        has_ended.set()
        wait_until(lambda: listener._connection.is_subscribed(end_channel))
        lose_reply()

    first = client.submit(len, "ab")
    worker.work()
    assert first.result(WAIT) == 2
    monkeypatch.setattr(listener._loop, "_connect", connect_late)
    monkeypatch.setattr(channel, "run_packed", after_sending(client, lose))
    assert client.submit(len, "abc").result(awaited_tasks.OWN_INTERVAL / 2) == 3


def test_ctrl_c_at_any_moment_of_a_submit_leaves_nothing_locked(store_url: str) -> None:
    script = """
        import random, signal, sys, time
        import redis  # an import that was interrupted would fail the next time
        import nbqueue

        def interrupt(*_):
            raise KeyboardInterrupt

        def after(seconds):
            signal.setitimer(signal.ITIMER_REAL, seconds)

        client = nbqueue.connect(sys.argv[1])
        client.submit(len, "ab")
        signal.signal(signal.SIGALRM, interrupt)
        until, count = time.monotonic() + 2, 0
        while time.monotonic() < until:
            try:
                after(random.uniform(0.00005, 0.0006))
                for _ in range(3):
                    client.submit(len, "abc")
                after(0)
            except KeyboardInterrupt:
                count += 1
            after(0)
            if client._session.listener._state.lock._is_owned():
                sys.exit("the lock is held")
        assert count > 50, count
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), store_url],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_interrupted_map_returns_at_once_and_takes_back_what_it_enqueued(
    store_url: str, client: nbqueue.Client
) -> None:
    script = """
        import itertools, signal, sys, time
        import nbqueue

        at = 0.0

        def interrupt(*_):
            global at
            at = time.monotonic()
            raise KeyboardInterrupt

        client = nbqueue.connect(sys.argv[1])
        client.submit(len, "ab")
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
        try:
            client.map(abs, itertools.count())
        except KeyboardInterrupt:
            print(time.monotonic() - at)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), store_url],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1.5
    assert "being cancelled in the background" in done.stderr
    # Its exit waited for that.
    assert client.inspector.queue("default").pending == 1
