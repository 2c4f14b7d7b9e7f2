"""Reads of everything work despite queues, keys and records that make no sense."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from click.testing import CliRunner
from waits import wait_until

import nbqueue
from nbqueue.cli.main import main
from nbqueue.client.client import Client
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.wire.messages import TaskMessage

DIGITS = "9" * 400
FOREIGN = ["mail/eu", "{x}", "\udcff\udcfe", "", " a ", "\x1b[31m"]
WARNS = pytest.mark.filterwarnings("ignore::nbqueue.errors.StoreWarning")


@pytest.fixture
def q(store_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.setenv("NBQUEUE_KEY", "5b" * 32)
    client = nbqueue.connect(store_url)
    yield client
    client.close()


def put(redis: Any, queue: str, task_id: str, state: str = "pending", **message: Any) -> None:
    """A task as a program in Go writes it."""
    prefix = b"asynq:{" + os.fsencode(queue) + b"}:"
    redis.sadd("asynq:queues", os.fsencode(queue))
    body = TaskMessage(type="mail", id=task_id, payload=b"{}", **message).SerializeToString()
    redis.hset(prefix + b"t:" + task_id.encode(), mapping={"msg": body, "state": state})
    if state == "pending":
        redis.lpush(prefix + b"pending", task_id)
    else:
        redis.zadd(prefix + state.encode(), {task_id: 4_000_000_000})


@pytest.mark.parametrize("name", FOREIGN)
def test_a_queue_that_is_not_served_is_read_and_its_tasks_deleted(
    q: Client, store: Any, name: str
) -> None:
    put(store.redis, name, "a")
    put(store.redis, name, "b", "archived")
    put(store.redis, "other", "c")
    assert set(q.tasks().index) == {"a", "b", "c"}
    assert q.queues()["fault"].notna().sum() == 1
    look = q.inspector
    assert "does not serve" in str(look.queue(name).fault)
    assert [task.id for task in look.tasks(name, "pending")] == ["a"]
    assert look.task("a").queue == look.task("b", name).queue == name
    assert q.get("a").state == "pending"
    assert len(look.delete("a")) == len(look.delete(["b"], queue=name)) == 1
    assert set(q.tasks().index) == {"c"}
    [fault] = look.faults()
    assert fault.queue == name
    look.remove_queue(name)
    assert look.queues() == ["other"]


def test_a_name_that_no_program_used_is_refused_still(q: Client) -> None:
    with pytest.raises(nbqueue.UsageError, match="cannot name a queue"):
        q.inspector.queue("a/b")
    with pytest.raises(nbqueue.UsageError, match="cannot name a queue"):
        q.options(queue="a/b").submit(len, [])


@WARNS
@pytest.mark.parametrize(
    "key",
    [
        *(
            "asynq:{bad}:pending",
            "asynq:{bad}:lease",
            "asynq:{bad}:scheduled",
            "asynq:{bad}:groups",
        ),
        *("nbqueue:{bad}:attempts", "nbqueue:{bad}:schedules", "asynq:{bad}:processed"),
        *("nbqueue:{bad}:schedule_due", "asynq:{bad}:aggregation_sets", "asynq:{bad}:t:good"),
    ],
)
def test_a_key_of_another_kind_hides_nothing_else(q: Client, store: Any, key: str) -> None:
    put(store.redis, "ok", "good")
    store.redis.sadd("asynq:queues", "bad")
    if key.endswith("processed"):
        store.redis.lpush(key, "x")
    else:
        store.redis.set(key, "x")
    assert "good" in q.tasks().index
    assert list(q.queues().index) == ["bad", "ok"]
    assert q.get("good").state == "pending"
    for read in (q.attempts, q.stats, q.schedules, lambda: q.stats(by="day")):
        read()
    assert [fault.key for fault in q.inspector.faults()] == [key] or key.endswith("t:good")


def test_a_record_that_makes_no_sense_has_a_row_and_a_fault(q: Client, store: Any) -> None:
    redis = store.redis
    put(redis, "bad", "good", "completed", completed_at=1_700_000_000)
    put(redis, "bad", "far", "completed", completed_at=2**62, retention=2**62)
    put(redis, "bad", "digits")
    redis.hset("asynq:{bad}:t:digits", mapping={
        "nbq:attempt": DIGITS, "pending_since": DIGITS, "nbq:name": b"\xff",
        "nbq:progress": b"[" * 100_000,
    })  # fmt: skip
    redis.lpush("asynq:{bad}:pending", "garbled")
    redis.hset("asynq:{bad}:t:garbled", mapping={"msg": b"\xff\xff", "state": "pending"})
    put(redis, "bad", "never", "scheduled")
    redis.zadd("asynq:{bad}:scheduled", {"never": "inf"})
    redis.xadd("nbqueue:{bad}:attempts", {"task_id": "good", "type": b"\xff", "attempt": DIGITS,
               "started_at": DIGITS, "finished_at": "-5", "waited": "x"})  # fmt: skip
    redis.hset("nbqueue:{bad}:schedules", mapping={"s1": b"[" * 100_000, "s2": b"{}"})
    redis.hset("nbqueue:{bad}:limits", mapping={"l": DIGITS + "|1|1|1|1"})
    tasks = q.tasks(columns=["all", "payload", "headers", "retention", "result", "exception"])
    assert set(tasks.index[tasks["fault"].notna()]) == {"far", "digits", "garbled", "never"}
    assert q.attempts(columns="all")["fault"].notna().tolist() == [True]
    assert set(q.schedules().index[q.schedules()["fault"].notna()]) == {"s1", "s2"}
    assert q.inspector.limits("bad")[0].fault is not None
    for by in ("queue", "type", "worker", "hour", "day"):
        q.stats(by=by)
    assert q.timeline() is not None
    assert q.inspector.task("garbled").fault is not None
    with pytest.raises(nbqueue.StoreDamaged, match=r"garbled.*bad"):
        q.get("garbled")
    assert len(q.inspector.delete("garbled")) == 1
    found = {fault.key for fault in q.inspector.faults()}
    assert {f"asynq:{{bad}}:t:{i}" for i in ("far", "digits", "never")} < found


@WARNS
def test_the_command_line_shows_and_lists_faults(q: Client, store: Any, store_url: str) -> None:
    run = CliRunner()

    def nbq(*words: str) -> Any:
        return run.invoke(main, [*words, "--url", store_url])

    assert "Everything" in nbq("store", "check").output
    put(store.redis, "mail/eu", "a")
    put(store.redis, "\udcff", "b")
    store.redis.set("asynq:{bad}:pending", "x")
    store.redis.sadd("asynq:queues", "bad")
    found = nbq("store", "check")
    assert found.exit_code == 1
    assert "asynq:{bad}:pending" in found.output
    assert "\\udcff" in found.output
    listed = nbq("queue", "list")
    assert listed.exit_code == 0
    assert "mail/eu" in listed.output
    assert nbq("task", "list", "-q", "mail/eu", "-s", "pending").output.count("mail") == 1
    assert nbq("task", "inspect", "a").exit_code == 0
    assert nbq("task", "delete", "a").exit_code == 0
    assert nbq("task", "delete", "b", "-q", "\udcff").exit_code == 0


@WARNS
def test_the_panel_shows_all_tabs_beside_what_cannot_be_read(q: Client, store: Any) -> None:
    for name in ("mail/eu", "\udcff", "bad"):
        put(store.redis, name, "a")
    store.redis.set("asynq:{bad}:archived", "x")
    store.redis.hset("nbqueue:{bad}:schedules", "s", "x")
    tabs = q.panel()._tabs
    for tab in tabs if isinstance(tabs, list) else tabs.values():
        tab.html(True).encode()


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list with one element for each time that a client waited for the store."""
    seen: list[int] = []
    exchange = BlockingConnection._exchange

    def counted(self: BlockingConnection, *args: Any) -> Any:
        seen.append(1)
        return exchange(self, *args)

    monkeypatch.setattr(BlockingConnection, "_exchange", counted)
    return seen


