"""Ending a worker: tasks that finish, tasks that are given back, replies."""

from __future__ import annotations

import itertools
import os
import signal
import time
from typing import Any

import pytest
from click.testing import CliRunner

from nbqueue.broker.commands.presence import drain_worker
from nbqueue.cli.main import main


def nap(seconds: float) -> str:
    time.sleep(seconds)
    return "rested"


def note_and_nap(path: str, seconds: float) -> str:
    with open(path, "a") as file:
        file.write("x ")
    time.sleep(seconds)
    return "rested"


def note_word(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word + " ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_running_tasks_may_end_and_long_ones_go_back_to_the_head(lab: Any, number: int) -> None:
    worker = lab.start_worker(shutdown_timeout=2)
    short = lab.submit(note_and_nap, lab.mark_file("ran"), 1)
    long = lab.submit(note_and_nap, lab.mark_file("ran"), 60)
    lab.wait_until(lambda: len(lab.marks("ran")) == 2)
    others = [lab.submit(nap, 0) for _ in range(3)]
    executors = worker.executors()
    began = time.monotonic()
    worker.signal(number)
    assert worker.wait() == 0
    took = time.monotonic() - began
    assert 1.5 < took < 5
    lab.wait_until(lambda: all(map(lab.is_gone, executors)), 2)
    assert lab.state(short) == "completed"
    assert lab.pending() == [long, *others]
    assert lab.outcomes(long) == ["interrupted"]
    assert lab.outcomes(others[0]) == []
    assert lab.length("active") == lab.length("lease") == 0
    assert lab.find(long).message.retried == 0
    log = worker.log()
    assert "worker ends" in log
    assert "worker ended" in log


def test_an_idle_worker_ends_at_once(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=30)
    executors = worker.executors()
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert time.monotonic() - began < 2
    lab.wait_until(lambda: all(map(lab.is_gone, executors)), 2)


def test_a_second_signal_ends_it_at_once_and_gives_the_task_back(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=60)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 60)
    lab.wait_until(lambda: lab.marks("ran"))
    worker.signal(signal.SIGTERM)
    lab.wait_until(lambda: "worker ends" in worker.log())
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    worker.wait()
    assert time.monotonic() - began < 2
    assert lab.pending() == [task]
    assert lab.outcomes(task) == ["interrupted"]


@pytest.mark.parametrize(
    ("concurrency", "code_is_known"),
    [
        (1, True),
        (2, True),
        (2, False),
    ],
)
@pytest.mark.slow
def test_tasks_fetched_and_not_begun_go_back_in_order(
    lab: Any, concurrency: int, code_is_known: bool
) -> None:
    worker = lab.start_worker(concurrency=concurrency, shutdown_timeout=1)
    path = lab.mark_file("words")
    if code_is_known:
        lab.value(lab.submit(nap, 0))
    lab.wait_for_all(lab.submit_many(note_word, [(path, "x")] * 1000))  # many at once from now on
    lab.redis.set("asynq:{default}:paused", "1")
    slow = [lab.submit(nap, 30) for _ in range(concurrency)]
    ids = lab.submit_many(note_word, [(path, f"{i}") for i in range(100)])
    lab.redis.delete("asynq:{default}:paused")
    lab.wait_until(lambda: all(lab.state(each) == "active" for each in slow))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    line = lab.pending()
    assert set(line[:concurrency]) == set(slow)
    # While the code of the slow ones was on its way, any of the others may have run.
    ids = [task for task in ids if lab.state(task) == "pending"]
    assert len(ids) > 20 or not code_is_known
    assert line[concurrency:] == ids
    # As if they had not been fetched.
    assert not any(lab.outcomes(task) for task in ids)
    with lab.worker(concurrency=concurrency + 1):
        lab.wait_for_all(ids)
        attempts = [row["attempt"] for row in lab.attempts() if row["task_id"] in ids]
        assert attempts == ["1"] * len(ids)
        assert all(int(lab.attempts(task)[0]["waited"]) > 500 for task in ids[:3])


def test_a_worker_ended_under_load_leaves_every_task_done_once_or_in_line(lab: Any) -> None:
    path = lab.mark_file("words")
    worker = lab.start_worker(shutdown_timeout=5)
    ids = lab.submit_many(note_word, [(path, str(i)) for i in range(3000)])
    lab.wait_until(lambda: len(lab.marks("words")) > 300)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    done = lab.marks("words")
    states = dict(zip(ids, lab.broker.states("default", ids), strict=True))
    assert len(done) == len(set(done)) == list(states.values()).count("completed")
    print("left in line", lab.length("pending"))
    assert lab.length("pending") + len(done) == 3000
    places = [ids.index(task) for task in lab.pending()]
    falls = [(a, b) for a, b in itertools.pairwise(places) if b < a]
    assert not falls, f"out of order, of which {falls[:5]}, beginning with {places[0]}"
    assert lab.length("active") == lab.length("lease") == 0


