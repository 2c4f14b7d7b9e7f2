"""append_output: what a running task printed, displayed and reported."""

from __future__ import annotations

from typing import Any

import pytest
from keyspace import NOW_MS, Expiring, Zset, dump, load
from transitions import FENCE, NOW, active, fetched

from nbqueue.broker.reads.task_outputs import Appended, Entry, append_output, read_output


def entry(number: int, data: bytes = b"x\n", kind: str = "stdout", **changed: Any) -> Entry:
    usual = {"attempt": 1, "before": 2 * (number - 1), "lines": number - 1, **changed}
    return Entry(number=number, at_ms=NOW_MS, kind=kind, data=data, **usual)


def written(*entries: Entry, seconds: int = 60) -> Expiring:
    return Expiring(
        {
            f"{each.attempt}-{each.number}": {
                "at": str(each.at_ms),
                "kind": each.kind,
                "before": str(each.before),
                "lines": str(each.lines),
                "data": each.data,
            }
            for each in entries
        },
        seconds,
    )


def appended(task_id: str, *entries: Entry, **changed: Any) -> Appended:
    return Appended(**{"task_id": task_id, "fence": FENCE, "attempt": 1, "ttl_ms": 60_000,
                       "entries": entries, **changed})  # fmt: skip


def test_entries_are_appended_for_many_tasks_at_once(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a"), active("b"), active("c")))
    one, two, other = entry(1, b"\x00\xff"), entry(2, b"{}", "display"), entry(1, b"", "clear")
    command = append_output(
        "q", [appended("a", one, two), appended("b", other, ttl_ms=5_000, progress=b'{"n":1}')]
    )
    assert broker.run(command) == []
    assert dump(redis) == {
        **fetched(
            active("a", {"nbq:output": "1-2"}),
            active("b", {"nbq:output": "1-1", "nbq:progress": '{"n":1}'}),
            active("c"),
        ),
        "own:output:a": written(one, two),
        "own:output:b": written(other, seconds=5),
    }
    assert read_output(broker, "q", "a") == [one, two]
    assert read_output(broker, "q", "a", (1, 1)) == [two]
    assert read_output(broker, "q", "c") == []


def test_a_repeat_writes_nothing_again(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    first = append_output("q", [appended("a", entry(1), entry(2), progress=b"{}")])
    broker.run(first)
    before = dump(redis)
    assert broker.run(first) == []
    assert dump(redis) == before
    assert broker.run(append_output("q", [appended("a", entry(2, b"other"), entry(3))])) == []
    assert read_output(broker, "q", "a") == [entry(1), entry(2), entry(3)]


def test_progress_alone_makes_no_output(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    broker.run(append_output("q", [appended("a", progress=b'{"n":1}')]))
    broker.run(append_output("q", [appended("a", progress=b'{"n":2}')]))
    assert dump(redis) == fetched(active("a", {"nbq:progress": '{"n":2}'}))


def test_entries_that_are_too_many_are_dropped_and_not_written_again(
    broker: Any, redis: Any
) -> None:
    load(redis, fetched(active("a")))
    broker.run(append_output("q", [appended("a", *(entry(i) for i in range(1, 6)))]))
    command = append_output("q", [appended("a", entry(6), drop=(2, 3))])
    for _ in range(2):
        assert broker.run(command) == []
        assert dump(redis) == {
            **fetched(active("a", {"nbq:output": "1-6"})),
            "own:output:a": written(*(entry(i) for i in (1, 4, 5, 6))),
        }


def test_attempts_lie_behind_each_other(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a", {"nbq:attempt": 2, "nbq:output": "1-7"})))
    load(redis, {"own:output:a": written(entry(7))})
    again = entry(1, attempt=2)
    broker.run(append_output("q", [appended("a", again, attempt=2)]))
    assert read_output(broker, "q", "a") == [entry(7), again]
    assert read_output(broker, "q", "a", (2, 0)) == [again]


def test_the_output_of_an_earlier_task_of_this_id_is_deleted(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a")), "own:output:a": written(entry(7))})
    # Progress, or the end of a task that printed nothing, deletes no output.
    broker.run(append_output("q", [appended("a", progress=b"{}")]))
    assert read_output(broker, "q", "a") == [entry(7)]
    broker.run(append_output("q", [appended("a", entry(1))]))
    assert read_output(broker, "q", "a") == [entry(1)]


def test_the_end_sets_how_long_it_is_kept(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    broker.run(append_output("q", [appended("a", entry(1))]))
    broker.run(append_output("q", [appended("a", ttl_ms=600_000)]))
    assert dump(redis)["own:output:a"] == written(entry(1), seconds=600)


@pytest.mark.parametrize("fence", ["Tother", FENCE[:-1], "T", "S2000000030.124"])
def test_who_does_not_hold_a_task_changes_nothing_of_it(
    broker: Any, redis: Any, fence: str
) -> None:
    load(redis, fetched(active("a"), active("b")))
    tasks = [appended("a", entry(1), fence=fence, progress=b"{}"), appended("b", entry(1))]
    assert broker.run(append_output("q", tasks)) == [0]
    assert dump(redis) == {
        **fetched(active("a"), active("b", {"nbq:output": "1-1"})),
        "own:output:b": written(entry(1)),
    }


@pytest.mark.parametrize("state", ["pending", "retry", "completed", "archived"])
def test_a_task_that_does_not_run_is_left_alone(broker: Any, redis: Any, state: str) -> None:
    given: Any = {"t:a": active("a") | {"state": state}}
    given[state] = ["a"] if state == "pending" else Zset(a=NOW)
    load(redis, given)
    before = dump(redis)
    assert broker.run(append_output("q", [appended("a", entry(1))])) == [0]
    assert dump(redis) == before


def test_a_task_that_is_gone_does_not_come_back(broker: Any, redis: Any) -> None:
    assert broker.run(append_output("q", [appended("a", entry(1), progress=b"{}")])) == [0]
    assert dump(redis) == {}


def test_a_key_of_another_kind_keeps_only_its_own_task_waiting(broker: Any, redis: Any) -> None:
    load(redis, {**fetched(active("a"), active("b")), "own:output:a": "no stream"})
    tasks = [appended("a", entry(1)), appended("b", entry(1))]
    assert broker.run(append_output("q", tasks)) == [0]
    assert dump(redis)["own:output:a"] == "no stream"
    assert read_output(broker, "q", "b") == [entry(1)]


def test_what_somebody_wrote_by_hand_is_skipped(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a", {"nbq:output": "1-1"})))
    redis.xadd("nbqueue:{q}:output:a", {"odd": "1"}, id="1-3")
    broker.run(append_output("q", [appended("a", entry(2), entry(4))]))
    assert read_output(broker, "q", "a") == [entry(4)]


def test_live_views_are_told(broker: Any, redis: Any) -> None:
    task_id = "0123456789abc"
    load(redis, fetched(active(task_id)))
    with redis.pubsub() as listener:
        listener.subscribe("nbqueue:{q}:live:012345")
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        broker.run(append_output("q", [appended(task_id, entry(1), news=b"news")]))
        assert listener.get_message(timeout=5)["data"] == b"news"


def test_a_long_output_is_read_in_slices(broker: Any, redis: Any) -> None:
    load(redis, fetched(active("a")))
    entries = [entry(i) for i in range(1, 1202)]
    broker.run(append_output("q", [appended("a", *entries)]))
    assert read_output(broker, "q", "a") == entries