def test_faults_of_some_of_many_queues_hide_nothing_of_the_others(
    q: Client, store: Any, round_trips: list[int]
) -> None:
    names = [f"many-{i:03d}" for i in range(450)] + [f"odd/{i:02d}" for i in range(40)]
    for name in names:
        put(store.redis, name, "good")
        put(store.redis, name, "late", "scheduled")
    bad = {
        "asynq:{many-000}:pending": {"good"},
        "asynq:{many-199}:scheduled": {"late"},
        "asynq:{many-200}:groups": set(),
        "asynq:{many-201}:aggregation_sets": set(),
        "asynq:{odd/07}:t:late": {"late"},
    }
    for key in (*bad, "nbqueue:{many-202}:attempts", "nbqueue:{many-203}:schedules"):
        store.redis.delete(key)
        store.redis.set(key, "x")
    round_trips.clear()
    queues = q.queues()
    assert list(queues.index) == names
    assert set(queues.index[queues["fault"].notna()]) == {
        *("many-000", "many-199", "many-200", "many-201"),
        *(name for name in names if "/" in name),
    }
    assert len(round_trips) < 20
    round_trips.clear()
    with pytest.warns(nbqueue.StoreWarning) as caught:
        tasks = q.tasks()
    assert {str(each.message).split("'")[1] for each in caught} == {
        *("many-000", "many-199", "many-200", "many-201"),
    }
    assert len(tasks) == 2 * len(names) - sum(map(len, bad.values()))
    assert len(round_trips) < 100
    with pytest.warns(nbqueue.StoreWarning, match="many-202"):
        q.attempts()
    assert len(q.schedules()) == 0
    assert [day[0].processed for day in q.inspector.histories(names, 1).values()] == [0] * 490
    assert [info.queue for info in q.inspector.queue_infos(["odd/03", "many-004"])] == [
        *("odd/03", "many-004"),
    ]
    with pytest.raises(nbqueue.UsageError, match="cannot name a queue"):
        q.inspector.queue_infos(["many-004", "not/there"])


