"""Handles of schedules: actions, refusals and displays. No worker runs."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import nbqueue
from nbqueue.client.client import Client
from nbqueue.errors import ScheduleNotFound, TaskNotFound, UnknownNameWarning, UsageError
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.schedule_record import decode_entry

KEYS = queue_keys("default")
UTC = timezone.utc


def add(a: int = 0, b: int = 0) -> int:
    return a + b


def entry_of(redis: Any, schedule_id: str) -> Any:
    return decode_entry(redis.hget(KEYS.schedules, schedule_id))


def test_a_handle_says_all_about_it(client: Client, redis: Any) -> None:
    s = client.schedule(add, "0 7 * * *", args=(1,), kwargs={"b": 2}, tz="Europe/Paris", id="s")
    assert (s.id, s.queue, s.spec, s.tz, s.paused, s.runs) == (
        "s", "default", "0 7 * * *", "Europe/Paris", False, 0,
    )  # fmt: skip
    assert s.type.endswith("add")
    assert s.prev_at is None
    assert s.last() is None
    assert s.history() == []
    assert s.next_at is not None
    assert s.next_at.utcoffset() == timedelta(0)
    assert "'s' '0 7 * * *' (Europe/Paris)" in repr(s)
    assert "Europe/Paris" in str(s._repr_html_())
    [row] = client.inspector.schedules().rows()
    assert row["arguments"].endswith("add(1, b=2)")
    assert (row["id"], row["next_at"], row["last_task_id"]) == ("s", s.next_at, None)
    assert client.inspector.schedules("default") == [s]
    with pytest.warns(UnknownNameWarning, match="there is no queue 'other'"):
        assert client.inspector.schedules("other") == []
    assert client.inspector.schedules()["s"] == s
    assert client.inspector.schedules()[0] == s
    with pytest.raises(ScheduleNotFound, match="'t'"):
        client.inspector.schedules()["t"]
    assert redis.sismember("asynq:queues", "default")


def test_a_default_id_is_the_name_and_a_digest_of_the_arguments(client: Client) -> None:
    first = client.schedule(add, "@daily")
    assert first.id.endswith("add")
    ids = [client.schedule(add, "@daily", args=(n,)).id for n in (1, 2, 1)]
    assert ids[0] == ids[2] != ids[1]
    one, two = (client.schedule(fn, "@daily").id for fn in (lambda: 1, lambda: 2))
    assert one != two
    assert client.schedule_message("m", None, "@daily").id == "m"
    with_payload = [client.schedule_message("m", {"n": n}, "@daily").id for n in (1, 2)]
    assert len({*with_payload, "m"}) == 3


def test_scheduling_again_replaces_and_puts_nothing_off(client: Client, redis: Any) -> None:
    s = client.schedule(add, "@every 1h", args=(1,), id="s")
    s.pause()
    before = s.next_at
    redis.zincrby(KEYS.schedule_due, -5000, "s")
    client.schedule(add, "@every 1h", args=(2,), id="s")
    assert before is not None
    assert s.next_at == before - timedelta(seconds=5)
    assert s.paused
    client.schedule(add, "@every 2h", args=(2,), id="s")
    assert s.next_at is not None
    assert s.next_at > before
    assert len(client.inspector.schedules()) == 1


def test_every_way_to_schedule(client: Client, redis: Any) -> None:
    @client.task(queue="gpu", retry=3)
    def fit(lr: float) -> float:
        return lr

    assert fit.schedule("@daily", args=(0.1,), id="a").queue == "gpu"
    assert client.schedule(fit, "@daily", args=(0.1,), id="b", queue="low").queue == "low"
    assert client.options(queue="x").schedule(add, "@daily", id="c").queue == "x"
    assert client.options(queue="x").schedule_message("t", 1, "@daily", id="d").type == "t"
    raw = redis.hget(queue_keys("gpu").schedules, "a")
    assert decode_entry(raw).task().retry == 3


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"spec": "61 * * * *"}, "minute '61'"),
        ({"spec": ""}, "spec="),
        ({"tz": "Mars/Olympus"}, "'Mars/Olympus'"),
        ({"id": "a b"}, "id='a b'"),
        ({"id": ""}, "id=''"),
        ({"id": "x" * 201}, "200 characters"),
        ({"id": 3}, "id=3"),
        ({"missed": "never"}, "missed='never'"),
        ({"overlap": 1}, "overlap=1"),
        ({"jitter": "soon"}, "jitter='soon'"),
        ({"start": "2026"}, "start='2026'"),
        ({"until": datetime(2026, 1, 1)}, "time zone"),
        ({"until": datetime(2020, 1, 1, tzinfo=UTC)}, "never due"),
        ({"max_runs": 0}, "max_runs=0"),
        ({"max_runs": True}, "max_runs=True"),
        ({"task_id": "x"}, "task_id="),
        ({"delay": 3}, "delay="),
        ({"at": datetime(2040, 1, 1, tzinfo=UTC)}, "at="),
        ({"deadline": datetime(2040, 1, 1, tzinfo=UTC)}, "deadline="),
        ({"on_conflict": "replace"}, "on_conflict="),
        ({"retries": 3}, "'retries'"),
        ({"queue": "{x}"}, "queue="),
    ],
)
def test_what_cannot_be_right_is_refused(
    client: Client, redis: Any, settings: dict[str, Any], part: str
) -> None:
    arguments = {"spec": "@daily", **settings}
    with pytest.raises(UsageError) as caught:
        client.schedule(add, **arguments)
    assert part in str(caught.value)
    with pytest.raises(UsageError):
        client.schedule_message("t", None, **arguments)
    assert redis.keys("nbqueue:*") == []


def test_what_cannot_be_sent_is_refused_when_it_is_scheduled(client: Client) -> None:
    import threading

    with pytest.raises(nbqueue.CannotPickle):
        client.schedule(add, "@daily", args=(threading.Lock(),))
    with pytest.raises(UsageError, match="payload"):
        client.schedule_message("t", object(), "@daily")


def test_update(client: Client, redis: Any) -> None:
    s = client.schedule(add, "@every 1h", args=(1,), id="s", unique="1h", jitter="5s")
    before = s.next_at
    lock = entry_of(redis, "s").task().unique_key
    assert s.update(missed="all", jitter=None) is s
    entry = entry_of(redis, "s")
    assert (entry.missed, entry.jitter_ms, entry.spec) == ("all", 0, "@every 1h")
    with pytest.raises(UsageError, match="fn="):
        s.update(args=(2,))
    s.update(fn=add, args=(2,), spec="@daily", tz="Asia/Tokyo")
    entry = entry_of(redis, "s")
    assert entry.task().unique_key != lock
    assert entry.text.endswith("add(2)")
    assert s.next_at != before
    for wrong in ({"id": "t"}, {"retry": 3}, {"payload": 3}, {"spec": "x"}):
        with pytest.raises(UsageError):
            s.update(**wrong)
    message = client.schedule_message("t", 1, "@daily", id="m")
    message.update(payload={"n": 2})
    assert entry_of(redis, "m").task().payload == b'{"n":2}'
    with pytest.raises(UsageError, match="message"):
        message.update(args=(1,))


def test_run_now_enqueues_one_more(client: Client, redis: Any) -> None:
    s = client.schedule(add, "@daily", args=(1,), id="s", name="sum", retention="1h")
    future = s.run_now()
    assert future.state == "pending"
    assert client.get("sum").id == future.id
    assert s.prev_at is not None
    last = s.last()
    assert last is not None
    assert last.id == future.id
    [once] = s.history()
    assert (once["outcome"], once["due"], once["task_id"]) == ("enqueued", None, future.id)
    redis.delete(KEYS.pending, KEYS.task(future.id))
    with pytest.raises(TaskNotFound, match="the last of the schedule 's'"):
        s.last()


def test_nothing_is_left_of_what_was_removed(client: Client, redis: Any) -> None:
    s = client.schedule(add, "@daily", id="s")
    redis.zadd("asynq:scheduler_history:default:s", {"x": 1})
    assert s.remove() is True
    assert s.remove() is False
    for use in (s.pause, s.resume, s.run_now, s.history, s.last, s.update):
        with pytest.raises(ScheduleNotFound):
            use()
    assert repr(s) == "<Schedule 's' queue=default>"
    assert s._repr_html_() is None
    assert redis.keys("*schedule*") == []


def test_a_handle_does_not_travel(client: Client) -> None:
    import pickle

    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(client.schedule(add, "@daily"))
