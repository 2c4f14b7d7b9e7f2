"""Limits with real workers: never exceeded, kept over time, fair; waiting takes no slot."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waits import let_time_pass

import nbqueue

HOUR = 3_600


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("NBQUEUE_KEY", "5b" * 32)
    client = nbqueue.connect(lab.url)
    yield client
    client.close()


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    path.touch()
    return path


def work(path: str, name: Any, seconds: float = 0.0) -> None:
    """Note when it began and ended, in one write each."""

    def note(sign: str) -> None:
        line = f"{time.time():.6f} {sign} {name} {os.getpid()}\n".encode()
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.write(file, line)
        os.close(file)

    note("+")
    time.sleep(seconds)
    note("-")


def nap(seconds: float) -> None:
    time.sleep(seconds)


def entries(journal: Path) -> list[tuple[float, str, str, int]]:
    lines = [line.split(" ") for line in journal.read_text().splitlines()]
    return sorted((float(at), sign, name, int(pid)) for at, sign, name, pid in lines)


def most_at_once(journal: Path, dead: Callable[[int], bool] = lambda pid: False) -> int:
    running: list[int] = []
    most = 0
    for _, sign, _, pid in entries(journal):
        if sign == "+":
            running.append(pid)
        else:
            running.remove(pid)
        most = max(most, len([p for p in running if not dead(p)]))
    return most


def begun(journal: Path, prefix: str = "") -> list[float]:
    return [at for at, sign, name, _ in entries(journal) if sign == "+" and name.startswith(prefix)]


def test_never_more_at_a_time_than_allowed(lab: Any, q: Any, journal: Path) -> None:
    with lab.worker(concurrency=4), lab.worker(concurrency=4):
        limit = nbqueue.Limit("api", concurrency=3)
        group = q.options(limit=limit).map(work, [str(journal)] * 30, range(30), [0.1] * 30)
        group.results(timeout=60)
    assert most_at_once(journal) == 3
    assert q.inspector.limits() == [("api", 3, None, 0, 0, None)]


def test_the_first_submitted_runs_first(lab: Any, q: Any, journal: Path) -> None:
    with lab.worker(concurrency=4):
        limit = nbqueue.Limit("api", concurrency=1)
        q.options(limit=limit).map(work, [str(journal)] * 20, range(20)).results(timeout=60)
    assert [name for _, sign, name, _ in entries(journal) if sign == "+"] == [
        str(i) for i in range(20)
    ]


def test_a_killed_worker_leaves_its_places_to_others(lab: Any, q: Any, journal: Path) -> None:
    first = lab.start_worker(concurrency=4, lease="2s")
    limit = nbqueue.Limit("api", concurrency=3)
    group = q.options(limit=limit).map(work, [str(journal)] * 12, range(12), [1.0] * 12)
    lab.wait_until(lambda: len(begun(journal)) == 3)
    first.executors()
    first.signal(signal.SIGKILL)
    with lab.worker(concurrency=4, lease="2s"):
        group.results(timeout=90)
    assert most_at_once(journal, lambda pid: pid in first.seen) <= 3
    assert q.inspector.limits() == [("api", 3, None, 0, 0, None)]


@pytest.mark.parametrize(
    ("rate", "a_second"),
    [
        ("10/s", 10),
        pytest.param("100/s", 100, marks=pytest.mark.slow),
        pytest.param((20, 2), 10, marks=pytest.mark.slow),
    ],
)
def test_a_rate_is_kept(lab: Any, q: Any, journal: Path, rate: Any, a_second: int) -> None:
    number = 3 * a_second
    with lab.worker(concurrency=4):
        q.submit(nap, 0).result(timeout=30)
        limit = nbqueue.Limit("api", rate=rate)
        group = q.options(limit=limit).map(work, [str(journal)] * number, range(number))
        group.results(timeout=60)
    times = begun(journal)
    took = times[-1] - times[0]
    print(f"{number} tasks at {a_second}/s took {took:.2f} s")
    assert took >= 3 - 1 / a_second - 0.25
    assert took < 6
    within = max(sum(1 for t in times if 0 <= t - start < 1) for start in times)
    assert within <= a_second * 1.3 + 1


def test_what_waits_takes_no_slot_and_no_retry(lab: Any, q: Any) -> None:
    with lab.worker(concurrency=1):
        limit = nbqueue.Limit("slow", rate="1/h")
        waiting = q.options(limit=limit).map(nap, [0] * 50)
        waiting[0].result(timeout=30)
        began = time.monotonic()
        q.submit(nap, 0).result(timeout=30)
        assert time.monotonic() - began < 10
        states = lab.broker.states("default", [f.id for f in waiting.futures])
        assert states == ["completed"] + ["scheduled"] * 49
        record = lab.find(waiting[1].id)
        assert (record.attempt, record.message.retried) == (0, 0)


def test_ten_thousand_that_wait_do_not_delay_another_key(lab: Any, q: Any) -> None:
    limit = nbqueue.Limit(lambda seconds, user: f"api.{user}", rate="1/s")
    with lab.worker(concurrency=2):
        q.submit(nap, 0).result(timeout=30)
        q.options(limit=limit).map(lambda seconds, user: None, [0] * 10_000, ["many"] * 10_000)
        began = time.monotonic()
        q.options(limit=limit).submit(lambda seconds, user: None, 0, "few").result(timeout=60)
        took = time.monotonic() - began
        print(f"another key's first task took {took:.2f} s behind 10,000")
        assert took < 5
        began = time.monotonic()
        q.options(limit=limit).submit(lambda seconds, user: None, 0, "other").result(timeout=60)
        assert time.monotonic() - began < 2


def test_a_limit_is_changed_and_removed_while_tasks_wait(lab: Any, q: Any) -> None:
    with lab.worker(concurrency=2):
        group = q.options(limit=nbqueue.Limit("api", rate="1/h")).map(nap, [0] * 30)
        group[0].result(timeout=30)
        lab.wait_until(lambda: q.inspector.limits()[0].waiting == 29)
        q.set_limit(nbqueue.Limit("api", rate="50/s"))
        lab.wait_until(lambda: q.inspector.limits()[0].waiting < 20)
        q.set_limit(nbqueue.Limit("api", rate="1/h"))
        assert q.remove_limit("api") is True
        group.results(timeout=30)
        assert q.inspector.limits() == []
        assert q.remove_limit("api") is False


def test_messages_and_delayed_tasks_are_limited_too(lab: Any, q: Any, journal: Path) -> None:
    limit = nbqueue.Limit("api", concurrency=1)
    path = str(journal)
    q.serve("note", lambda task: work(path, "m", 0.1))
    with lab.worker(concurrency=4):
        named = nbqueue.Limit(lambda payload: payload["to"], concurrency=1)
        futures = [q.enqueue("note", {"to": "api"}, limit=named, retention=60) for _ in range(4)]
        delayed = q.options(limit=limit, delay=0.5)
        futures += [delayed.submit(work, path, "d", 0.1) for _ in range(4)]
        for future in futures:
            future.result(timeout=60)
    assert most_at_once(journal) == 1


def test_a_retry_goes_through_the_limit_again(lab: Any, q: Any, journal: Path) -> None:
    def fail(path: str) -> None:
        work(path, "x")
        raise ValueError("again")

    with lab.worker(concurrency=2):
        limit = nbqueue.Limit("api", rate="2/s")
        options = q.options(limit=limit, retry=3, retry_delay=0.01)
        assert isinstance(options.submit(fail, str(journal)).exception(timeout=60), ValueError)
    times = begun(journal)
    assert len(times) == 4
    # The first one's process had to begin, after it was let in.
    assert times[3] - times[1] > 0.8


def test_a_queue_never_runs_more_than_it_may(lab: Any, q: Any, journal: Path) -> None:
    q.set_concurrency("default", 2)
    first = lab.start_worker(concurrency=4, lease="2s")
    with lab.worker(concurrency=4, lease="2s"), lab.worker(concurrency=4, lease="2s"):
        group = q.map(work, [str(journal)] * 30, range(30), [0.1] * 30)
        lab.wait_until(lambda: len(begun(journal)) >= 8)
        first.executors()
        first.signal(signal.SIGKILL)
        group.results(timeout=90)
        assert most_at_once(journal, lambda pid: pid in first.seen) <= 2
        q.set_concurrency("default", None)
        journal.write_text("")
        q.map(work, [str(journal)] * 6, range(6), [0.5] * 6).results(timeout=60)
        assert most_at_once(journal) > 2


@pytest.mark.slow
def test_a_full_queue_is_not_asked_all_the_time(lab: Any, q: Any) -> None:
    q.set_concurrency("default", 1)
    with lab.worker(concurrency=4):
        slow = q.submit(nap, 3)
        more = q.map(nap, [0] * 5)
        lab.wait_until(lambda: lab.state(slow.id) == "active")
        before = lab.redis.info("commandstats")["cmdstat_evalsha"]["calls"]
        let_time_pass(1)
        calls = lab.redis.info("commandstats")["cmdstat_evalsha"]["calls"] - before
        assert calls < 30
        more.results(timeout=30)


def test_tasks_that_run_after_each_other_keep_their_order(lab: Any, q: Any, journal: Path) -> None:
    def deploy(path: str) -> None:
        work(path, "deploy", 0.05)

    with lab.worker(concurrency=4):
        after = q.options(unique=HOUR, on_conflict="after")
        futures = [after.submit(deploy, str(journal)) for _ in range(8)]
        done: list[str] = []
        for future in futures:
            future.add_done_callback(lambda f: done.append(f.id))
        for future in futures:
            future.result(timeout=60)
    assert most_at_once(journal) == 1
    assert done == [future.id for future in futures]


def test_one_that_waits_for_a_lock_can_be_cancelled(lab: Any, q: Any, journal: Path) -> None:
    def deploy(path: str) -> None:
        work(path, "deploy", 1.0)

    after = q.options(unique=HOUR, on_conflict="after")
    with lab.worker(concurrency=4):
        first, second, third = (after.submit(deploy, str(journal)) for _ in range(3))
        lab.wait_until(lambda: lab.state(first.id) == "active")
        assert second.cancel() is True
        third.result(timeout=30)
    assert len(begun(journal)) == 2
