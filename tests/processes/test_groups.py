"""Aggregation groups end to end: messages of a group become one task, whatever ends meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asynq_peer import AsynqPeer

import nbqueue
from nbqueue.wire.messages import TaskMessage

KEY = "5b" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)


@pytest.fixture
def q(lab: Any) -> Iterator[Any]:
    client = nbqueue.connect(lab.server.url)
    yield client
    client.close()


def digest(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
    said = {"group": group, "tasks": [task.json() for task in tasks]}
    return nbqueue.Message("digest", said, retention="1h")


def make_worker(lab: Any, aggregator: Any = digest, **settings: Any) -> nbqueue.Worker:
    """A worker that aggregates, and runs the aggregates."""
    name = f"groups-{len(list(lab.folder.glob('groups-*')))}.log"
    settings = {"concurrency": 2, "group_grace_period": 1, **settings}
    worker = nbqueue.Worker(lab.server.url, log=lab.folder / name, **settings)
    if aggregator is not None:
        worker.aggregate(aggregator)
    worker.handle("digest", lambda task: task.json())
    return worker


def aggregates(lab: Any) -> list[Any]:
    """Return the results of completed aggregates."""
    found = []
    for task_id in lab.redis.zrange("asynq:{default}:completed", 0, -1):
        fields = lab.redis.hgetall(b"asynq:{default}:t:" + task_id)
        if TaskMessage.FromString(fields[b"msg"]).type == "digest":
            found.append(json.loads(fields[b"result"]))
    return found


def is_empty(lab: Any) -> bool:
    """Return whether no key of any group is left."""
    keys = [key.decode() for key in lab.redis.keys("asynq:{default}:*")]
    return not [k for k in keys if ":g:" in k or k.endswith((":groups", ":aggregation_sets"))]


def test_a_group_is_aggregated_once_it_is_quiet_for_the_grace_period(lab: Any, q: Any) -> None:
    with make_worker(lab):
        began = time.monotonic()
        futures = [q.enqueue("mail", {"n": n}, group="emails") for n in range(5)]
        lab.wait_until(lambda: aggregates(lab))
        took = time.monotonic() - began
        [found] = aggregates(lab)
        assert found == {"group": "emails", "tasks": [{"n": n} for n in range(5)]}
        assert took >= 1, "it did not wait for the grace period"
        assert is_empty(lab)
        [result] = {future.result(20) for future in futures}
        assert q.get(result).result(20) == found


def test_a_group_that_is_large_enough_is_aggregated_at_once(lab: Any, q: Any) -> None:
    with make_worker(lab, group_grace_period="1h", group_max_size=3):
        for n in range(7):
            q.enqueue("mail", {"n": n}, group="emails")
        lab.wait_until(lambda: len(aggregates(lab)) == 2)
        # Two slots may end them in any order.
        assert sorted([t["n"] for t in each["tasks"]] for each in aggregates(lab)) == [
            [0, 1, 2],
            [3, 4, 5],
        ]
        assert lab.redis.zcard("asynq:{default}:g:emails") == 1
        assert lab.redis.smembers("asynq:{default}:groups") == {b"emails"}


def test_the_oldest_task_waits_no_longer_than_the_longest_delay(lab: Any, q: Any) -> None:
    stop = threading.Event()

    def go_on() -> None:
        # Never quiet for the grace period.
        while not stop.wait(0.2):
            q.enqueue("mail", {"n": 1}, group="emails")

    with make_worker(lab, group_grace_period=1, group_max_delay="2s"):
        thread = threading.Thread(target=go_on)
        began = time.monotonic()
        thread.start()
        try:
            lab.wait_until(lambda: aggregates(lab))
            took = time.monotonic() - began
        finally:
            stop.set()
            thread.join()
        assert took >= 2
        assert len(aggregates(lab)[0]["tasks"]) > 4


def test_groups_do_not_mix_and_a_name_may_be_any_text(lab: Any, q: Any) -> None:
    with make_worker(lab):
        for group in ("a", "a:b", "ü x"):
            q.enqueue("mail", {"to": group}, group=group)
        lab.wait_until(lambda: len(aggregates(lab)) == 3)
        for each in aggregates(lab):
            assert each["tasks"] == [{"to": each["group"]}]
        assert is_empty(lab)


def test_the_function_sees_each_task_and_says_all_of_the_aggregate(lab: Any, q: Any) -> None:
    def tell(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        [task] = tasks
        said = [task.id, task.type, task.queue, task.payload.decode(), task.headers, task.max_retry]
        return nbqueue.Message(
            "later", said, retry=7, timeout="5m", retention="1h", delay="1h", task_id="told",
            headers={"k": "é"}, unique="2h", group="others",
        )  # fmt: skip

    with make_worker(lab, tell):
        options = {"task_id": "one", "headers": {"trace": "ü"}, "retry": 3, "retention": "1d"}
        q.enqueue("mail", b"\xc3\xbc", group="emails", **options)
        record = lab.wait_for("told", "scheduled")
        said = ["one", "mail", "default", "ü", {"trace": "ü"}, 3]
        assert json.loads(record.message.payload) == said
        found = record.message
        assert (found.retry, found.timeout, found.retention) == (7, 300, 3600)
        assert dict(found.headers) == {"k": "é"}
        assert found.group_key == "others"
        assert lab.redis.hget("asynq:{default}:t:told", "group") == b"others"
        assert lab.redis.get(found.unique_key) == b"told"


def test_a_delayed_message_joins_its_group_when_it_is_due(lab: Any, q: Any) -> None:
    with make_worker(lab):
        later = q.enqueue("mail", {"n": 2}, group="emails", delay="1s")
        q.enqueue("mail", {"n": 1}, group="emails")
        assert lab.state(later.id) == "scheduled"
        lab.wait_until(lambda: sum(len(each["tasks"]) for each in aggregates(lab)) == 2)
        assert is_empty(lab)


def test_a_coroutine_function_aggregates_in_a_loop(lab: Any, q: Any) -> None:
    async def digest_async(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        import asyncio

        await asyncio.sleep(0.1)
        return digest(group, tasks)

    with make_worker(lab, digest_async):
        q.enqueue("mail", {"n": 1}, group="emails")
        lab.wait_until(lambda: aggregates(lab))
        assert is_empty(lab)


def test_threads_aggregate_too(lab: Any, q: Any) -> None:
    with make_worker(lab, executor="thread"):
        q.enqueue("mail", {"n": 1}, group="emails")
        lab.wait_until(lambda: aggregates(lab))


def fails_at_first(path: str, how: str) -> Any:
    """An aggregator that fails twice, and then succeeds."""

    def aggregate(group: str, tasks: list[nbqueue.Task]) -> Any:
        with open(path, "a") as file:
            file.write("tried ")
        with open(path) as file:
            tries = len(file.read().split())
        if tries < 3:
            if how == "raise":
                raise RuntimeError("no mail today")
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "later":
                raise nbqueue.RetryLater(0.2)
            return None
        return nbqueue.Message("digest", {"n": [task.json() for task in tasks]}, retention="1h")

    return aggregate


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("raise", "RuntimeError: no mail today"),
        ("kill", "SIGKILL"),
        ("return", "the aggregator returned NoneType"),
        ("later", "next=200ms"),
    ],
)
@pytest.mark.parametrize("executor", [pytest.param("process", marks=pytest.mark.slow), "thread"])
def test_a_function_that_fails_is_tried_again_and_no_task_is_lost(
    lab: Any, q: Any, how: str, said: str, executor: str
) -> None:
    worker = make_worker(lab, fails_at_first(lab.mark_file("tries"), how), executor=executor)
    for n in range(3):
        q.enqueue("mail", n, group="emails")  # before the worker: all of them are one set
    with worker:
        lab.wait_until(lambda: lab.marks("tries"))
        lab.wait_until(lambda: "aggregation failed" in worker.log.read_text(errors="replace"))
        lab.wait_until(lambda: aggregates(lab))
        assert aggregates(lab) == [{"n": [0, 1, 2]}]
        assert len(lab.marks("tries")) == 3
        assert said in worker.log.read_text(errors="replace")
        assert is_empty(lab)


def test_members_go_back_with_their_scores_when_the_function_fails(lab: Any, q: Any) -> None:
    def fail(group: str, tasks: list[nbqueue.Task]) -> Any:
        raise nbqueue.RetryLater(3600)

    worker = make_worker(lab, fail)
    with worker:
        q.enqueue("mail", 1, group="emails")
        before = lab.redis.zrange("asynq:{default}:g:emails", 0, -1, withscores=True)
        lab.wait_until(lambda: "aggregation failed" in worker.log.read_text(errors="replace"))
        key = "asynq:{default}:aggregation_sets"
        lab.wait_until(lambda: not lab.redis.exists(key))
        assert lab.redis.zrange("asynq:{default}:g:emails", 0, -1, withscores=True) == before
        assert lab.redis.smembers("asynq:{default}:groups") == {b"emails"}


def hangs_in(path: str) -> Any:
    """An aggregator that notes its start, and runs while the file is there."""

    def aggregate(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        with open(path, "a") as file:
            file.write("began ")
        while os.path.exists(path):
            threading.Event().wait(0.01)
        return nbqueue.Message("digest", {"n": [task.json() for task in tasks]}, retention="1h")

    return aggregate


def test_what_a_killed_worker_was_aggregating_is_aggregated_once_by_another(
    lab: Any, q: Any
) -> None:
    first = make_worker(lab, hangs_in(lab.mark_file("began")), lease=1)
    for n in range(3):
        q.enqueue("mail", n, group="emails")
    first.start()
    pids = [first.pid, *first.executor_pids()]
    try:
        lab.wait_until(lambda: lab.marks("began"))
        assert lab.redis.zcard("asynq:{default}:aggregation_sets") == 1
        pids = [first.pid, *first.executor_pids()]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    with make_worker(lab, lambda group, tasks: digest(group, tasks), lease=1):
        lab.wait_until(lambda: aggregates(lab))
        [found] = aggregates(lab)
        assert found == {"group": "emails", "tasks": [0, 1, 2]}
        assert is_empty(lab)
    assert len(aggregates(lab)) == 1
    first.stop()


@pytest.mark.slow
def test_a_function_that_takes_longer_than_the_deadline_keeps_its_set(lab: Any, q: Any) -> None:
    path = Path(lab.mark_file("began"))
    with make_worker(lab, hangs_in(str(path)), lease=1):
        q.enqueue("mail", 1, group="emails")
        lab.wait_until(lambda: lab.marks("began"))
        key = "asynq:{default}:aggregation_sets"
        [(_, first)] = lab.redis.zrange(key, 0, -1, withscores=True)
        lab.wait_until(lambda: lab.redis.zrange(key, 0, -1, withscores=True)[0][1] > first + 3)
        assert lab.marks("began") == ["began"]
        path.unlink()
        lab.wait_until(lambda: aggregates(lab))
        assert len(aggregates(lab)) == 1


def test_workers_that_share_groups_aggregate_each_task_once(lab: Any, q: Any) -> None:
    settings = {"group_grace_period": 1, "group_max_size": 7}
    with make_worker(lab, **settings), make_worker(lab, **settings):
        for n in range(90):
            q.enqueue("mail", n, group=f"group{n % 3}")
        lab.wait_until(lambda: sum(len(each["tasks"]) for each in aggregates(lab)) >= 90, 40)
        found = aggregates(lab)
        assert sorted(n for each in found for n in each["tasks"]) == list(range(90))
        assert all(n % 3 == int(each["group"][-1]) for each in found for n in each["tasks"])
        assert all(each["tasks"] == sorted(each["tasks"]) for each in found)
        assert max(len(each["tasks"]) for each in found) == 7
        assert is_empty(lab)


LIMITED = """
import nbqueue
from nbqueue.worker.scheduling import aggregator

