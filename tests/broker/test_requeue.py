"""requeue: a task goes back to the front of the pending list."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Zset, dump, load, task
from transitions import (
    FENCE,
    LEASE_MS,
    SCORE,
    SINCE,
    TOKEN,
    WHO,
    active,
    attempt,
    attempts,
    events,
    failure,
    fetched,
)

from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle, maintenance
from nbqueue.broker.commands.requirements import park_required

WAITING = {"pending": ["z"], "t:z": task("z", "pending", {"pending_since": 1})}
OWN = {"nbq:lease": f"{TOKEN}|{SINCE}"}


@pytest.mark.parametrize(
    ("how", "number", "more", "entries"),
    [
        ("unstarted", 2, {}, []),
        ("interrupted", 3, {}, [attempt("a", "interrupted", attempt="3")]),
        ("lost", 3, {"nbq:lost": 1}, [attempt("a", "lost", attempt="3")]),
        ("unbegun", 3, {"nbq:unbegun": 1}, [attempt("a", "lost", attempt="3")]),
    ],
)
def test_requeue(
    broker: Any, redis: Any, how: str, number: int, more: Any, entries: list[Any]
) -> None:
    load(redis, {**WAITING, **fetched(active("a", {"nbq:attempt": 3}), active("b"))})
    command = failure_commands.requeue("q", failure("a", attempt=3), how, NOW_MS, WHO)
    assert broker.run(command) is True
    after = {
        **WAITING,
        "pending": ["z", "a"],  # the tail is taken next
        **fetched(active("b")),
        "t:a": task("a", "pending", {**OWN, "pending_since": SINCE, "nbq:attempt": number, **more}),
        **events(("requeued", "a")),
        **(attempts(*entries) if entries else {}),
    }
    assert dump(redis) == after
    assert broker.run(command) is False
    assert dump(redis) == after


@pytest.mark.parametrize("text", ["text", "", "1.5", "inf", "nan", "9" * 400, str(2**63 - 1)])
@pytest.mark.parametrize(
    ("how", "field"), [("unstarted", "attempt"), ("lost", "lost"), ("unbegun", "unbegun")]
)
def test_it_goes_back_whatever_somebody_wrote_where_it_is_counted(
    broker: Any, redis: Any, how: str, field: str, text: str
) -> None:
    load(redis, fetched(active("a", {f"nbq:{field}": text})))
    assert broker.run(failure_commands.requeue("q", failure("a"), how, NOW_MS, WHO)) is True
    content = dump(redis)
    assert content["pending"] == ["a"]
    assert int(content["t:a"][f"nbq:{field}"]) in (-1, 1)
    assert content["own:events"] == events(("requeued", "a"))["own:events"]
    [again] = broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, "other"))
    assert again.task_id == "a"


@pytest.mark.parametrize("text", ["text", "1.5", "inf", "9" * 400])
def test_it_is_parked_whatever_somebody_wrote_as_the_number_of_its_attempts(
    broker: Any, redis: Any, text: str
) -> None:
    load(redis, fetched(active("a", {"nbq:attempt": text})))
    assert broker.run(park_required("q", "a", FENCE, "gpu", NOW_MS))
    assert dump(redis)["t:a"]["state"] == "scheduled"


def test_it_is_the_next_to_be_fetched_as_if_nothing_had_been(broker: Any, redis: Any) -> None:
    load(redis, {**WAITING, **fetched(active("a"))})
    broker.run(failure_commands.requeue("q", failure("a"), "unstarted", NOW_MS, WHO))
    [again] = broker.run(lifecycle.fetch("q", 1, NOW_MS, LEASE_MS, "other"))
    assert (again.pending_since_ns, again.attempt, again.lost) == (SINCE, 1, 0)
    assert dump(redis)["t:a"]["nbq:lease"] == f"other|{SINCE}"


def test_several_keep_their_order_when_the_last_goes_back_first(broker: Any, redis: Any) -> None:
    load(redis, {**WAITING, **fetched(active("a"), active("b"))})
    for task_id in ("b", "a"):
        broker.run(failure_commands.requeue("q", failure(task_id), "unstarted", NOW_MS, WHO))
    assert dump(redis)["pending"] == ["z", "b", "a"]


def test_a_stranger_changes_nothing(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    before = dump(redis)
    command = failure_commands.requeue("q", failure("a", fence="Tother"), "lost", NOW_MS, WHO)
    assert broker.run(command) is False
    assert dump(redis) == before


def test_who_found_the_lease_expired_puts_the_task_back(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    [found] = broker.run(maintenance.expired("q", LEASE_MS + 1))
    again = failure("a", fence=found.fence)
    assert broker.run(failure_commands.requeue("q", again, "lost", NOW_MS, WHO)) is True
    assert broker.run(failure_commands.requeue("q", again, "lost", NOW_MS, WHO)) is False
    content = dump(redis)
    assert content["t:a"]["pending_since"] == SINCE
    assert content["t:a"]["nbq:lost"] == 1


def test_a_task_lost_by_a_program_in_go_does_not_inherit_an_earlier_time_of_waiting(
    broker: Any, redis: Any
) -> None:
    load(redis, {**fetched(active("a")), "lease": Zset(a=int(SCORE))})
    [found] = broker.run(maintenance.expired("q", LEASE_MS + 31_000))
    again = failure("a", fence=found.fence)
    assert broker.run(failure_commands.requeue("q", again, "lost", NOW_MS, WHO)) is True
    assert "pending_since" not in dump(redis)["t:a"]