def test_stop_signal_stops_fetching_and_leaves_tasks_to_others(lab: Any) -> None:
    first = lab.start_worker()
    running = lab.submit(note_and_nap, lab.mark_file("ran"), 1)
    lab.wait_until(lambda: lab.marks("ran"))
    first.signal(signal.SIGTSTP)
    lab.wait_until(lambda: "fetches no more tasks: nothing resumes it" in first.log())
    left = [lab.submit(nap, 0) for _ in range(5)]
    assert lab.value(running) == "rested"
    assert {lab.state(task) for task in left} == {"pending"}
    assert first.alive
    second = lab.start_worker()
    lab.wait_for_all(left)
    assert all(f":{second.pid}:" in lab.attempts(task)[0]["worker"] for task in left)
    first.signal(signal.SIGTERM)
    assert first.wait() == 0


def test_a_coroutine_and_a_thread_are_given_back_too(lab: Any) -> None:
    async def wait_long(path: str) -> None:
        import asyncio

        with open(path, "a") as file:
            file.write("x ")
        await asyncio.sleep(60)

    worker = lab.start_worker(shutdown_timeout=0.5, executor="thread")
    tasks = [
        lab.submit(wait_long, lab.mark_file("ran")),
        lab.submit(note_and_nap, lab.mark_file("ran"), 60),
    ]
    lab.wait_until(lambda: len(lab.marks("ran")) == 2)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert sorted(lab.pending()) == sorted(tasks)


def test_stop_of_the_worker_object_ends_it_and_its_executors(lab: Any) -> None:
    running = lab.start_worker(shutdown_timeout=1)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 60)
    lab.wait_until(lambda: lab.marks("ran"))
    executors = running.executors()
    assert sorted(running.worker.executor_pids()) == sorted(executors)
    running.worker.stop()
    assert not running.worker.is_running
    assert lab.is_gone(running.pid)
    lab.wait_until(lambda: all(map(lab.is_gone, executors)), 2)
    assert lab.pending() == [task]
    running.worker.stop()  # once more does nothing


@pytest.mark.slow
def test_a_worker_that_ends_while_its_store_is_away_does_end(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=0.5)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 60)
    lab.wait_until(lambda: lab.marks("ran"))
    executors = worker.executors()
    lab.server.kill()
    lab.wait_until(lambda: "store lost" in worker.log())
    worker.signal(signal.SIGTERM)
    worker.wait(15)
    lab.wait_until(lambda: all(map(lab.is_gone, executors)), 2)
    lab.server.start()
    assert lab.state(task) == "active"  # until its lease has run out


def test_an_executor_does_not_survive_its_worker_through_a_signal_to_the_group(lab: Any) -> None:
    """Ctrl-C in a terminal reaches executors too; they leave it to their supervisor."""
    worker = lab.start_worker(shutdown_timeout=5)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 1)
    lab.wait_until(lambda: lab.marks("ran"))
    os.killpg(worker.pid, signal.SIGINT)
    assert worker.wait() == 0
    assert lab.value(task) == "rested"
    assert lab.outcomes(task) == ["completed"]


def test_a_drained_worker_finishes_its_tasks_takes_no_others_and_ends(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=0.1, concurrency=1)
    begun = lab.submit(note_and_nap, lab.mark_file("ran"), 0.8)
    lab.wait_until(lambda: lab.marks("ran"))
    command = ["drain", worker.worker.id, "--url", lab.url]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    later = lab.submit(nap, 0)
    assert worker.alive
    assert worker.wait() == 0
    assert lab.state(begun) == "completed"
    assert lab.outcomes(begun) == ["completed"]
    assert lab.pending() == [later]
    missing = CliRunner().invoke(main, ["drain", "nowhere", "--url", lab.url])
    assert "no worker has the id or host 'nowhere'" in missing.output


def test_a_draining_worker_ends_after_its_shutdown_time_out_once_it_is_asked(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=0.2, concurrency=1)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 60)
    lab.wait_until(lambda: lab.marks("ran"))
    assert drain_worker(lab.broker, worker.worker.id) == 1
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert lab.pending() == [task]
    assert lab.outcomes(task) == ["interrupted"]


def test_a_worker_that_drains_at_sigterm_outlasts_its_shutdown_time_out(lab: Any) -> None:
    worker = lab.start_worker(shutdown_timeout=0.1, concurrency=1, drain=True)
    task = lab.submit(note_and_nap, lab.mark_file("ran"), 0.5)
    lab.wait_until(lambda: lab.marks("ran"))
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert lab.state(task) == "completed"
    assert lab.outcomes(task) == ["completed"]
