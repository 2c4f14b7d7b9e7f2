"""Workers of several Pythons on one queue: each task runs where it can load.

The other version is one that a worker claims to have; tests with a real one run where one is found.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nbqueue
from nbqueue.broker.commands import inspect, requirements
from nbqueue.requirements import THIS_PYTHON
from nbqueue.worker.worker import Worker

OTHER = "3.99"
HERE = f"need:python={THIS_PYTHON}"


def add(a: int, b: int = 1) -> int:
    return a + b


@pytest.fixture
def start(lab: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a worker that claims to have this version of Python."""

    def start(python: str = THIS_PYTHON, **settings: Any) -> Any:
        make = Worker._settings_now
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_settings_now", lambda self: replace(make(self), python=python))
            return lab.start_worker(**settings)

    return start


def connect(lab: Any) -> nbqueue.Client:
    """A client that has the key of the workers."""
    client = nbqueue.connect(lab.url)
    client._session.keyring = lab.keys
    return client


def parked_for(lab: Any, task_id: str) -> str | None:
    found = lab.redis.hget(f"asynq:{{default}}:t:{task_id}", "nbq:parked")
    return found.decode() if found else None


def wait_until_parked(lab: Any, *ids: str) -> None:
    lab.wait_until(lambda: all(parked_for(lab, i) == HERE for i in ids))


def test_in_a_mixed_fleet_each_task_runs_once_and_is_parked_at_most_once(
    lab: Any, start: Any
) -> None:
    start(OTHER)
    start()
    ids = lab.submit_many(add, [(i,) for i in range(60)])
    assert [lab.value(i) for i in ids] == list(range(1, 61))
    for task_id in ids:
        assert lab.outcomes(task_id) == ["completed"]
        assert lab.find(task_id).attempt == 1
        assert lab.events("parked", task_id) <= 1
    assert sum(lab.events("parked", i) for i in ids), "the other worker never fetched one"
    assert not lab.redis.exists(
        "nbqueue:{default}:requirements", f"nbqueue:{{default}}:wait:{HERE}"
    )


def test_where_no_worker_fits_it_says_so_and_one_that_is_started_takes_it(
    lab: Any, start: Any
) -> None:
    other = start(OTHER)
    [task_id, *_] = ids = lab.submit_many(add, [(1,), (2,)])
    wait_until_parked(lab, *ids)
    lab.wait_until(lambda: "none is alive" in other.log())
    assert other.log().count(f"it needs a worker with Python {THIS_PYTHON}; none is alive") == 1
    record = lab.find(task_id)
    assert (record.state, record.attempt, record.message.retried) == ("scheduled", 0, 0)
    assert lab.attempts() == []
    text = f"needs a worker with Python {THIS_PYTHON}; none is alive"
    with connect(lab) as client:
        assert client.inspector.task(task_id).error == text
        assert client.tasks(state="scheduled")["error"].tolist() == [text] * 2
        future = client.get(task_id)
        assert text in repr(future)
        assert text in future._repr_mimebundle_()["text/plain"]
        group = client.map(add, [3, 4])
        wait_until_parked(lab, *group.ids)
        assert f"0 of 2 done: {text}; id=" in repr(group)
        for wait in (future.result, group.results, lambda wait: next(group.as_completed(wait))):
            with pytest.raises(TimeoutError) as caught:
                wait(0)
            assert text in str(caught.value)
        start()
        assert [client.get(i).result(20) for i in ids] == [2, 3]
    assert [lab.events("started", i) for i in ids] == [2, 2]


def test_a_parked_task_goes_to_a_worker_that_fits_within_a_moment(lab: Any, start: Any) -> None:
    start(OTHER)
    start(queues={"unrelated": 1, "default": 1})
    for _ in range(10):
        lab.wait_until(lambda: lab.length("active") == 0)
        task_id = lab.submit(add, 1)
        # Far less than until any look at the store that no message causes.
        assert lab.value(task_id, seconds=5.0) == 2


def test_a_function_that_is_installed_runs_on_any_version(lab: Any, start: Any) -> None:
    start(OTHER)
    from nbqueue.calls import payloads

    task_id = lab.submit(len, "abc", flags=payloads.BY_REFERENCE)
    assert lab.value(task_id) == 3


def test_a_message_goes_to_a_worker_that_can_load_its_handler(lab: Any, start: Any) -> None:
    with connect(lab) as client:
        client.serve("double", lambda task: 2 * task.json())
        start(OTHER)
        future = client.enqueue("double", 4, retention="1h")
        wait_until_parked(lab, future.id)
        start()
        assert future.result(20) == 8


def test_a_worker_of_a_burst_takes_what_is_parked_for_it_and_ends_beside_the_rest(
    lab: Any, start: Any
) -> None:
    with lab.worker() as _:
        pass
    other = start(OTHER)
    ids = lab.submit_many(add, [(i,) for i in range(5)])
    wait_until_parked(lab, *ids)
    assert start("3.98", burst=True).wait() == 0
    assert start(burst=True).wait() == 0
    assert [lab.value(i) for i in ids] == [1, 2, 3, 4, 5]
    other.end()


