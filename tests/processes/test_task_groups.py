"""Task groups in the store: found again, counted, and forgotten with their last task."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

import nbqueue
from nbqueue.errors import StoreWarning
from nbqueue.wire.task_groups.task_group_keys import (
    SHARDS,
    TaskGroupKeys,
    index_keys,
    task_group_name,
)

KEY = "5b" * 32


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)


@pytest.fixture
def connect(lab: Any) -> Iterator[Callable[[], nbqueue.Client]]:
    """Makes clients that know nothing of each other, as of other kernels."""
    made: list[nbqueue.Client] = []

    def new() -> nbqueue.Client:
        made.append(nbqueue.connect(lab.url))
        return made[-1]

    yield new
    for client in made:
        client.close()


def halve(n: int) -> int:
    if n % 2:
        raise ValueError(f"{n} is odd")
    return n // 2


def key_of(task_id: str) -> str:
    return f"asynq:{{default}}:t:{task_id}"


def make_due(lab: Any, group_id: str) -> None:
    """Let the next worker that starts look whether members of a group still exist."""
    lab.redis.zadd(TaskGroupKeys(group_id).index, {group_id: 1})


def is_forgotten(lab: Any, group_id: str) -> bool:
    keys = TaskGroupKeys(group_id)
    scored = lab.redis.zscore(keys.index, group_id)
    return not lab.redis.exists(keys.record, keys.members) and scored is None


def check_of(lab: Any, group_id: str) -> float:
    found = lab.redis.zscore(TaskGroupKeys(group_id).index, group_id)
    return float(found or 0)


def test_a_group_comes_back_in_order_whatever_became_of_its_tasks(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    g = connect().options(name="sweep").map(halve, range(6))
    waiting = connect().group("sweep")
    assert (waiting.id, waiting.ids, waiting.name) == (g.id, g.ids, "sweep")
    assert repr(waiting).startswith("<TaskGroup sweep 0 of 6 done")
    with lab.worker():
        assert waiting.wait(40), "it does not follow its tasks"
    q = connect()
    again = q.group(g.id)
    assert again.counts() == g.counts() == waiting.counts() == (6, 3, 3, 0, 0)
    assert [str(each) for each in again.results(return_exceptions=True)] == [
        "0", "1 is odd", "1", "3 is odd", "2", "5 is odd",
    ]  # fmt: skip
    assert sorted(again.attempts().task_id) == sorted(g.ids)
    # How long it took is what the store says, for each handle.
    [took] = {each._end_time_ms() - each._begun_ms for each in (g, waiting, again)}
    assert took % 1000 or again._end_time_ms() % 1000, "times are rounded to seconds"
    assert list(again.frame(["state"]).index) == list(g.ids)
    assert (q.get("sweep-4").id, q.get("sweep-4").result(0)) == (g.ids[4], 2)


def test_what_failed_is_retried_and_followed(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    marker = lab.folder / "mended"

    def fit(n: int) -> int:
        if n > 2 and not marker.exists():
            raise ValueError(n)
        return n

    with lab.worker():
        connect().options(name="sweep").map(fit, range(5)).wait(40)
        q = connect()
        g = q.group("sweep")
        assert list(q.groups().failed) == [2]
        marker.touch()
        old = g[4]
        done = q.retry(g)  # as g.retry(): what completed does not run again
        assert sorted(done.done) == sorted(g.ids[3:])
        assert g.results(40) == list(range(5))
        assert isinstance(old.exception(), ValueError), "an ended future has changed"
        assert g[4].result() == 4
        assert list(q.groups().failed) == [0], "counts from before the retry were kept"
        assert not g.retry(), "there is nothing left to retry"


def test_cancelling_a_group_that_was_found_again(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    g = connect().map(halve, range(4))
    q = connect()
    found = q.group(g.id)
    assert found.cancel() == 4
    assert g.wait(20)
    frame = q.groups()
    assert frame.loc[g.id, ["total", "done", "failed", "cancelled"]].tolist() == [4, 4, 0, 4]


def test_the_newest_group_of_a_name_wins_and_an_older_one_follows_it(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    q = connect()
    first, second = (q.options(name="sweep").map(halve, [0]) for _ in range(2))
    assert connect().group("sweep").id == second.id
    lab.redis.delete(*map(key_of, second.ids))
    make_due(lab, second.id)
    with lab.worker():
        lab.wait_until(lambda: is_forgotten(lab, second.id))
        assert connect().group("sweep").id == first.id


def test_errors_name_the_way_out(lab: Any, connect: Callable[[], nbqueue.Client]) -> None:
    q = connect()
    g = q.options(name="sweep").map(halve, [0, 2])
    q.options(name="train").submit(halve, 0)
    with pytest.raises(nbqueue.TaskGroupNotFound, match="did you mean 'sweep'"):
        q.group("sweeep")
    with pytest.raises(nbqueue.TaskGroupNotFound, match=r"q.get\('train'\) finds it"):
        q.group("train")
    with pytest.raises(nbqueue.TaskGroupNotFound, match=r"q.groups\(\) lists"):
        q.group("another")
    for wanted in ("sweep", g.id):
        with pytest.raises(nbqueue.TaskNotFound, match=rf"q.group\('{wanted}'\)"):
            q.get(wanted)
    with pytest.raises(nbqueue.TaskNotFound, match="sweep-0 to sweep-1, and no"):
        q.get("sweep-2")
    with pytest.raises(nbqueue.UsageError, match="neither"):
        q.group("")


def test_the_frame_of_groups(lab: Any, connect: Callable[[], nbqueue.Client]) -> None:
    q = connect()
    assert q.groups().empty
    first = q.map(halve, range(3))
    second = q.options(name="sweep", queue="gpu").map(halve, iter(range(2000)))
    frame = q.groups()
    assert list(frame.index) == [first.id, second.id]
    assert list(frame.columns[:10]) == [
        "name", "function", "queue", "total", "done", "failed", "cancelled", "started_at", "by",
        "complete",
    ]  # fmt: skip
    assert frame.loc[second.id, ["name", "queue", "total"]].tolist() == ["sweep", "gpu", 2000]
    assert frame.function.str.endswith("halve").all()
    assert frame.complete.all()
    assert not frame.estimated.any()
    assert "@" in frame.by.iloc[0]


def test_members_that_were_deleted_are_gone_and_the_rest_is_there(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    g = connect().map(halve, [0, 2, 4])
    with lab.worker():
        g.wait(40)
    lab.redis.delete(key_of(g.ids[1]))
    found = connect().group(g.id)
    assert found.counts() == (3, 2, 0, 0, 1)
    assert found[2].result(0) == 2
    with pytest.raises(nbqueue.TaskNotFound):
        found.results()


CUT_OFF = """
import os, signal, sys, nbqueue
from nbqueue.client.submitting.prepared_task import PreparedTask
q = nbqueue.connect(sys.argv[1])
enqueue = PreparedTask.enqueue
def enqueue_or_die(self, request, ids, group):
    if len(group) > 1024:
        os.kill(os.getpid(), signal.SIGKILL)
    return enqueue(self, request, ids, group)
