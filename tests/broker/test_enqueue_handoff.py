"""enqueue: a single task is handed to a worker that offered to take it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from keyspace import NOW_MS, Stream, Zset, dump, encoded, full_name, load, task, without_memory
from transitions import LEASE_MS, TOKEN

from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import offer_text
from nbqueue.broker.commands.limits import limited, set_concurrency
from nbqueue.errors import StoreError
from nbqueue.tasks.new_task import NewTask

NEW = NewTask("a b\nc", encoded("a b\nc", payload=b"\x00\n\xff"))
CHANNEL = lifecycle.hand_channel("q", "host:1:ab", 1)
NS = NOW_MS * 1_000_000
LINE = {
    "pending": [NEW.task_id],
    f"t:{NEW.task_id}": task(NEW.task_id, "pending", {"pending_since": NS}, payload=b"\x00\n\xff"),
    "own:events": Stream([{"event": "enqueued", "at": str(NOW_MS), "id": NEW.task_id}]),
}


@pytest.fixture
def worker(redis: Any) -> Iterator[Any]:
    """The connection on which a worker is notified."""
    with redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(CHANNEL)
        heard.get_message(timeout=5)
        yield heard


def offer(broker: Any, token: str = TOKEN, until_ms: int = NOW_MS, channel: str = CHANNEL) -> None:
    text = offer_text(until_ms, LEASE_MS, channel, token)
    broker.run(lifecycle.add_offer("q", text, 60_000))


def enqueue(broker: Any, *tasks: NewTask, **more: Any) -> Any:
    return broker.run(enqueue_commands.enqueue("q", tasks or [NEW], NOW_MS, **more))


def told(worker: Any, count: int) -> list[Any]:
    found = [worker.get_message(timeout=5) for _ in range(count)]
    assert worker.get_message(timeout=0.02) is None
    return [lifecycle.read_handed(each["data"]) for each in found]


def take_offers(redis: Any) -> int:
    """Return the number of offers, and delete them.

    They expire, and so are no lasting part of the store.
    """
    count: int = redis.llen(full_name("own:offers"))
    redis.delete(full_name("own:offers"))
    return count


def test_it_is_as_if_the_worker_had_fetched_it(broker: Any, redis: Any, worker: Any) -> None:
    offer(broker)
    assert enqueue(broker) == []
    handed = dump(redis)
    [found] = told(worker, 1)
    assert (found.queue, found.token) == ("q", TOKEN)

    redis.flushall()
    enqueue(broker)
    assert [found.task] == broker.run(lifecycle.fetch("q", 9, NOW_MS, LEASE_MS, TOKEN))
    fetched = dump(redis)
    assert fetched == handed


def test_each_offer_is_used_once_and_the_oldest_first(broker: Any, redis: Any, worker: Any) -> None:
    for number in (1, 2):
        offer(broker, token=f"host:1:ab:5:{number}")
    for task_id in "abc":
        enqueue(broker, NewTask(task_id, encoded(task_id)))
    found = [(each.task.task_id, each.token) for each in told(worker, 2)]
    assert found == [("a", "host:1:ab:5:1"), ("b", "host:1:ab:5:2")]
    assert dump(redis)["pending"] == ["c"]


@pytest.mark.parametrize(
    ("settings", "tasks"),
    [
        ({"paused": "1"}, [NEW]),
        ({}, [NEW, NewTask("z", encoded("z"))]),
        ({}, [NEW._replace(msg=encoded("a b\nc", payload=b"x" * 70_000))]),
        ({"pending": ["o"], "t:o": task("o", "pending", {"pending_since": 1})}, [NEW]),
    ],
    ids=["paused", "many", "large", "others wait"],
)
def test_the_line_is_for_all_else(
    broker: Any, redis: Any, worker: Any, settings: Any, tasks: Any
) -> None:
    load(redis, settings)
    offer(broker)
    enqueue(broker, *tasks)
    told(worker, 0)
    assert take_offers(redis) == 1
    content = dump(redis)
    assert content["pending"][-1:] == (settings.get("pending") or [NEW.task_id])
    assert "active" not in content


def test_in_a_queue_with_a_limit_of_its_own_nothing_is_offered(
    broker: Any, redis: Any, worker: Any
) -> None:
    offer(broker)
    broker.run(set_concurrency("q", 5))
    assert take_offers(redis) == 0
    assert broker.run(lifecycle.add_offer("q", "an offer", 60_000)) == 0
    assert take_offers(redis) == 0
    broker.run(set_concurrency("q", None))
    offer(broker)
    assert take_offers(redis) == 1


@pytest.mark.usefixtures("odd_store")
@pytest.mark.parametrize("odd", ["active", "lease"])
def test_what_cannot_be_handed_is_not_written(
    broker: Any, redis: Any, worker: Any, odd: str
) -> None:
    load(redis, {odd: "text"})
    offer(broker)
    with pytest.raises(StoreError, match="WRONGTYPE"):
        enqueue(broker)
    told(worker, 0)
    assert take_offers(redis) == 1
    assert dump(redis, without=("asynq:queues",)) == {odd: "text"}


def test_without_memory_nothing_is_handed(broker: Any, redis: Any, worker: Any) -> None:
    offer(broker)
    with without_memory(redis), pytest.raises(StoreError, match="full"):
        enqueue(broker)
    told(worker, 0)
    assert take_offers(redis) == 1
    assert dump(redis) == {}


def test_a_task_with_a_limit_stands_in_line(broker: Any, redis: Any, worker: Any) -> None:
    offer(broker)
    enqueue(broker, limited(NEW, "l"))
    told(worker, 0)
    assert take_offers(redis) == 1
    assert dump(redis)["pending"] == [NEW.task_id]


def test_an_offer_that_nobody_answers_for_is_passed_over(
    broker: Any, redis: Any, worker: Any
) -> None:
    offer(broker, channel="nbqueue:{q}:hand:gone:1")
    offer(broker, until_ms=1_000_000_000_000)
    redis.lpush(full_name("own:offers"), "no offer at all")
    offer(broker)
    enqueue(broker)
    assert [each.token for each in told(worker, 1)] == [TOKEN]
    assert not redis.exists(full_name("own:offers"))


def test_if_nobody_answers_it_is_as_if_there_had_been_no_offer(broker: Any, redis: Any) -> None:
    offer(broker)
    enqueue(broker)
    assert dump(redis) == LINE


def test_who_listens_to_everything_is_no_worker(broker: Any, redis: Any) -> None:
    with redis.pubsub(ignore_subscribe_messages=True) as heard:
        heard.psubscribe("*")
        heard.get_message(timeout=5)
        offer(broker)
        enqueue(broker)
        assert heard.get_message(timeout=0.02) is None
    assert dump(redis) == LINE


def test_the_clock_of_the_client_may_have_stood_still(broker: Any, redis: Any, worker: Any) -> None:
    for until_ms in (1_000_000_000_000, NOW_MS):  # long ago, and to come, for the store
        offer(broker, until_ms=until_ms)
    broker.run(enqueue_commands.enqueue("q", [NEW], 900_000_000_000))
    told(worker, 1)
    assert dump(redis)["lease"] == Zset({NEW.task_id: 2_000_000_030.123})


def test_a_repeated_try_finds_it_handed(broker: Any, redis: Any, worker: Any) -> None:
    offer(broker)
    offer(broker)
    enqueue(broker)
    assert enqueue(broker, repeated=True) == []
    told(worker, 1)
    assert take_offers(redis) == 1
    assert dump(redis)["active"] == [NEW.task_id]


def test_an_id_that_exists_is_not_handed(broker: Any, redis: Any, worker: Any) -> None:
    enqueue(broker)
    redis.delete(full_name("pending"))
    offer(broker)
    assert enqueue(broker) == [0]
    told(worker, 0)
    assert take_offers(redis) == 1
    redis.delete(full_name(f"t:{NEW.task_id}"))


def test_an_offer_can_be_taken_back_until_it_is_used(broker: Any, redis: Any, worker: Any) -> None:
    text = offer_text(NOW_MS, LEASE_MS, CHANNEL, TOKEN)
    broker.run(lifecycle.add_offer("q", text, 60_000))
    assert redis.pttl(full_name("own:offers")) > 50_000
    assert broker.call(lifecycle.withdraw_offer("q", text), on="q") == [1]
    assert broker.call(lifecycle.withdraw_offer("q", text), on="q") == [0]
    enqueue(broker)
    told(worker, 0)
    assert dump(redis) == LINE


@pytest.mark.parametrize("data", [b"", b"a b\n", b"t 1 2 q", b"t 1 x q\nabc", b"t 1 9 q\nabc"])
def test_what_makes_no_sense_is_no_task(data: bytes) -> None:
    assert lifecycle.read_handed(data) is None
