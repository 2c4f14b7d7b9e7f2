"""Large arguments and results, through every kind of executor, whole and in every state."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy
import pytest

import nbqueue
import nbqueue.testing
from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.calls.functions import dump_arguments
from nbqueue.calls.payloads import pack_call, parse_call
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage

KEY = "5b" * 32
KEYS = queue_keys("default")
SIZES = [8_000, 8_200, 40_000, 400_000]
"""Numbers in an array: around the limit of what is large, and far beyond."""


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[nbqueue.Client]:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    with nbqueue.connect(lab.server.url) as client:
        yield client


def add_one(array: Any) -> Any:
    array += 1  # a received array is writable
    return array


async def add_one_later(array: Any) -> Any:
    await asyncio.sleep(0)
    return add_one(array)


def fail_with(data: bytes, tries: int) -> int:
    task = nbqueue.current_task()
    assert task is not None
    if task.attempt < tries:
        raise ValueError(len(data))
    return len(data)


def give(count: int) -> bytes:
    return b"x" * count


@pytest.mark.parametrize("executor", ["process", "thread"])
def test_arrays_go_and_come_back(lab: Any, q: nbqueue.Client, executor: str) -> None:
    with lab.worker(concurrency=2, executor=executor):
        for function in (add_one, add_one_later):
            arrays = [numpy.arange(float(size)) for size in SIZES]
            for array, result in zip(arrays, q.map(function, arrays).results(), strict=True):
                assert (result == array + 1).all()
                result += 1  # and so is a returned one


def test_what_lies_in_the_store_is_what_a_small_task_leaves(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=1):
        small, large = q.submit(give, 5), q.submit(give, 500_000)
        sent = q.submit(len, b"y" * 500_000)
        assert [len(small.result(30)), len(large.result(30)), sent.result(30)] == [5, 5e5, 5e5]
    hashes = [lab.redis.hgetall(KEYS.task(each.id)) for each in (small, large, sent)]
    for fields in hashes:
        message = TaskMessage.FromString(fields[b"msg"])
        assert message.completed_at > 0
        assert fields[b"state"] == b"completed"
        assert len(fields[b"msg"]) + len(fields[b"result"]) < 500
    extra = [fields.keys() - hashes[0].keys() for fields in hashes]
    assert extra[0] == set()
    assert sorted(name[:11] for name in extra[1]) == [b"nbq:preview", b"nbq:result:"]
    assert extra[2] == {b"nbq:args:0"}
    assert not lab.redis.keys("*staged*")


def test_a_large_task_that_fails_is_tried_again_with_all_of_its_arguments(
    lab: Any, q: nbqueue.Client
) -> None:
    with lab.worker(concurrency=1):
        retried = q.options(retry=3, retry_delay=0).submit(fail_with, b"z" * 300_000, 3)
        failed = q.options(retry=0).submit(fail_with, b"z" * 300_000, 3)
        with pytest.raises(ValueError, match="300000"):
            failed.result(30)
        assert retried.result(60) == 300_000


def test_a_large_result_that_is_not_kept_is_told(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=1):
        future = q.options(retention=0).submit(give, 300_000)
        assert len(future.result(30)) == 300_000
    assert not lab.redis.exists(KEYS.task(future.id))


def test_small_tasks_do_not_wait_for_large_ones(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=2):
        large = [q.submit(add_one, numpy.zeros(1_000_000)) for _ in range(6)]
        small = q.map(give, range(50))
        assert list(map(len, small.results())) == list(range(50))
        assert all((each.result(60) == 1).all() for each in large)


def test_a_task_whose_arguments_were_changed_is_refused(lab: Any, q: nbqueue.Client) -> None:
    once = q.options(retry=0)
    changed, missing, good = (once.submit(len, b"y" * 300_000) for _ in range(3))
    lab.redis.hset(KEYS.task(changed.id), "nbq:args:0", b"evil")
    lab.redis.hdel(KEYS.task(missing.id), "nbq:args:0")
    with lab.worker(concurrency=1):
        for refused in (changed, missing):
            with pytest.raises(nbqueue.SignatureError, match="arguments of the call"):
                refused.result(30)
        assert good.result(30) == 300_000


def test_a_result_whose_pieces_were_changed_is_not_loaded(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=1):
        future = q.submit(give, 300_000)
        assert len(future.result(30)) == 300_000
    assert q.get(future.id).result(30) == future.result(30)
    [name] = [each for each in lab.redis.hkeys(KEYS.task(future.id)) if b"result:" in each]
    lab.redis.hset(KEYS.task(future.id), name, b"evil")
    with pytest.raises(nbqueue.SignatureError, match="body of the result"):
        q.get(future.id).result(30)


def test_calls_of_the_old_format_run(lab: Any, q: nbqueue.Client) -> None:
    """Calls whose arguments are all in the message."""
    small, keys = q.submit(len, b""), q._session.keyring
    message = TaskMessage.FromString(lab.redis.hget(KEYS.task(small.id), "msg"))
    fingerprint = parse_call(message.payload).fingerprint
    message.id = "old"
    unsigned = pack_call(fingerprint, dump_arguments((b"z" * 300_000,), {}))
    message.payload = keys.sign_call(unsigned, "old", "default", message.type)
    q._session.broker.enqueue(
        EnqueueRequest("default", [NewTask("old", message.SerializeToString())])
    )
    with lab.worker(concurrency=1):
        assert q.get("old").result(30) == 300_000
    assert q.get("old").replay() == 300_000


def test_what_asks_for_arguments_and_results_gets_them(lab: Any, q: nbqueue.Client) -> None:
    with lab.worker(concurrency=1):
        future = q.submit(add_one, numpy.zeros(20_000))
        assert future.result(30).sum() == 20_000
    assert future.replay().sum() == 20_000
    assert future.reported().sum() == 20_000
    table = q.tasks(columns=["arguments", "result"])
    assert table["arguments"].iloc[0][0][0].sum() == 0
    assert table["result"].iloc[0].sum() == 20_000


def test_a_drain_reads_arguments_too(q: nbqueue.Client) -> None:
    future = q.submit(len, b"y" * 300_000)
    assert nbqueue.testing.drain(q) == 1
    assert future.result(30) == 300_000
