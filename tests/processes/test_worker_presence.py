"""Visibility of a worker, to people and other workers, alive and dead."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from protobuf import decode_server, decode_worker

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.presence import change_queues, find_worker
from nbqueue.errors import UsageError
from nbqueue.worker.worker import Worker

FAR = 32_503_680_000


def nothing() -> None:
    pass


def nap(seconds: float) -> None:
    time.sleep(seconds)


def note_and_nap(path: str, seconds: float) -> None:
    with open(path, "a") as file:
        file.write("x ")
    time.sleep(seconds)


def servers(lab: Any) -> list[dict[str, Any]]:
    """Return the server records that `asynq server ls` reads."""
    now = int(lab.broker.clock.now())
    keys = lab.redis.zrangebyscore("asynq:servers", now, "+inf")
    return [decode_server(body) for body in lab.redis.mget(keys) if body] if keys else []


def running(lab: Any) -> list[dict[str, Any]]:
    """Return the running tasks that Asynq's programs show."""
    now = int(lab.broker.clock.now())
    found = []
    for key in lab.redis.zrangebyscore("asynq:workers", now, "+inf"):
        found += [decode_worker(value) for value in lab.redis.hvals(key)]
    return found


def test_a_worker_is_seen_while_it_runs_and_no_more_when_it_has_ended(lab: Any) -> None:
    with lab.worker(concurrency=3, queues={"a": 2, "b": 1}, strict_priority=True) as worker:
        [found] = servers(lab)
        host, pid, rest = worker.worker.id.split(":")
        assert abs(found.pop("start_time") - lab.broker.clock.now()) < 30
        assert found == {
            "host": host,
            "pid": worker.pid,
            "server_id": rest,
            "concurrency": 3,
            "queues": {"a": 2, "b": 1},
            "strict_priority": 1,
            "status": "active",
        }
        assert int(pid) == worker.pid
        assert len(rest) == 24
        key = f"asynq:servers:{{{worker.worker.id}}}"
        assert 0 < lab.redis.pttl(key) <= 10_000
        assert lab.redis.zrange("nbqueue:{a}:workers", 0, -1) == [worker.worker.id.encode()]
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    left = [key for key in lab.redis.keys("*") if b"worker" in key or b"server" in key]
    assert left == []


def test_what_runs_is_listed_and_what_waits_is_not(lab: Any) -> None:
    with lab.worker(concurrency=2, queues=["a", "b"], lease=5) as worker:
        lab.submit(nap, 30, task_id="same", queue="a")
        lab.submit(nap, 30, task_id="same", queue="b", timeout=3600)
        for queue in "ab":
            lab.wait_for("same", "active", queue=queue)
        lab.submit(nap, 30, queue="a")
        found = lab.wait_until(lambda: len(running(lab)) == 2 and running(lab))
        now = lab.broker.clock.now()
        for each in found:
            assert 0 < now - each.pop("start_time") < 20
        deadlines = {each["queue"]: each.pop("deadline") for each in found}
        assert deadlines["a"] == FAR
        assert 3500 < deadlines["b"] - now <= 3600
        name = worker.worker.id.rpartition(":")[2]
        host = worker.worker.id.partition(":")[0]
        assert sorted(found, key=lambda each: each["queue"]) == [
            {
                "host": host,
                "pid": worker.pid,
                "server_id": name,
                "task_id": "same",
                "task_type": each["task_type"],
                "task_payload": f"{each['task_type']}(…)".encode(),
                "queue": queue,
            }
            for queue, each in zip("ab", found, strict=True)
        ]
        assert lab.wait_until(lambda: servers(lab)[0].get("active_worker_count") == 2)


def test_status_says_that_a_worker_fetches_no_more_and_that_it_ends(lab: Any) -> None:
    with lab.worker(concurrency=1, shutdown_timeout=30) as worker:
        task = lab.submit(note_and_nap, lab.mark_file("runs"), 2)
        lab.wait_until(lambda: lab.marks("runs"))
        worker.signal(signal.SIGTSTP)
        lab.wait_until(lambda: servers(lab)[0]["status"] == "stopped")
        waits = lab.submit(nap, 0)
        worker.signal(signal.SIGTERM)
        lab.wait_until(lambda: servers(lab)[0]["status"] == "closed")
        lab.value(task)
        assert worker.wait() == 0
        assert lab.state(waits) == "pending"
        assert servers(lab) == []


