"""Slices are read one ahead; none is lost with the connection of the reader."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import load, task

from nbqueue.broker.broker import Broker
from nbqueue.broker.read_ahead import Ask, read_ahead
from nbqueue.broker.reads.list_tasks import Wanted, list_tasks
from nbqueue.errors import StoreError
from nbqueue.transport.topology import ANYWHERE

KEY = "asynq:{q}:pending"
IDS = [f"t{i}" for i in range(5)]


def as_words(start: int) -> Ask:
    return ("LRANGE", KEY, start, start)


def as_script(start: int) -> Ask:
    return list_tasks("q", KEY, start, Wanted(), limit=1)


@pytest.fixture(params=[as_words, as_script], ids=["words", "script"])
def ask(request: pytest.FixtureRequest, redis: Any) -> Any:
    load(redis, {"pending": IDS, **{f"t:{each}": task(each, "pending") for each in IDS}})
    return request.param


def all_of(broker: Broker, ask: Any) -> Any:
    """The ids that are read, one by one."""
    numbers = iter(range(1, len(IDS)))

    def following(reply: Any) -> Ask | None:
        return next((ask(number) for number in numbers), None)

    for reply in read_ahead(broker, "q", ask(0), following):
        yield (reply[2] if isinstance(reply[0], int) else reply)[0].decode()


def others(redis: Any) -> set[str]:
    """The connections to the store but the test's own."""
    own = str(redis.client_id())
    return {each["id"] for each in redis.client_list()} - {own}


def test_all_slices_come_in_order_and_the_connection_is_closed(
    broker: Broker, redis: Any, ask: Any
) -> None:
    broker.call(("PING",), on=ANYWHERE)
    before = others(redis)
    reading = all_of(broker, ask)
    assert next(reading) == IDS[0]
    assert len(others(redis) - before) == 1
    assert list(reading) == IDS[1:]
    assert others(redis) <= before


def test_one_slice_needs_no_other_connection(broker: Broker, redis: Any) -> None:
    broker.call(("PING",), on=ANYWHERE)
    before = others(redis)
    for _ in read_ahead(broker, "q", as_words(0), lambda reply: None):
        assert others(redis) == before


def test_who_stops_early_leaves_no_connection(broker: Broker, redis: Any, ask: Any) -> None:
    broker.call(("PING",), on=ANYWHERE)
    before = others(redis)
    reading = all_of(broker, ask)
    next(reading)
    reading.close()
    assert others(redis) <= before


def test_what_was_under_way_on_a_lost_connection_is_asked_again(
    broker: Broker, redis: Any, ask: Any
) -> None:
    broker.call(("PING",), on=ANYWHERE)
    before = others(redis)
    found = []
    for each in all_of(broker, ask):
        found.append(each)
        for number in others(redis) - before:
            redis.client_kill_filter(_id=number)
    assert found == IDS


def test_a_script_that_was_flushed_is_loaded_again(broker: Broker, redis: Any, ask: Any) -> None:
    found = []
    for each in all_of(broker, ask):
        found.append(each)
        redis.script_flush()
    assert found == IDS


@pytest.mark.usefixtures("odd_store")
def test_a_refusal_is_raised(broker: Broker, redis: Any) -> None:
    redis.set("text", "x")
    asks = iter([("LRANGE", "text", 0, 1)])
    with pytest.raises(StoreError, match="WRONGTYPE"):
        list(read_ahead(broker, "q", ("PING",), lambda reply: next(asks, None)))
