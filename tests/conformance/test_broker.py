"""A broker reads and writes Asynq's format on a store of any kind."""

from __future__ import annotations

from typing import Any

import golden
import pytest
from golden import enqueue
from keyspace import check_invariants, dump

from nbqueue.client.client import Client


@pytest.fixture
def still(q: Client, clock: Any) -> Client:
    """A client whose time stands still."""
    q._session.clock = q._session.broker.clock = clock
    return q


@pytest.mark.parametrize(("options", "content"), golden.ENQUEUED)
def test_new_tasks_are_stored_as_asynq_does(
    still: Client, redis: Any, options: Any, content: Any
) -> None:
    enqueue(still, **options)
    assert golden.read(redis) == content


@pytest.mark.parametrize("state", golden.STATES)
def test_tasks_of_asynq_are_read_in_every_state(q: Client, redis: Any, state: str) -> None:
    golden.write(redis, golden.STATES[state])
    future = q.get("gold-1")
    assert (future.state, future.type, future.queue) == (state, "email:deliver", "q")
    assert list(q.tasks().index) == ["gold-1"]
    assert golden.read(redis) == golden.STATES[state]


@pytest.mark.parametrize("state", ["pending", "scheduled", "retry"])
def test_tasks_of_asynq_are_cancelled(q: Client, redis: Any, state: str) -> None:
    golden.write(redis, golden.STATES[state])
    assert q.get("gold-1").cancel()
    assert golden.read(redis)[golden.TASK][b"state"] == b"archived"


def test_many_tasks_are_enqueued_listed_and_removed(q: Client, redis: Any) -> None:
    q.options(queue="a").map(int, range(1_500))
    q.options(queue="b", delay="1h").map(int, range(700))
    q.options(queue="b", group="g").enqueue("t", b"x")
    sizes = {name: q.inspector.queue(name).size for name in q.inspector.queues()}
    assert sizes == {"a": 1_500, "b": 701}
    assert len(q.tasks()) == 2_201
    for queue in ("a", "b"):
        q.inspector.remove_queue(queue, force=True)
    assert q.inspector.queues() == []


def test_the_store_makes_sense_after_transitions_by_hand(q: Client, redis: Any) -> None:
    ids = [q.options(queue="q").enqueue("t", b"x").id for _ in range(20)]
    q.inspector.archive(ids[:10])
    q.inspector.run(ids[:5])
    q.inspector.delete(ids[5:7])
    content = dump(redis)
    check_invariants(content)
    assert len(content["pending"]) == 15
    assert len(content["archived"]) == 3