def test_leases_are_extended_and_the_worker_is_seen_while_it_drains(lab: Any) -> None:
    with (
        lab.worker(concurrency=1, lease=2, shutdown_timeout=30) as worker,
        lab.worker(concurrency=1, lease=2, queues=["other"]),
    ):
        task = lab.submit(note_and_nap, lab.mark_file("runs"), 5)
        lab.wait_until(lambda: lab.marks("runs"))
        worker.signal(signal.SIGTERM)
        lab.value(task)
        assert lab.outcomes(task) == ["completed"]


@pytest.mark.parametrize("is_noted", [False, True])
def test_tasks_of_a_killed_worker_run_again_at_once_on_its_neighbour(
    lab: Any, is_noted: bool
) -> None:
    with lab.worker(concurrency=1) as one, lab.worker(concurrency=1) as two:
        task = lab.submit(note_and_nap, lab.mark_file("runs"), 5)
        lab.wait_until(lambda: lab.marks("runs"))
        key = f"asynq:{{default}}:t:{task}"
        lease = lab.redis.hget(key, "nbq:lease").decode()
        first, second = (one, two) if lease.startswith(one.worker.id) else (two, one)
        if is_noted:
            lab.wait_until(lambda: lab.redis.hget(key, "nbq:begun") == b"1")
        os.kill(first.pid, signal.SIGKILL)
        began = time.monotonic()
        lab.wait_until(lambda: len(lab.marks("runs")) == 2)
        took = time.monotonic() - began
        print(f"ran again after {took:.1f} s")
        assert took < 10, "the lease is 30 s"
        [lost] = lab.attempts(task)
        assert (lost["outcome"], lost["reason"]) == ("lost", "worker died")
        assert lost["worker"] == first.worker._id
        counts = lab.redis.hmget(key, "nbq:lost", "nbq:unbegun")
        assert counts == ([b"1", None] if is_noted else [None, b"1"])
        lab.wait_until(lambda: [each["pid"] for each in servers(lab)] == [second.pid])
        workers = lab.redis.zrange("nbqueue:{default}:workers", 0, -1)
        assert workers == [second.worker.id.encode()]


def test_a_neighbour_that_serves_other_queues_sees_a_killed_worker_too(lab: Any) -> None:
    with lab.worker(concurrency=1, queues=["a"]) as first, lab.worker(queues=["b"]) as second:
        task = lab.submit(note_and_nap, lab.mark_file("runs"), 30, queue="a")
        lab.wait_until(lambda: lab.marks("runs"))
        lab.wait_until(lambda: len(servers(lab)) == 2)
        os.kill(first.pid, signal.SIGKILL)
        lab.wait_until(lambda: lab.state(task, "a") == "pending", 10)
        assert lab.outcomes(task, "a") == ["lost"]
        assert second.alive


def test_a_worker_that_starts_takes_up_what_a_killed_one_left(lab: Any) -> None:
    path = lab.mark_file("runs")
    with lab.worker(concurrency=1) as first:
        task = lab.submit(note_and_nap, path, 2)
        lab.wait_until(lambda: lab.marks("runs"))
        os.kill(first.pid, signal.SIGKILL)
        first.worker._process.wait()
        with lab.worker(concurrency=1):
            lab.value(task, seconds=15)
            assert lab.outcomes(task) == ["lost", "completed"]


@pytest.mark.slow
def test_a_paused_neighbour_is_not_taken_for_dead(lab: Any) -> None:
    with lab.worker(concurrency=1) as first, lab.worker(concurrency=1, queues=["default", "b"]):
        task = lab.submit(nap, 3)
        lab.wait_for(task, "active")
        lab.wait_until(lambda: lab.redis.hget(f"asynq:{{default}}:t:{task}", "nbq:begun"))
        other = lab.submit(nap, 4)
        lab.wait_for(other, "active")
        first.signal(signal.SIGSTOP)
        lab.value(lab.submit(nap, 3.5, queue="b"), queue="b", seconds=30)
        first.signal(signal.SIGCONT)
        lab.value(task)
        lab.value(other)
        assert lab.outcomes(task) == lab.outcomes(other) == ["completed"]


