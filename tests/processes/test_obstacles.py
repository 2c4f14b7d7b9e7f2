"""Why nothing happens: said by handles, clients, waits and schedules."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.client.live import display
from nbqueue.client.obstacles import obstacle_watch
from nbqueue.client.obstacles.other_stores import find_elsewhere
from nbqueue.dashboard.queue_list import QueueList
from nbqueue.dashboard.scope import Scope
from nbqueue.store import running_stores
from nbqueue.store.connection import connect
from nbqueue.store.embedded import stop_server


@pytest.fixture
def q(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[nbqueue.Client]:
    # A busy machine may take longer for a read than a question usually waits.
    monkeypatch.setattr(obstacle_watch, "_PATIENCE_SECONDS", 20.0)
    client = nbqueue.connect(lab.url)
    client._session.keyring = lab.keys
    yield client
    client.close()


def fresh(thing: Any) -> str:
    """Return its repr from a new read of the store."""
    watch = thing._session.obstacles
    with watch._changed:
        watch._facts = None
    return repr(thing)


def unserved(lab: Any, queue: str = "default") -> str:
    return f"no worker serves queue {queue!r} at {lab.store.url.place}"


def test_every_handle_says_that_no_worker_serves_its_queue(lab: Any, q: nbqueue.Client) -> None:
    future = q.submit(abs, 1)
    group = q.map(abs, [2, 3])
    schedule = q.schedule(abs, "@hourly", args=(1,), id="s")
    why = unserved(lab)
    assert repr(future) == f"<TaskFuture abs pending: {why}; id={future.id}>"
    assert repr(group) == f"<TaskGroup abs 0 of 2 done: {why}; id={group.id}>"
    assert repr(q) == f"<Client of {q.url}: {why}>"
    assert why in repr(schedule)
    for thing in (q, schedule):
        assert "nbqueue worker --url" in thing._repr_html_()
    for handle in (future, group):
        bundle = handle._repr_mimebundle_()
        assert f"! {why}: `nbqueue worker --url {q.url}` starts one" in bundle["text/plain"]
        assert "no worker serves queue" in bundle["text/html"]
    waits = (
        future.result,
        group.results,
        lambda t: next(group.as_completed(t)),
        lambda t: q.wait_for_workers(1, t),
    )
    for wait in waits:
        with pytest.raises(TimeoutError) as caught:
            wait(0)
        assert why in str(caught.value)
    lab.start_worker()
    assert group.results(20) == [2, 3]
    assert future.result(20) == 1
    wait_until(lambda: fresh(q) == f"<Client of {q.url}>")
    schedule.pause()
    assert repr(schedule).endswith("paused, until s.resume()>")
    assert "s.resume()" in schedule._repr_html_()


def test_obstacles_of_a_served_queue_are_said_while_they_last(lab: Any, q: nbqueue.Client) -> None:
    lab.start_worker(queues=["default", "critical"], concurrency=4)
    mistyped = q.options(queue="critcal").submit(abs, 1)
    assert " (did you mean 'critical'?)" in fresh(mistyped)
    q.inspector.pause("default")
    future = q.submit(abs, 1)
    assert "pending: queue 'default' is paused; id=" in fresh(future)
    q.inspector.unpause("default")
    assert future.result(20) == 1
    hold = lab.folder / "hold"
    hold.touch()

    def held(path: str, n: int) -> int:
        while os.path.exists(path):
            threading.Event().wait(0.01)
        return n

    one = q.options(limit=nbqueue.Limit("one", concurrency=1))
    first, second = one.submit(held, str(hold), 1), one.submit(held, str(hold), 2)
    unique = q.options(unique="1h", on_conflict="after")
    third, fourth = unique.submit(held, str(hold), 3), unique.submit(held, str(hold), 3)
    for waiting, running, text in (
        (second, first, "limit 'one' is used up, and 1 task waits for it: task {} has its only"),
        (fourth, third, "another task holds the unique lock: {}, for 59m "),
    ):
        wait_until(lambda t=text, r=running, w=waiting: t.format(r.id) in fresh(w))
    assert "limit 'one' is used up, and 1 task waits for it" in fresh(q)
    assert "unique lock" not in repr(q)
    q.set_concurrency("default", 2)
    fifth = q.submit(abs, 5)
    wait_until(lambda: "runs at most 2 tasks at a time, and 2 run" in fresh(fifth))
    assert repr(first).endswith(f"active id={first.id}>")
    hold.unlink()
    assert [f.result(20) for f in (first, second, third, fourth, fifth)] == [1, 2, 3, 3, 5]


def test_workers_that_are_gone_or_going_are_told_apart(lab: Any, q: nbqueue.Client) -> None:
    worker = lab.start_worker()
    name = worker.worker.id.rpartition(":")[0]
    future = q.options(queue="default", delay=0).submit(abs, 1)
    assert future.result(20) == 1
    worker.signal(signal.SIGTSTP)
    wait_until(lambda: f"{name} fetches no more tasks" in fresh(q.submit(abs, 1)))
    lab.redis.zrem("asynq:servers", *lab.redis.zrange("asynq:servers", 0, -1))
    worker.signal(signal.SIGKILL)
    worker.wait()
    lab.redis.delete(*lab.redis.keys("asynq:servers*"))
    assert f"{name} last reported " in fresh(q.submit(abs, 1))


def test_it_goes_away_within_a_second_and_costs_one_read_a_second(
    lab: Any, q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[float] = []
    read = obstacle_watch.FactReader.read

    def counted(self: Any, wanted: Any) -> Any:
        reads.append(time.monotonic())
        return read(self, wanted)

    monkeypatch.setattr(obstacle_watch.FactReader, "read", counted)
    futures = [q.options(queue=f"q{i % 3}").submit(abs, i) for i in range(30)]
    seen: dict[int, Any] = {}
    stops = [
        q._session.obstacles.follow(f._sample, lambda found, i=i: seen.__setitem__(i, found))
        for i, f in enumerate(futures)
    ]
    begun = time.monotonic()
    wait_until(lambda: len(seen) == 30 and all(seen.values()))
    assert time.monotonic() - begun < 5
    lab.start_worker(queues=["q0", "q1", "q2"])
    wait_until(lambda: not any(seen.values()))
    assert all(later - earlier > 0.9 for earlier, later in pairwise(reads))
    for stop in stops:
        stop()
    wait_until(lambda: q._session.obstacles._thread is None)


def test_a_script_says_once_why_it_waits(
    lab: Any, q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "NOTICE_SECONDS", 0.1)
    monkeypatch.setattr(obstacle_watch, "READ_SECONDS", 0.1)
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    future, group = q.submit(abs, 1), q.map(abs, [1, 2])
    line = f"nbqueue: {unserved(lab)}: `nbqueue worker --url {q.url}` starts one\n"
    with pytest.raises(TimeoutError):
        future.result(0.6)
    assert written.getvalue() == line
    with pytest.raises(TimeoutError):
        list(group.as_completed(0.6))
    with pytest.raises(TimeoutError):
        group.results(0.6)
    nbqueue.wait(future, group, timeout=0.6)
    with pytest.raises(asyncio.TimeoutError):
        asyncio.run(asyncio.wait_for(_result(future), 0.6))
    assert written.getvalue() == line, "the same reason again"
    q.inspector.pause("default")
    assert not group.wait(0.6)
    assert written.getvalue().startswith(line + "nbqueue: queue 'default' is paused: `q.insp")
    q.inspector.unpause("default")
    written.close()
    with pytest.raises(TimeoutError):
        future.result(0.6)  # standard error is closed
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(TimeoutError):
        future.result(0.6)


async def _result(future: nbqueue.TaskFuture[int]) -> int:
    return await future


def test_a_task_that_ends_soon_is_not_looked_at(lab: Any, q: nbqueue.Client) -> None:
    lab.start_worker()
    assert [q.submit(abs, i).result(20) for i in range(20)] == list(range(20))
    assert q.map(abs, range(50)).results(20) == list(range(50))
    assert q._session._obstacles is None


def test_a_store_that_is_away_delays_nothing(
    lab: Any, q: nbqueue.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    future = q.submit(abs, 1)
    assert unserved(lab) in repr(future)
    monkeypatch.setattr(obstacle_watch, "_PATIENCE_SECONDS", 0.25)
    lab.server.process.send_signal(signal.SIGSTOP)
    try:
        with q._session.obstacles._changed:
            q._session.obstacles._facts = None
        began = time.monotonic()
        assert q._session.obstacles.look({"default": ()}) == ()
        assert q._session.obstacles.known_of_queues(["default"]) == {}
        assert time.monotonic() - began < 1
    finally:
        lab.server.process.send_signal(signal.SIGCONT)


def test_a_panel_is_given_what_is_known_without_waiting(lab: Any, q: nbqueue.Client) -> None:
    q.submit(abs, 1)
    watch = q._session.obstacles
    assert watch.known_of_queues(["default", "other"]) == {}
    found = wait_until(lambda: watch.known_of_queues(["default", "other"]))
    assert [each.kind for each in found["default"]] == ["no_worker"]
    queues = QueueList(Scope(q))
    queues.read()
    assert [(row.queue, row.state) for row in queues.rows] == [("default", "no worker")]
    assert [notice.sentence for notice in queues.notices] == [unserved(lab)]
    lab.start_worker()
    wait_until(lambda: queues.read() or queues.rows[0].state == "running")
    assert queues.notices == []


def test_a_worker_at_another_embedded_store_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, q: nbqueue.Client
) -> None:
    url = f"embedded://{tmp_path / 's'}"
    with connect(url) as store, nbqueue.Worker(url, queues=["render"], concurrency=1) as worker:
        assert find_elsewhere(q._session.store.url, ["render"]) == {"render": ()}
        # Stores of other tests are hidden otherwise.
        monkeypatch.setattr(running_stores, "_SOCKETS", Path("/proc/net/unix"))
        if not running_stores._SOCKETS.exists():
            pytest.skip("only Linux lists sockets")
        future = q.options(queue="render").submit(abs, 1)
        why = wait_until(lambda: "another store" in (text := fresh(future)) and text)
        assert f"a worker for 'render' (process {worker.pid}, started in " in why
        assert f"runs at another store, {store.url.place}" in why
        with pytest.raises(TimeoutError, match=r"starts one.*[.] `nbqueue.connect.*uses that one"):
            future.result(0)
        assert f"store={store.url.place} " in repr(worker)
        assert store.url.place in worker._repr_html_()
        assert find_elsewhere(store.url, ["render"]) == {"render": ()}
    stop_server(tmp_path / "s")


def test_workers_are_waited_for(lab: Any, q: nbqueue.Client) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(q.wait_for_workers(2, 40, queue="gpu")))
    thread.start()
    lab.start_worker(queues=["gpu"])
    with pytest.raises(TimeoutError, match=r"1 worker of 2 serves queue 'gpu' at "):
        q.wait_for_workers(2, 0.1, queue="gpu")
    lab.start_worker(queues=["gpu", "default"])
    thread.join(40)
    assert found == [2]
    assert q.wait_for_workers(timeout=0) == 1
    waiting = threading.Thread(target=lambda: found.append(_why_ended(q)))
    waiting.start()
    wait_until(lambda: q._session._woken_on_close)
    q.close()
    waiting.join(5)
    assert "the client was closed while workers of queue 'none' were waited for" in str(found[-1])
    q = nbqueue.connect(lab.url)
    for wrong in (0, 1.5, "2"):
        with pytest.raises(nbqueue.UsageError, match="n="):
            q.wait_for_workers(wrong)  # type: ignore[arg-type]
    q.close()


def _why_ended(q: nbqueue.Client) -> Any:
    try:
        return q.wait_for_workers(queue="none")
    except nbqueue.StoreError as error:
        return error


def test_a_forked_child_finds_obstacles_too(lab: Any, q: nbqueue.Client) -> None:
    code = (
        "import os, sys, nbqueue\n"
        "q = nbqueue.connect(sys.argv[1]); f = q.submit(abs, 1); repr(f)\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    f = q.submit(abs, 2)\n"
        "    while 'no worker' not in (text := repr(f)): pass\n"
        "    print(text, flush=True); os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, lab.url],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert unserved(lab) in done.stdout