@pytest.mark.parametrize("how", ["delete", "cancel", "reschedule", "run", "archive"])
def test_a_person_may_move_a_parked_task(lab: Any, start: Any, how: str) -> None:
    start(OTHER)
    [first, second] = lab.submit_many(add, [(1,), (2,)])
    wait_until_parked(lab, first, second)
    now_ms = lab.broker.clock.now_ms()
    commands = {
        "delete": lambda: inspect.delete("default", [first], now_ms),
        "cancel": lambda: inspect.cancel_tasks("default", [first], [b"E"], "gone", now_ms),
        "reschedule": lambda: inspect.reschedule("default", [first], now_ms + 3_600_000, now_ms),
        "run": lambda: inspect.run("default", [inspect.ToRun(first)], now_ms),
        "archive": lambda: inspect.archive_by_hand("default", [first], now_ms),
    }
    assert lab.broker.run(commands[how]()).refused == {}
    if how == "run":
        lab.wait_until(lambda: lab.events("parked", first) == 2)
    start()
    assert lab.value(second) == 3
    then = {"delete": None, "cancel": "archived", "reschedule": "scheduled", "archive": "archived"}
    if how == "run":
        assert lab.value(first) == 2
    else:
        assert lab.state(first) == then[how]
        assert lab.attempts(first) == []


def test_a_paused_queue_keeps_what_is_parked_until_it_goes_on(lab: Any, start: Any) -> None:
    start(OTHER)
    task_id = lab.submit(add, 1)
    wait_until_parked(lab, task_id)
    lab.broker.run(inspect.pause("default", lab.broker.clock.now_ms()))
    right = start()
    key = "nbqueue:{default}:capabilities"
    lab.wait_until(lambda: lab.redis.zcard(key) == 2)
    lab.wait_until(lambda: right.alive and lab.length("scheduled") == 1)
    lab.broker.run(inspect.unpause("default"))
    assert lab.value(task_id) == 2


def test_a_limit_holds_for_parked_tasks_and_does_not_keep_their_places_for_ever(
    lab: Any, start: Any
) -> None:
    start(OTHER)
    start()
    with connect(lab) as client:
        limit = nbqueue.Limit("one", concurrency=1)
        group = client.options(limit=limit).map(add, range(12))
        assert group.results(timeout=60) == list(range(1, 13))


def test_who_is_alive_is_read_from_what_workers_say(lab: Any, start: Any) -> None:
    def is_alive(requirement: str) -> bool:
        now_s = lab.broker.clock.now_ms() // 1000
        return requirements.is_alive(
            requirement,
            *lab.broker.call(*requirements.ask_capabilities("default", now_s), on="default"),
        )

    worker = start(OTHER)
    assert is_alive(f"python={OTHER}")
    assert not is_alive("python=3.9")
    lab.redis.zadd("nbqueue:{default}:capabilities", {b"\xff\0 python=3.9": 1e12})
    assert not is_alive("python=3.9")
    worker.signal(15)
    worker.wait()
    assert not is_alive(f"python={OTHER}")


def other_interpreter() -> Path | None:
    """Return another version of Python that can run nbqueue, if there is one."""
    import os
    import shutil

    named = os.environ.get("TEST_OTHER_PYTHON")
    for name in [named] if named else [f"python3.{minor}" for minor in range(10, 15)]:
        path = shutil.which(name)
        if path and not name.endswith(f"3.{sys.version_info[1]}") and _can_run(path):
            return Path(path)
    return None


def _can_run(path: str) -> bool:
    import subprocess

    code = (
        "import sys, redis, hiredis, cloudpickle, google.protobuf, croniter, psutil, platformdirs"
    )
    done = subprocess.run([path, "-c", code], capture_output=True, check=False)
    return done.returncode == 0


def test_workers_of_two_real_versions_share_a_queue(lab: Any, start: Any) -> None:
    import os
    import subprocess

    python = other_interpreter()
    if python is None:
        pytest.skip("no other Python with nbqueue's dependencies is on PATH")
    env = {
        **os.environ,
        "NBQUEUE_KEY": "5b" * 32,
        "PYTHONPATH": str(Path(nbqueue.__file__).parents[1]),
    }
    log = open(lab.folder / "other.log", "wb")  # noqa: SIM115
    code = "import nbqueue, sys; sys.exit(nbqueue.Worker(sys.argv[1], concurrency=2).run())"
    process = subprocess.Popen([python, "-c", code, lab.url], env=env, stdout=log, stderr=log)
    try:
        start()
        ids = lab.submit_many(add, [(i,) for i in range(40)])
        assert [lab.value(i) for i in ids] == list(range(1, 41))
        submit = (
            "import nbqueue, sys\n"
            "q = nbqueue.connect(sys.argv[1])\n"
            "print(*q.map(lambda i: (i, sys.version_info[:2])[1][1], range(40)))"
        )
        done = subprocess.run(
            [str(python), "-c", submit, lab.url], env=env, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        assert len(set(done.stdout.split())) == 1
        assert all(row["outcome"] == "completed" for row in lab.attempts())
    finally:
        process.terminate()
        process.wait(20)
        log.close()