def test_a_dead_workers_tasks_run_again_when_its_lease_has_run_out(lab: Any) -> None:
    """No worker can see that the process is gone, as if on another machine."""
    with lab.worker(concurrency=1, lease=3) as first:
        task = lab.submit(nap, 2.5)
        lab.wait_for(task, "active")
        lab.wait_until(lambda: lab.redis.hget(f"asynq:{{default}}:t:{task}", "nbq:begun"))
        os.kill(first.pid, signal.SIGKILL)
        began = time.monotonic()
        lab.redis.delete("nbqueue:{default}:workers", "asynq:servers")
        with lab.worker(concurrency=1):
            lab.wait_until(lambda: lab.events("requeued", task) == 1)
            took = time.monotonic() - began
            print(f"recovered after {took:.1f} s")
            assert lab.attempts(task)[0]["reason"] == "lease ran out"
            lab.value(task)
            assert took < 3 + 5 + 3
            assert lab.find(task).lost == 1


@pytest.mark.slow
def test_what_is_not_served_is_tended_all_the_same(lab: Any) -> None:
    """Forwarded, recovered, deleted when over, given a lease: in queues of other workers."""
    now = int(lab.broker.clock.now())
    prefix = "asynq:{far}:"
    ids = {name: lab.call(nothing, queue="far", task_id=name)[1] for name in
           ("due", "expired", "orphan", "over")}  # fmt: skip
    lab.redis.sadd("asynq:queues", "far", "bad/{name", *(f"empty{i}" for i in range(20)))
    for name, state in (("due", "scheduled"), ("expired", "active"), ("orphan", "active"),
                        ("over", "completed")):  # fmt: skip
        lab.redis.hset(
            f"{prefix}t:{name}", mapping={"msg": ids[name].SerializeToString(), "state": state}
        )
    lab.redis.zadd(prefix + "scheduled", {"due": now - 1})
    lab.redis.zadd(prefix + "completed", {"over": now - 1})
    lab.redis.lpush(prefix + "active", "expired", "orphan")
    lab.redis.zadd(prefix + "lease", {"expired": now - 40})
    with lab.worker() as worker:
        lab.wait_until(
            lambda: (
                [lab.state(name, "far") for name in ids] == ["pending", "pending", "pending", None]
            ),
            30,
        )
        assert lab.redis.hget(prefix + "t:expired", "nbq:lost") == b"1"
        assert "ERROR" not in worker.log()


def test_queues_are_added_and_removed_while_a_worker_runs(lab: Any) -> None:
    with lab.worker(concurrency=2, queues=["a"]) as worker:
        handle = worker.worker
        waits = lab.submit(nap, 0, queue="b")
        handle.add_queue("b", 3)
        assert servers(lab)[0]["queues"] == {"a": 1, "b": 3}
        lab.value(waits, queue="b")
        lab.value(lab.submit(nap, 0, queue="b"), queue="b")
        going_on = lab.submit(nap, 2, queue="a")
        lab.wait_for(going_on, "active", queue="a")
        handle.remove_queue("a")
        assert servers(lab)[0]["queues"] == {"b": 3}
        assert lab.redis.exists("nbqueue:{a}:workers") == 0
        left = lab.submit(nap, 0, queue="a")
        lab.value(going_on, queue="a")
        lab.value(lab.submit(nap, 0, queue="b"), queue="b")
        assert lab.state(left, "a") == "pending"
        with pytest.raises(UsageError, match="all that worker"):
            handle.remove_queue("b")
        # From anywhere, by its id; and through a loss of the store.
        change_queues(lab.broker, handle.id, {"a": 1, "b": 2})
        lab.value(left, queue="a")
        lab.server.kill()
        lab.server.start()
        broker = Broker(lab.store)
        try:
            lab.wait_until(lambda: find_worker(broker, handle.id))
            lab.value(lab.submit(nap, 0, queue="a"), queue="a")
            lab.value(lab.submit(nap, 0, queue="b"), queue="b")
        finally:
            broker.close()


