"""Schedules, from the client through real workers."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest

import nbqueue
from nbqueue.client.client import Client
from nbqueue.clock import from_ms, to_ms
from nbqueue.wire.ids import made_ms
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import GO_ZERO_SECONDS, SchedulerEnqueueEvent, SchedulerEntry

KEY = "5b" * 32
KEYS = queue_keys("default")
RECORD = "asynq:schedulers:{nbqueue:default}"


def mark(path: str, word: str = "x") -> str:
    # One write to a file opened to append: whole lines, even with other writers.
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (word + "\n").encode())
    os.close(descriptor)
    return word


def mark_id(path: str) -> None:
    task = nbqueue.current_task()
    assert task is not None
    mark(path, task.id)


def wait_for_file(path: str) -> None:
    import time

    while not os.path.exists(path):
        time.sleep(0.02)


@pytest.fixture
def q(lab: Any) -> Iterator[Client]:
    client = nbqueue.connect(lab.url, key=KEY)
    yield client
    client.close()


def set_due(lab: Any, schedule_id: str, due_ms: int) -> None:
    """Set the time at which the schedule is due."""
    lab.redis.zadd(KEYS.schedule_due, {schedule_id: due_ms})


def outcomes(schedule: Any) -> Counter[str]:
    return Counter(each["outcome"] for each in schedule.history(1000))


def test_a_call_runs_whenever_it_is_due(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    with lab.worker():
        schedule = q.schedule(mark, "@every 1s", args=(path,), kwargs={"word": "w"}, id="tick")
        lab.wait_until(lambda: len(lab.marks("marks")) >= 3, 30)
        schedule.pause()
        last = schedule.last()
    assert set(lab.marks("marks")) == {"w"}
    history = [each for each in schedule.history() if each["outcome"] == "enqueued"]
    assert all((each["at"] - each["due"]).total_seconds() < 5 for each in history)
    due = [each["due"] for each in history]
    assert all(a - b == timedelta(seconds=1) for a, b in pairwise(due))
    assert last is not None
    assert last.id == history[0]["task_id"]
    assert schedule.prev_at == due[0]


def test_two_workers_fire_each_time_once_and_one_goes_on_alone(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    first = lab.start_worker()
    lab.start_worker()
    schedule = q.schedule(mark_id, "@every 1s", args=(path,))
    lab.wait_until(lambda: len(lab.marks("marks")) >= 3, 30)
    first.signal(signal.SIGKILL)
    before = len(lab.marks("marks"))
    lab.wait_until(lambda: len(lab.marks("marks")) >= before + 3, 30)
    schedule.remove()
    events = [e for e in lab.redis.xrange(KEYS.events) if e[1][b"event"] == b"enqueued"]
    ids = [e[1][b"ids"].decode() for e in events]
    times = [made_ms(i, 2**53) for i in ids]
    assert None not in times
    assert len(set(times)) == len(times)
    assert times == list(range(times[0], times[-1] + 1, 1000))


def test_a_paused_one_runs_not_until_it_is_resumed_and_by_hand(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    schedule = q.schedule(mark, "@every 1s", args=(path,), id="s")
    schedule.pause()
    assert schedule.paused
    with lab.worker():
        lab.wait_until(lambda: outcomes(schedule)["paused"] >= 2, 30)
        assert lab.marks("marks") == []
        assert schedule.run_now().result("30s") == "x"
        assert lab.marks("marks") == ["x"]
        schedule.resume()
        lab.wait_until(lambda: len(lab.marks("marks")) >= 2, 30)
    assert not schedule.paused


def test_what_is_changed_while_workers_run_holds_at_once(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    with lab.worker():
        schedule = q.schedule(mark, "@yearly", args=(path, "a"), id="s")
        assert schedule.next_at is not None
        assert schedule.next_at > datetime(2026, 1, 1, tzinfo=timezone.utc)
        schedule.update(spec="@every 1s", args=(path, "b"))
        lab.wait_until(lambda: "b" in lab.marks("marks"), 30)
        again = q.schedule(mark, "@every 1s", args=(path, "c"), id="s")
        assert again == schedule
        lab.wait_until(lambda: "c" in lab.marks("marks"), 30)
        assert schedule.remove()
        lab.wait_until(lambda: lab.length("pending") + lab.length("active") == 0)
        number = len(lab.marks("marks"))
        with pytest.raises(nbqueue.ScheduleNotFound, match="'s'"):
            schedule.next_at  # noqa: B018
        assert not schedule.remove()
        assert q.inspector.schedules() == []
        # A later one proves that time passed.
        other = q.schedule(mark, "@every 1s", args=(lab.mark_file("other"),), id="o")
        lab.wait_until(lambda: len(lab.marks("other")) >= 2, 30)
        other.remove()
        lab.wait_until(lambda: lab.redis.keys("asynq:scheduler*") == [])
    assert len(lab.marks("marks")) == number
    assert "a" not in lab.marks("marks")
    assert lab.redis.keys("nbqueue:{default}:schedule*") == []


@pytest.mark.parametrize(("missed", "runs"), [("once", 1), ("skip", 0), ("all", 3)])
def test_missed_runs(lab: Any, q: Client, missed: str, runs: int) -> None:
    path = lab.mark_file("marks")
    schedule = q.schedule(mark, "@every 1h", args=(path,), id="s", missed=missed)
    now_ms = lab.broker.clock.now_ms()
    set_due(lab, "s", now_ms // 1000 * 1000 - 2 * 3_600_000 - 600_000)
    with lab.worker():
        lab.wait_until(lambda: schedule.next_at > from_ms(now_ms), 30)
        lab.wait_until(lambda: len(lab.marks("marks")) == runs, 30)
        lab.wait_until(lambda: lab.length("pending") + lab.length("active") == 0)
    assert outcomes(schedule) == Counter({"enqueued": runs, "missed": 0 if missed == "all" else 1})
    if missed != "all":
        [over] = [each for each in schedule.history() if each["outcome"] == "missed"]
        assert over["detail"].startswith("3 missed" if missed == "skip" else "2 missed")
    assert len(lab.marks("marks")) == runs


def test_without_overlap_a_run_waits_for_none_and_is_passed_over(lab: Any, q: Client) -> None:
    gate = lab.mark_file("gate")
    with lab.worker():
        schedule = q.schedule(wait_for_file, "@every 1s", args=(gate,), id="s", overlap=False)
        lab.wait_until(lambda: outcomes(schedule)["overlap"] >= 2, 30)
        assert outcomes(schedule)["enqueued"] == 1
        mark(gate)
        lab.wait_until(lambda: outcomes(schedule)["enqueued"] >= 2, 30)


def test_schedules_survive_the_store(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    with lab.worker():
        schedule = q.schedule(mark, "@every 1s", args=(path,), id="s")
        lab.wait_until(lambda: lab.marks("marks"), 30)
        lab.server.kill()
        number = len(lab.marks("marks"))
        lab.server.start()
        lab.wait_until(lambda: len(lab.marks("marks")) >= number + 2, 30)
        assert schedule.spec == "@every 1s"


def test_a_message_goes_to_whoever_handles_it(lab: Any, q: Client) -> None:
    schedule = q.options(retention="1h", retry=2).schedule_message(
        "email:digest", {"to": "all"}, "@every 1s", id="s", max_runs=2
    )
    with lab.worker():
        lab.wait_until(lambda: schedule.next_at is None, 30)
    assert schedule.runs == 2
    last = schedule.last()
    assert last is not None
    record = lab.find(last.id)
    assert record is not None
    assert (record.message.type, record.message.payload) == ("email:digest", b'{"to":"all"}')
    assert (record.message.retry, record.message.retention) == (2, 3600)
    assert last.id[:6] == schedule.history()[1]["task_id"][:6]
    assert "never again" in repr(schedule)


def test_a_worker_without_a_scheduler_fires_nothing(lab: Any, q: Client) -> None:
    schedule = q.schedule(mark, "@every 1h", args=(lab.mark_file("marks"),), id="s")
    set_due(lab, "s", lab.broker.clock.now_ms() - 1000)
    with lab.worker(scheduler=False):
        assert lab.value(lab.submit(int)) == 0
        assert schedule.history() == []
        with lab.worker():
            lab.wait_until(lambda: lab.marks("marks"), 30)


def test_what_no_holder_of_the_key_signed_is_never_run(lab: Any, q: Client) -> None:
    path = lab.mark_file("marks")
    with nbqueue.connect(lab.url, key="6c" * 32) as other:
        other.schedule(mark, "@every 1s", args=(path, "bad"), id="s")
    with lab.worker():
        [schedule] = q.inspector.schedules()
        lab.wait_until(lambda: outcomes(schedule)["error"] >= 1, 30)
        assert "key" in schedule.history()[0]["detail"]
        with pytest.raises(nbqueue.SignatureError):
            schedule.run_now()
        # Nor may it be stored under another id, or be loaded as another kind of object.
        good = q.schedule(mark, "@yearly", args=(path, "bad"), id="good")
        entry = lab.redis.hget(KEYS.schedules, "good").replace(b'"id":"good"', b'"id":"s"')
        lab.redis.hset(KEYS.schedules, "s", entry)
        revision = lab.redis.hget(KEYS.schedule_state("good"), "revision")
        lab.redis.hset(KEYS.schedule_state("s"), "revision", revision)
        set_due(lab, "s", lab.broker.clock.now_ms() // 1000 * 1000)
        lab.redis.publish(KEYS.wake, "schedules")
        lab.wait_until(lambda: outcomes(schedule)["error"] >= 2, 30)
        assert good.run_now().result("30s") == "bad"
    assert lab.marks("marks") == ["bad"]


def test_garbage_among_the_schedules_stops_nothing(lab: Any, q: Client) -> None:
    for name, raw in (("a", "x"), ("b", "{}"), ("c", b"\xff"), ("d", "[1]")):
        lab.redis.hset(KEYS.schedules, name, raw)
        lab.redis.zadd(KEYS.schedule_due, {name: 1})
    q.schedule(mark, "@every 1s", args=(lab.mark_file("marks"),), id="s")
    with lab.worker() as worker:
        lab.wait_until(lambda: lab.marks("marks"), 30)
        assert worker.log().count("schedule refused") == 4
    rows = q.inspector.schedules().rows()
    assert [row["id"] for row in rows if row["fault"] is None] == ["s"]
    assert len(rows) == 5
    q.inspector.schedules()["a"].remove()
    assert "a" not in {each.id for each in q.inspector.schedules()}


def test_programs_of_asynq_see_each_schedule_once(lab: Any, q: Client) -> None:
    q.options(timeout="90s", retention="2h", retry=3).schedule(
        mark, "0 7 * * *", args=(lab.mark_file("m"),), id="daily", tz="Europe/Paris"
    )
    tick = q.schedule_message("t", b"\x00raw", "@every 1s", id="tick", retention="1m")
    first, second = lab.start_worker(), lab.start_worker()
    lab.wait_until(lambda: outcomes(tick)["enqueued"] >= 2, 30)

    def entries() -> dict[str, SchedulerEntry]:
        found = [SchedulerEntry.FromString(raw) for raw in lab.redis.lrange(RECORD, 0, -1)]
        assert len({each.id for each in found}) == len(found)
        return {each.id: each for each in found}

    lab.wait_until(lambda: entries()["default:tick"].prev_enqueue_time.seconds > 0, 30)
    daily = entries()["default:daily"]
    assert (daily.spec, daily.task_type) == (
        "CRON_TZ=Europe/Paris 0 7 * * *",
        q.inspector.schedules()["daily"].type,
    )
    assert b".mark(" in daily.task_payload
    assert list(daily.enqueue_options) == [
        'Queue("default")', "MaxRetry(3)", "Timeout(1m30s)", "Retention(2h0m0s)",
    ]  # fmt: skip
    assert daily.prev_enqueue_time.seconds == GO_ZERO_SECONDS
    handle = q.inspector.schedules()["daily"]
    assert daily.next_enqueue_time.seconds * 1000 == to_ms(handle.next_at)
    assert entries()["default:tick"].task_payload == b"\x00raw"
    [(member, score)] = lab.redis.zrange("asynq:schedulers", 0, -1, withscores=True)
    assert member.decode() == RECORD
    assert score == int(score)
    assert 0 < score - lab.broker.clock.now() <= 20
    assert 0 < lab.redis.ttl(RECORD) <= 20
    raw = lab.redis.zrange("asynq:scheduler_history:default:tick", 0, -1)
    ids = {SchedulerEnqueueEvent.FromString(each).task_id for each in raw}
    assert ids >= {each["task_id"] for each in tick.history() if each["task_id"]} - {
        tick.history(1)[0]["task_id"]
    }
    # One worker ends, and the other keeps writing; the last one takes it all away.
    first.signal(signal.SIGTERM)
    first.wait(30)
    lab.wait_until(lambda: lab.redis.exists(RECORD), 30)
    second.signal(signal.SIGTERM)
    second.wait(30)
    assert not lab.redis.exists(RECORD, "asynq:schedulers")


def test_code_of_a_schedule_is_kept(lab: Any, q: Client) -> None:
    schedule = q.schedule(mark, "@yearly", args=(lab.mark_file("marks"),), id="s")
    [fingerprint] = lab.redis.zrange(KEYS.code_index, 0, -1)
    lab.redis.zadd(KEYS.code_index, {fingerprint: 1, "00" * 16: 1})
    lab.redis.set(KEYS.code(bytes(16)), b"unused")
    with lab.worker():
        lab.wait_until(lambda: lab.redis.zcard(KEYS.code_index) == 1, 30)
        assert schedule.run_now().result("30s") == "x"


def test_the_command_line(lab: Any, q: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from nbqueue.cli.main import main

    monkeypatch.setenv("NBQUEUE_KEY", KEY)

    def run(*words: str, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["schedule", *words, "--url", lab.url])
        assert done.exit_code == code, done.output
        return done.output

    assert "no schedules" in run("list")
    s = q.schedule(mark, "@yearly", args=(lab.mark_file("marks"),), id="s")
    s.pause()
    assert "paused" in run("list")
    assert "Resumed s" in run("resume", "s")
    assert not s.paused
    assert "@yearly" in run("list", "-q", "default")
    run("pause", "s")
    assert s.paused
    task_id = run("run", "s").strip()
    assert lab.state(task_id) == "pending"
    assert task_id in run("history", "s")
    assert "by hand" in run("history", "s", "-n", "1")
    s.update(tz="Europe/Paris")
    assert "-01-01 00:00:00 CET" in run("resume", "s")
    assert "-01-01 00:00:00 CET" in run("list")
    q.schedule(mark, "@yearly", args=("x",), id="s", queue="other")
    assert "several queues" in run("pause", "s", code=2)
    run("remove", "s", "-q", "other")
    run("remove", "s")
    assert "no schedule 's'" in run("remove", "s", code=1)


# --- Providers ---


def provider_of(path: str) -> Any:
    """A provider that wants the types in a file, one a line."""

    def wanted() -> list[nbqueue.Periodic]:
        with open(path) as file:
            lines = file.read().split()
        return [
            nbqueue.Periodic(line.partition("=")[2] or "@yearly", line.partition("=")[0], {"n": 1})
            for line in lines
        ]

    return wanted


def test_a_provider_keeps_its_schedules_and_no_others(lab: Any, q: Client) -> None:
    path = lab.folder / "wanted"
    path.write_text("a b")
    mine = q.schedule_message("mine", None, "@yearly")

    def types() -> set[str]:
        return {each["type"] for each in q.inspector.schedules().rows()}

    from nbqueue.worker.worker import Worker

    def started(name: str) -> Any:
        worker = Worker(lab.url, concurrency=1, log=lab.folder / name)
        worker.periodic(provider_of(str(path)), "1s", name="p")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NBQUEUE_KEY", KEY)
            return worker.start()

    first, second = started("one"), started("two")
    try:
        lab.wait_until(lambda: types() == {"a", "b", "mine"}, 30)
        path.write_text("b c")
        lab.wait_until(lambda: types() == {"b", "c", "mine"}, 30)
        assert len(q.inspector.schedules()) == 3
        # A mistake in one of them changes nothing.
        path.write_text("d e=61_*_*_*_*")
        lab.wait_until(lambda: "provider failed" in (lab.folder / "one").read_text(), 30)
        path.unlink()
        lab.wait_until(lambda: "FileNotFoundError" in (lab.folder / "one").read_text(), 30)
        assert types() == {"b", "c", "mine"}
        path.write_text("")
        lab.wait_until(lambda: types() == {"mine"}, 30)
    finally:
        first.stop()
        second.stop()
    assert mine.next_at is not None
    assert {each.get("owner") for each in q.inspector.schedules().rows()} == {None}
    assert lab.attempts() == []


def test_what_no_provider_can_be_or_want_is_refused() -> None:
    from nbqueue.worker.worker import Worker

    async def wrong() -> list[nbqueue.Periodic]:
        return []

    with pytest.raises(nbqueue.UsageError, match="coroutine"):
        Worker().periodic(wrong)
    with pytest.raises(nbqueue.UsageError, match="sync_interval"):
        Worker().periodic(list, "10ms")
    with pytest.raises(nbqueue.UsageError, match="a provider"):
        Worker().periodic(3)  # type: ignore[arg-type]
    with pytest.raises(nbqueue.UsageError, match="already"):
        Worker().periodic(list).periodic(list)
    for wish in (
        {"spec": "61 * * * *", "type": "t"},
        {"spec": "@daily", "type": ""},
        {"spec": "@daily", "type": "t", "payload": object()},
        {"spec": "@daily", "type": "t", "task_id": "x"},
        {"spec": "@daily", "type": "t", "tz": "Mars"},
        {"spec": "@daily", "type": "t", "missed": "never"},
    ):
        with pytest.raises(nbqueue.UsageError):
            nbqueue.Periodic(**wish)


def test_a_queue_that_only_programs_in_go_serve_gets_its_tasks(lab: Any, q: Client) -> None:
    schedule = q.options(queue="go").schedule_message("email:digest", {"user": 1}, "@every 1s")
    with lab.worker(queues=["default"]):
        lab.wait_until(lambda: lab.redis.llen(queue_keys("go").pending) >= 3)
        assert outcomes(schedule)["enqueued"] >= 3
        schedule.remove()
    with lab.worker(queues=["default"], scheduler=False):
        assert lab.value(lab.submit(mark, os.devnull)) == "x"