aggregator.LONGEST = 1
worker = nbqueue.Worker(URL, concurrency=1, group_grace_period=1, kill_grace=1)
worker.handle("digest", lambda task: task.json())

@worker.aggregate
def digest(group, tasks):
    with open(PATH, "a") as file:
        file.write("tried ")
    with open(PATH) as file:
        tries = len(file.read().split())
    while tries == 1:
        pass
    return nbqueue.Message("digest", {"n": [task.json() for task in tasks]}, retention="1h")

worker.run()
"""


def test_a_function_that_takes_too_long_is_ended_and_tried_again(lab: Any, q: Any) -> None:
    path = lab.mark_file("tries")
    program = LIMITED.replace("URL", repr(lab.server.url)).replace("PATH", repr(path))
    with open(lab.folder / "limited.log", "wb") as log:
        worker = subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log)
    try:
        q.enqueue("mail", 1, group="emails")
        lab.wait_until(lambda: aggregates(lab), 40)
        assert lab.marks("tries") == ["tried", "tried"]
        assert is_empty(lab)
    finally:
        worker.terminate()
        worker.wait(20)


def test_a_worker_that_is_told_to_end_lets_the_function_end(lab: Any, q: Any) -> None:
    path = Path(lab.mark_file("began"))
    worker = make_worker(lab, hangs_in(str(path))).start()
    q.enqueue("mail", 1, group="emails")
    lab.wait_until(lambda: lab.marks("began"))
    os.kill(worker.pid or 0, signal.SIGTERM)
    path.unlink()
    # A second signal would end it at once.
    lab.wait_until(lambda: not worker.is_running)
    worker.stop()
    assert is_empty(lab), "the aggregate did not take the place of its members"
    assert lab.length("pending") + len(aggregates(lab)) == 1


def test_a_worker_that_must_end_puts_the_members_back(lab: Any, q: Any) -> None:
    worker = make_worker(lab, hangs_in(lab.mark_file("began")), shutdown_timeout="200ms").start()
    future = q.enqueue("mail", 1, group="emails")
    lab.wait_until(lambda: lab.marks("began"))
    worker.stop()
    assert lab.redis.zrange("asynq:{default}:g:emails", 0, -1) == [future.id.encode()]
    assert not lab.redis.exists("asynq:{default}:aggregation_sets")


def test_an_aggregator_gets_a_slot_among_tasks_that_never_end_to_come(lab: Any, q: Any) -> None:
    def nap(seconds: float) -> None:
        time.sleep(seconds)

    with make_worker(lab, concurrency=1):
        others = lab.submit_many(nap, [(0.05,)] * 150)
        q.enqueue("mail", 1, group="emails")
        lab.wait_until(lambda: lab.redis.zcard("asynq:{default}:completed") > 20)
        lab.wait_until(lambda: is_empty(lab))
        assert lab.state(others[-1]) == "pending", "it waited for all other tasks"


def test_a_group_waits_for_a_slot_in_the_group_and_not_in_a_set(lab: Any, q: Any) -> None:
    path = lab.mark_file("stop")
    Path(path).touch()

    def hold(path: str) -> None:
        while os.path.exists(path):
            threading.Event().wait(0.01)

    with make_worker(lab, concurrency=1):
        holder = lab.submit(hold, path)
        lab.wait_for(holder, "active")
        future = q.enqueue("mail", 1, group="emails")
        later = time.monotonic() + 2
        lab.wait_until(lambda: time.monotonic() > later)
        assert lab.redis.zrange("asynq:{default}:g:emails", 0, -1) == [future.id.encode()]
        os.unlink(path)
        lab.wait_until(lambda: aggregates(lab))


# --- With programs in Go, and without an aggregator ----------------------------------------------


def now_s(lab: Any) -> int:
    return int(lab.redis.time()[0])


def from_go(lab: Any, task_id: str, group: str = "emails") -> None:
    message = TaskMessage(type="mail", payload=b"1", id=task_id, queue="default", timeout=60)
    peer = AsynqPeer(lab.redis, "default")
    assert peer.add_to_group(task_id, message.SerializeToString(), group, now_s(lab)) == 1


def test_what_a_program_in_go_puts_into_a_group_is_found(lab: Any) -> None:
    with make_worker(lab):
        from_go(lab, "a")
        lab.wait_until(lambda: aggregates(lab))
        assert aggregates(lab) == [{"group": "emails", "tasks": [1]}]
        assert is_empty(lab)


def test_a_worker_without_an_aggregator_leaves_groups_alone_and_puts_back_what_was_lost(
    lab: Any, q: Any
) -> None:
    from_go(lab, "a")
    from_go(lab, "b", "others")
    peer = AsynqPeer(lab.redis, "default")
    assert peer.check_group("emails", "s", now_s(lab) - 200, size=1)
    with make_worker(lab, None):
        lab.wait_until(lambda: lab.redis.zcard("asynq:{default}:g:emails") == 1)
        assert lab.redis.smembers("asynq:{default}:groups") == {b"emails", b"others"}
        assert q.enqueue("digest", 1, retention="1m").result(20) == 1
        assert lab.redis.zcard("asynq:{default}:g:others") == 1
        assert not lab.redis.exists("asynq:{default}:aggregation_sets")


def test_a_group_whose_name_go_left_out_is_found(lab: Any, q: Any) -> None:
    q.enqueue("mail", 1, group="emails", delay="1s")
    peer = AsynqPeer(lab.redis, "default")
    assert peer.forward(now_s(lab) + 5) == 1
    assert not lab.redis.exists("asynq:{default}:groups")
    with make_worker(lab):
        lab.wait_until(lambda: aggregates(lab), 40)
        assert is_empty(lab)


def test_a_unique_aggregate_that_is_there_already_does_not_go_round_for_ever(
    lab: Any, q: Any
) -> None:
    def same(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        return nbqueue.Message("same", unique="1h", delay="1h")

    worker = make_worker(lab, same)
    with worker:
        q.enqueue("mail", 1, group="a")
        lab.wait_until(lambda: lab.length("scheduled") == 1)
        second = q.enqueue("mail", 2, group="b")
        [stands] = lab.redis.zrange("asynq:{default}:scheduled", 0, -1)
        assert second.result(20) == stands.decode()
        assert is_empty(lab)
        lab.wait_until(lambda: "unique and stands for it" in worker.log.read_text())


def test_an_aggregate_whose_id_exists_is_an_error_and_nothing_is_lost(lab: Any, q: Any) -> None:
    def named(group: str, tasks: list[nbqueue.Task]) -> nbqueue.Message:
        return nbqueue.Message("named", task_id="named", delay="1h")

    worker = make_worker(lab, named)
    with worker:
        q.enqueue("mail", 1, group="a")
        lab.wait_for("named", "scheduled")
        second = q.enqueue("mail", 2, group="b")
        lab.wait_until(lambda: "the id of the aggregate exists" in worker.log.read_text())
        lab.wait_until(lambda: lab.redis.zcard("asynq:{default}:g:b") == 1)
        assert lab.state(second.id) == "aggregating"


def test_a_lost_store_loses_no_task_of_a_group(lab: Any, q: Any) -> None:
    path = Path(lab.mark_file("began"))
    for n in range(3):
        q.enqueue("mail", n, group="emails")
    with make_worker(lab, hangs_in(str(path)), lease=1):
        lab.wait_until(lambda: lab.marks("began"))
        lab.server.kill()
        path.unlink()
        lab.server.start()
        lab.wait_until(lambda: aggregates(lab), 40)
        assert aggregates(lab) == [{"n": [0, 1, 2]}]
        assert is_empty(lab)


def test_a_call_has_no_group(lab: Any, q: Any) -> None:
    with pytest.raises(nbqueue.UsageError, match="group='emails' is for messages"):
        q.options(group="emails").submit(print, 1)
    with pytest.raises(nbqueue.UsageError, match="group='emails' is for messages"):
        q.options(group="emails").map(print, [1])
    assert q.options(group="emails").enqueue("mail", 1).id