def test_nonsense_said_to_a_worker_changes_nothing(lab: Any) -> None:
    with lab.worker(queues=["a"]) as worker:
        name = worker.worker.id
        for words in (
            f"worker {name} queues [1]",
            f"worker {name} queues {{'b': 1}}",
            f'worker {name} queues {{"b/": 1}}',
            f'worker {name} queues {{"b": -1}}',
            f'worker {name} queues {{"a": 0}}',
            f'worker {name}x queues {{"b": 1}}',
            f"worker {name}",
            b"worker \xff queues {}",
        ):
            assert lab.redis.publish("nbqueue:{a}:wake", words) == 1
        lab.value(lab.submit(nap, 0, queue="a"), queue="a")
        assert servers(lab)[0]["queues"] == {"a": 1}
    for worker_id in ("", "nobody", name):
        lab.redis.delete(f"asynq:servers:{{{name}}}")
        with pytest.raises(UsageError):
            change_queues(lab.broker, worker_id, {"b": 1})
    with pytest.raises(UsageError, match="start"):
        worker.worker.add_queue("b")


@pytest.mark.slow
def test_a_health_file_is_fresh_while_the_store_answers(lab: Any, tmp_path: Any) -> None:
    path = tmp_path / "alive"
    with lab.worker(health_file=path) as worker:
        first = lab.wait_until(lambda: path.exists() and path.stat().st_mtime)
        lab.wait_until(lambda: path.stat().st_mtime > first)
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert not path.exists()


def test_a_health_check_is_called_whether_the_store_answers_or_not(lab: Any) -> None:
    path = lab.mark_file("checks")

    def check(error: Exception | None) -> None:
        with open(path, "a") as file:
            file.write(f"{os.getppid()}:{type(error).__name__} ")
        if error is not None:
            raise RuntimeError("nobody minds")

    def seen() -> list[str]:
        return lab.marks("checks")

    with lab.worker(concurrency=1, health_check=check, health_check_interval="300ms") as worker:
        well, ill = f"{worker.pid}:NoneType", f"{worker.pid}:StoreUnreachable"
        task = lab.submit(nap, 30)
        lab.wait_for(task, "active")
        lab.wait_until(lambda: seen().count(well) >= 2)
        lab.server.kill()
        lab.wait_until(lambda: seen().count(ill) >= 2)
        lab.server.start()
        lab.wait_until(lambda: seen()[-1:] == [well])
        assert "nobody minds" in worker.log()
        assert len(worker.worker.executor_pids()) <= 2


def test_what_cannot_be_right_of_health_and_logs_is_refused() -> None:
    with pytest.raises(UsageError, match="health check"):
        Worker(health_check="x")
    with pytest.raises(UsageError, match="health_check_interval"):
        Worker(health_check=print, health_check_interval=0)
    with pytest.raises(UsageError, match="health_file"):
        Worker(health_file="/nowhere/at/all/alive")
    with pytest.raises(UsageError, match="log_level"):
        Worker(log_level="loud")


def test_a_started_worker_logs_at_the_level_it_was_given(lab: Any) -> None:
    with lab.worker(log_level="debug") as loud, lab.worker(log_level="error") as quiet:
        assert " DEBUG " in lab.wait_until(loud.log)
        assert quiet.log() == ""


def kill_the_worker(path: str) -> None:
    with open(path, "a") as file:
        file.write("x ")
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(30)


def test_a_task_that_kills_its_worker_at_once_is_archived_in_the_end(lab: Any) -> None:
    lab.redis.set("asynq:{default}:paused", "1")
    task = lab.submit(kill_the_worker, lab.mark_file("runs"))
    lab.redis.hset(f"asynq:{{default}}:t:{task}", "nbq:unbegun", 8)
    with lab.worker(concurrency=1) as one, lab.worker(concurrency=1) as two:
        lab.redis.delete("asynq:{default}:paused")
        lab.wait_until(lambda: not one.alive and not two.alive)
        with lab.worker(concurrency=1) as three:
            record = lab.wait_for(task, "archived")
            assert record.message.error_msg.endswith("10 workers died that had just taken it")
            assert three.alive
    assert lab.marks("runs") == ["x", "x"]
    assert lab.outcomes(task) == ["lost", "archived"]