def test_a_group_of_another_kind_hides_no_other_group(q: Client, store: Any) -> None:
    redis = store.redis
    put(redis, "bad", "a")
    redis.sadd("asynq:{bad}:groups", "one", "two", "three")
    redis.set("asynq:{bad}:g:two", "x")
    for group in ("one", "three"):
        redis.zadd(f"asynq:{{bad}}:g:{group}", {group: 1})
        body = TaskMessage(type="mail", id=group, payload=b"{}").SerializeToString()
        redis.hset(f"asynq:{{bad}}:t:{group}", mapping={"msg": body, "state": "aggregating"})
    with pytest.warns(nbqueue.StoreWarning, match=r"bad.*g:two"):
        tasks = q.tasks()
    assert set(tasks.index) == {"a", "one", "three"}


@WARNS
def test_what_a_task_needs_is_said_beside_a_broken_list_of_workers(q: Client, store: Any) -> None:
    for name in ("mail/eu", "bad"):
        put(store.redis, name, name, "scheduled")
        key = "asynq:{" + name + "}:t:" + name
        store.redis.hset(key, "nbq:parked", "need:python=3.11")
    store.redis.set("nbqueue:{bad}:capabilities", "x")
    for error in q.tasks(columns=["error"])["error"]:
        assert error == "needs a worker with Python 3.11; none is alive"


# --- Errors name the key ---


def add(a: int, b: int) -> int:
    return a + b


CALLS: dict[str, tuple[str, Callable[[Client], object]]] = {
    "queues": ("asynq:queues", lambda q: q.inspector.queues()),
    "groups": ("asynq:{default}:groups", lambda q: q.inspector.groups("default")),
    "submit": ("asynq:{default}:pending", lambda q: q.submit(add, 1, 2)),
    "map": ("asynq:{default}:pending", lambda q: q.map(add, [1], [2])),
    "schedule": (
        "nbqueue:{default}:schedule_due",
        lambda q: q.schedule(add, "@hourly", args=(1, 2), id="s"),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_an_error_names_the_key(q: Client, redis: Any, name: str) -> None:
    key, call = CALLS[name]
    q.options(group="g").enqueue("t")  # the queue is there
    redis.delete(key)
    redis.hset(key, "odd", "type")
    with pytest.raises(nbqueue.StoreDamaged) as caught:
        call(q)
    assert repr(key) in str(caught.value)


def test_a_warning_of_a_worker_names_the_key(lab: Any) -> None:
    lab.redis.sadd("asynq:queues", "default")
    lab.redis.set("asynq:{default}:completed", "odd")
    worker = lab.start_worker()
    wait_until(lambda: "'asynq:{default}:completed'" in worker.log())
