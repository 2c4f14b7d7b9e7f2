"""Announced ends count if signed, or confirmed by the store; forged ones do not.

Any program that reaches Redis may publish on the channels of ends.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from thread_worker import ThreadWorker
from waits import wait_until

from nbqueue import Client, connect
from nbqueue.calls import payloads
from nbqueue.calls.functions import dump_value
from nbqueue.client.completion.unconfirmed_ends import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    MOST_AT_ONCE,
    UnconfirmedEnds,
)
from nbqueue.client.results.outcome import RawOutcome
from nbqueue.errors import TaskNotFound
from nbqueue.wire.keys import queue_keys

KEYS = queue_keys("default")
BODIES = {"empty": b"", "text": b'"forged"', "unsigned": payloads.pack_result(0, dump_value(666))}


def add(*numbers: int) -> int:
    return sum(numbers)


def fail() -> None:
    raise ValueError("no")


@pytest.fixture
def worker(store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


def announce(redis: Any, task_id: str, letter: bytes, body: bytes = b"") -> None:
    name = task_id.encode()
    data = struct.pack(">HcI", len(name), letter, len(body)) + name + body
    assert redis.publish(KEYS.end_channel(task_id), data) >= 1


def heard(client: Client, redis: Any) -> None:
    """Wait until the client has read all that was published before."""
    # What is announced of a task that has ended is confirmed by a look, after all looks before.
    probe = client.options(task_id=f"probe-{next(_probes)}").submit(add)
    client.inspector.delete([probe.id])
    wait_until(probe.done)


_probes = itertools.count()


@pytest.mark.parametrize("letter", [b"c", b"d", b"x", b"a", b"C", b"A", b"?"])
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("codec", ["pickle", "json"])
def test_a_forged_end_ends_no_future(
    client: Client, worker: ThreadWorker, redis: Any, letter: bytes, body: str, codec: str
) -> None:
    future = client.options(codec=codec).submit(add, 1)
    group = client.options(codec=codec).map(add, [2, 3])
    message = client.enqueue("email", {"to": 1})
    for task_id in (future.id, *group.ids, message.id):
        announce(redis, task_id, letter, BODIES[body])
    heard(client, redis)
    assert not future.done()
    assert not message.done()
    assert group.counts().done == 0
    assert future.cancel()


def test_the_true_end_counts_after_forged_ones(
    client: Client, worker: ThreadWorker, redis: Any
) -> None:
    future = client.submit(add, 1)
    for _ in range(5):
        announce(redis, future.id, b"x")
    worker.work()
    assert future.result(5) == 1


def test_a_failure_is_confirmed_by_the_store(client: Client, worker: ThreadWorker) -> None:
    future = client.submit(fail)
    worker.work()
    assert isinstance(future.exception(5), ValueError)


def test_the_error_of_an_earlier_attempt_is_no_end(
    client: Client, worker: ThreadWorker, redis: Any
) -> None:
    future = client.options(retry=3).submit(fail)
    error = worker.keys.sign_result(payloads.pack_result(payloads.EXCEPTION, b""), future.id)
    announce(redis, future.id, b"a", error)
    heard(client, redis)
    assert not future.done()


def test_a_reported_result_is_no_end(client: Client, worker: ThreadWorker, redis: Any) -> None:
    future = client.submit(add, 1)
    reported = payloads.pack_result(payloads.REPORTED, dump_value(9))
    announce(redis, future.id, b"c", worker.keys.sign_result(reported, future.id))
    heard(client, redis)
    assert not future.done()


def test_the_signed_result_of_an_earlier_task_of_the_same_id_is_no_end(
    client: Client, worker: ThreadWorker, redis: Any
) -> None:
    for chosen in ("mine", client.submit(add).id):
        client.inspector.delete(state="pending", queue="default")
        first = client.options(task_id=chosen).submit(add, 1)
        worker.work()
        assert first.result(5) == 1
        replayed = redis.hget(KEYS.task(chosen), "result")
        client.inspector.delete([chosen])
        second = client.options(task_id=chosen).submit(add, 2)
        announce(redis, chosen, b"c", replayed)
        announce(redis, chosen, b"d", replayed)
        heard(client, redis)
        assert not second.done()
        assert second.cancel()
        client.inspector.delete([chosen])


def test_an_attached_future_looks_though_the_result_is_signed(
    client: Client, worker: ThreadWorker, redis: Any
) -> None:
    future = client.submit(add, 1)
    signed = worker.keys.sign_result(BODIES["unsigned"], future.id)
    with connect(client.url) as elsewhere:
        attached = elsewhere.get(future.id)
        announce(redis, future.id, b"c", signed)
        heard(elsewhere, redis)
        assert not attached.done()
        worker.work()
        assert attached.result(5) == 1


def test_a_result_that_is_kept_for_no_time_comes_from_its_announcement(
    client: Client, worker: ThreadWorker
) -> None:
    plain = client.options(retention=0).submit(add, 1)
    as_json = client.options(retention=0, codec="json").submit(add, 2)
    held = worker.fetch(2)
    worker.succeed(held[0], 1)
    worker.complete([(held[1], b"2")])
    assert plain.result(5) == 1
    assert as_json.result(5) == 2


def test_a_deleted_task_is_gone_for_its_future(client: Client) -> None:
    future = client.submit(add, 1)
    client.inspector.delete([future.id])
    with pytest.raises(TaskNotFound):
        future.result(5)


def test_a_flood_of_forged_ends_causes_few_looks(
    client: Client, worker: ThreadWorker, redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    futures = [client.submit(add, n) for n in range(20)]
    listener = client._session.listener
    looks = 0
    look = listener._dispatcher._look_at_announced

    def counted(*args: Any) -> bool:
        nonlocal looks
        looks += 1
        return look(*args)

    monkeypatch.setattr(listener._dispatcher, "_look_at_announced", counted)
    for _ in range(100):
        for future in futures:
            announce(redis, future.id, b"x")
    worker.work(20)
    assert [future.result(10) for future in futures] == list(range(20))
    assert looks <= 12


class TestDoubts:
    def test_looks_that_find_nothing_come_less_and_less_often(self) -> None:
        unconfirmed, now, looks = UnconfirmedEnds(), 0.0, []
        while now < 10:
            unconfirmed.add("q", [("1", None)])
            if unconfirmed.take(now) is not None:
                looks.append(now)
                unconfirmed.note_look("q", ["1"], now, in_vain=True)
            now += 0.01
        pauses = [later - sooner for sooner, later in itertools.pairwise(looks)]
        assert pauses[0] == pytest.approx(FIRST_PAUSE, abs=0.02)
        assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.02)

    def test_a_look_that_confirms_all_ends_the_pauses(self) -> None:
        unconfirmed = UnconfirmedEnds()
        unconfirmed.note_look("q", [], 0.0, in_vain=True)
        unconfirmed.add("q", [("1", RawOutcome("archived"))])
        assert unconfirmed.take(0.0) is None
        assert unconfirmed.next_in(0.0) == FIRST_PAUSE
        assert unconfirmed.take(FIRST_PAUSE) == ("q", {"1": RawOutcome("archived")})
        unconfirmed.note_look("q", ["1"], 1.0, in_vain=False)
        unconfirmed.add("q", [("2", None)])
        assert unconfirmed.take(1.0) == ("q", {"2": None})
        assert unconfirmed.next_in(1.0) is None

    def test_one_look_asks_about_so_many_tasks(self) -> None:
        unconfirmed = UnconfirmedEnds()
        unconfirmed.add("q", [(str(n), None) for n in range(MOST_AT_ONCE + 1)])
        first, second = unconfirmed.take(0.0), unconfirmed.take(0.0)
        assert first is not None
        assert len(first[1]) == MOST_AT_ONCE
        assert second is not None
        assert len(second[1]) == 1