PreparedTask.enqueue = enqueue_or_die
q.options(name="cut").map(abs, range(3000))
"""


def test_a_map_that_was_killed_loses_no_member_and_says_so(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    """The second slice is recorded, and none of it enqueued."""
    ended = subprocess.run([sys.executable, "-c", CUT_OFF, lab.url], check=False)
    assert ended.returncode == -signal.SIGKILL
    q = connect()
    g = q.group("cut")
    assert len(g) == 1024
    assert sorted(g.ids) == sorted(lab.pending())
    assert "(not complete)" in repr(g)
    [row] = q.groups().to_dict("records")
    assert (row["total"], row["done"], row["complete"]) == (1024, 0, False)


def test_a_record_lives_as_long_as_its_longest_kept_task(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    g = connect().options(name="sweep", retention="3h").map(halve, [0, 2, 1])
    first, second, failed = g.ids
    with lab.worker():
        g.wait(40)
    now = lab.broker.clock.now_ms()
    make_due(lab, g.id)
    with lab.worker() as worker:
        lab.wait_until(lambda: check_of(lab, g.id) > 1)
        # The end of the retention of the member that it found.
        lab.wait_until(lambda: abs(check_of(lab, g.id) - now - 3 * 3_600_000) < 300_000)
        worker.end()
    lab.redis.delete(key_of(first), key_of(second))
    make_due(lab, g.id)
    with lab.worker() as worker:
        position = partial(lab.redis.hget, TaskGroupKeys(g.id).record, "check_from")
        lab.wait_until(lambda: position() == b"2")
        worker.end()
    # No worker is there when the last one goes; the next worker notices.
    lab.redis.delete(key_of(failed))
    make_due(lab, g.id)
    with lab.worker():
        lab.wait_until(lambda: is_forgotten(lab, g.id))
        assert not lab.redis.exists(task_group_name("sweep"))
    with pytest.raises(nbqueue.TaskGroupNotFound):
        connect().group("sweep")


def test_a_worker_that_is_killed_in_its_look_leaves_the_group_to_another(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    g = connect().map(halve, range(0, 40_000, 2))
    lab.redis.delete("asynq:{default}:pending")
    for start in range(0, len(g), 1000):
        lab.redis.delete(*map(key_of, g.ids[start : start + 1000]))
    make_due(lab, g.id)
    worker = lab.start_worker()
    lab.wait_until(lambda: check_of(lab, g.id) != 1)
    os.kill(worker.pid, signal.SIGKILL)
    make_due(lab, g.id)  # as its claim will run out
    with lab.worker():
        lab.wait_until(lambda: is_forgotten(lab, g.id))
    assert not [key for key in lab.redis.keys("nbqueue:{~*") if b"schema" not in key]


def test_records_of_strangers_are_left_alone(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    q = connect()
    g = q.map(halve, [0])
    for group_id in ("list", "empty", "queue"):
        lab.redis.zadd(TaskGroupKeys(group_id).index, {group_id: 1})
    lab.redis.rpush(TaskGroupKeys("list").record, "x")
    lab.redis.hset(
        TaskGroupKeys("queue").record, mapping={"queue": "}{", "type": "\n", "started": 1}
    )
    lab.redis.rpush(TaskGroupKeys("queue").members, "5 x", "1 no such task")
    with pytest.warns(StoreWarning, match="'list'"):
        frame = q.groups()
    assert list(frame.index) == ["queue", g.id]
    with lab.worker():
        lab.wait_until(lambda: is_forgotten(lab, "queue") and is_forgotten(lab, "empty"))
        assert lab.redis.exists(TaskGroupKeys("list").record)


def test_a_name_that_leads_to_another_group_is_not_followed(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    q = connect()
    other = q.options(name="other").map(halve, [0])
    lab.redis.set(task_group_name("mine"), b"1 " + other.id.encode())
    with pytest.raises(nbqueue.TaskGroupNotFound):
        q.group("mine")
    for find in (q.group, q.get):
        with pytest.raises(nbqueue.UsageError, match="lone surrogate"):
            find("\ud800")


def test_a_retry_whose_note_is_refused_is_followed_nevertheless(
    lab: Any, connect: Callable[[], nbqueue.Client], tmp_path: Any
) -> None:
    marker = str(tmp_path / "marker")

    def fit(n: int) -> int:
        if not os.path.exists(marker):
            raise ValueError("no")
        return n

    with lab.worker():
        g = connect().map(fit, range(2))
        assert g.wait(40)
        lab.redis.delete(TaskGroupKeys(g.id).record)
        lab.redis.set(TaskGroupKeys(g.id).record, "of another type")
        (tmp_path / "marker").touch()
        assert len(g.retry().done) == 2
        assert g.results(40) == [0, 1]


def test_a_group_takes_little_memory(lab: Any, connect: Callable[[], nbqueue.Client]) -> None:
    g = connect().options(name="sweep").map(halve, range(20_000))
    keys = TaskGroupKeys(g.id)
    named = task_group_name("sweep")
    used = sum(
        lab.redis.memory_usage(key) for key in (keys.record, keys.members, keys.index, named)
    )
    assert used / len(g) < 0.2, "bytes for each task"
    assert len(set(index_keys())) == SHARDS


def test_a_record_that_claims_a_million_tasks_costs_next_to_nothing(
    lab: Any, connect: Callable[[], nbqueue.Client]
) -> None:
    q = connect()
    g = q.map(halve, range(2))
    members = TaskGroupKeys(g.id).members
    lab.redis.rpush(members, f"1000000 {g.ids[0]}")
    other = connect()
    assert other.group(g.id).ids == g.ids, "a run of more tasks than can be recorded together"
    for first in ("a" * len(g.ids[0]), "b" * len(g.ids[0])):
        lab.redis.rpush(members, *[f"1024 {first}"] * 500)
    lab.redis.delete(*map(key_of, g.ids))
    with pytest.raises(nbqueue.TaskGroupNotFound, match=r"names 1,024,002 tasks, and none of"):
        connect().group(g.id)
