"""Order of tasks: mixed lengths, weights, priority, pauses, and delays."""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

import pytest
from waits import let_time_pass

from nbqueue.broker.new_tasks import EnqueueRequest
from nbqueue.tasks.new_task import NewTask
from nbqueue.wire.messages import TaskMessage


def nap(seconds: float) -> None:
    time.sleep(seconds)


def nothing() -> None:
    pass


def note(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word + " ")


def warm(lab: Any, queue: str = "default", number: int = 1000) -> None:
    """Have the worker see short tasks, so that it fetches many at once."""
    lab.value(lab.submit(nap, 0, queue=queue), queue=queue)  # has its code fetched
    lab.wait_for_all(lab.submit_many(nothing, [()] * number, queue=queue), queue=queue)


def pause(lab: Any, queue: str = "default") -> None:
    lab.redis.set(f"asynq:{{{queue}}}:paused", "1")


def resume(lab: Any, queue: str = "default") -> None:
    lab.redis.delete(f"asynq:{{{queue}}}:paused")


@pytest.mark.parametrize("warmed", [False, True])
def test_short_tasks_do_not_wait_for_a_slow_one(lab: Any, warmed: bool) -> None:
    with lab.worker(concurrency=2):
        if warmed:
            warm(lab)
            pause(lab)
        slow = lab.submit(nap, 60)
        short = lab.submit_many(nap, [(0.001,)] * 200)
        if warmed:
            resume(lab)
        lab.wait_for_all(short)
        assert lab.state(slow) == "active"


def test_short_tasks_do_not_wait_where_a_slow_one_runs_while_another_worker_is_idle(
    lab: Any,
) -> None:
    with lab.worker(concurrency=1) as first:
        warm(lab)
        pause(lab)
        slow = lab.submit(nap, 2.5)
        short = lab.submit_many(nothing, [()] * 50)
        resume(lab)
        lab.wait_for(slow, "active")
        with lab.worker(concurrency=1):
            began = time.monotonic()
            lab.wait_for_all(short)
            print(f"took {time.monotonic() - began:.2f} s")
            assert lab.state(slow) == "active", "they waited for the slow one"
        assert first.alive


@pytest.mark.slow
def test_coroutines_do_not_wait_for_slow_functions(lab: Any) -> None:
    async def quick() -> None:
        await asyncio.sleep(0)

    with lab.worker(concurrency=2):
        warm(lab)
        lab.value(lab.submit(quick))
        pause(lab)
        slow = [lab.submit(nap, 3) for _ in range(2)]
        waiting = [lab.submit(nothing) for _ in range(3)]
        quicks = lab.submit_many(quick, [()] * 3)
        resume(lab)
        lab.wait_for_all(quicks + waiting)
        # With all slots taken by slow ones no order is guaranteed; nothing may be lost, though.
        lab.wait_for_all(slow)


def test_strict_priority_serves_the_heavier_queue_first(lab: Any) -> None:
    path = lab.mark_file("order")
    low = lab.submit_many(note, [(path, "low")] * 300, queue="low")
    high = lab.submit_many(note, [(path, "high")] * 300, queue="high")
    with lab.worker(concurrency=1, queues={"low": 1, "high": 2}, strict_priority=True):
        lab.wait_for_all(high, queue="high")
        lab.wait_for_all(low, queue="low")
    assert lab.marks("order") == ["high"] * 300 + ["low"] * 300


@pytest.mark.slow
def test_weights_share_out_the_work_and_starve_nobody(lab: Any) -> None:
    path = lab.mark_file("order")
    # As long as not all are of one fetch: 20 ms each.
    heavy = lab.submit_many(note_slowly, [(path, "heavy")] * 90, queue="heavy")
    light = lab.submit_many(note_slowly, [(path, "light")] * 90, queue="light")
    with lab.worker(concurrency=1, queues={"light": 1, "heavy": 5}):
        lab.wait_for_all(heavy, queue="heavy")
        order = lab.marks("order")
        lab.wait_for_all(light, queue="light")
    share = order.count("light") / len(order)
    print(f"light had {share:.2f} of the work while heavy had any (1/6 by weight)")
    assert 0.03 < share < 0.4


def note_slowly(path: str, word: str) -> None:
    with open(path, "a") as file:
        file.write(word + " ")
    time.sleep(0.01)


def test_a_paused_queue_is_left_alone_and_resumed_soon(lab: Any) -> None:
    with lab.worker(queues={"default": 1, "other": 1}):
        pause(lab)
        held = lab.submit(nothing)
        assert lab.value(lab.submit(nothing, queue="other"), queue="other") is None
        let_time_pass(0.3)
        assert lab.state(held) == "pending"
        began = time.monotonic()
        resume(lab)
        lab.value(held)
        print(f"resumed after {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 1.6


def test_an_idle_worker_does_not_ask_all_the_time(lab: Any) -> None:
    with lab.worker():
        lab.value(lab.submit(nothing))
        before = lab.redis.info("stats")["total_commands_processed"]
        let_time_pass(2)
        asked = lab.redis.info("stats")["total_commands_processed"] - before
        print("commands in 2 s of idling", asked)
        assert asked < 40


def test_a_task_is_picked_up_soon_whoever_enqueued_it(lab: Any) -> None:
    waits: dict[str, list[int]] = {"nbqueue": [], "raw": []}
    with lab.worker():
        lab.value(lab.submit(nothing))
        for _ in range(20):
            lab.value(task := lab.submit(nothing))
            waits["nbqueue"].append(int(lab.attempts(task)[0]["waited"]))
        for _ in range(20):
            _, message = lab.call(nothing)
            now_ns = int(lab.broker.clock.now() * 1e9)
            # As Asynq's script does: no event, no message.
            with lab.redis.pipeline(transaction=True) as pipeline:
                pipeline.hset(
                    f"asynq:{{default}}:t:{message.id}",
                    mapping={
                        "msg": message.SerializeToString(),
                        "state": "pending",
                        "pending_since": now_ns,
                    },
                )
                pipeline.lpush("asynq:{default}:pending", message.id)
                pipeline.execute()
            lab.value(message.id)
            waits["raw"].append(int(lab.attempts(message.id)[0]["waited"]))
    for name, each in waits.items():
        print(f"pick-up of {name}: median {statistics.median(each)} ms, most {max(each)} ms")
        assert statistics.median(each) < 500


def test_a_scheduled_task_starts_when_it_is_due(lab: Any) -> None:
    with lab.worker():
        lab.value(lab.submit(nothing))
        lates = []
        for _ in range(5):
            code, message = lab.call(nothing)
            due_ms = lab.broker.clock.now_ms() + 250
            lab.broker.enqueue(
                EnqueueRequest(
                    "default",
                    [NewTask(message.id, message.SerializeToString())],
                    due_ms=due_ms,
                    fingerprint=code.fingerprint,
                    blob=code.blob,
                )
            )
            lab.value(message.id)
            lates.append(int(lab.attempts(message.id)[0]["started_at"]) - due_ms)
        print("late by ms", lates)
        assert min(lates) >= -2
        assert statistics.median(lates) < 500


def test_a_task_scheduled_by_another_program_starts_within_seconds(lab: Any) -> None:
    with lab.worker():
        lab.value(lab.submit(nothing))
        _, message = lab.call(nothing)
        due = int(lab.broker.clock.now()) + 1
        lab.redis.hset(
            f"asynq:{{default}}:t:{message.id}",
            mapping={"msg": message.SerializeToString(), "state": "scheduled"},
        )
        lab.redis.zadd("asynq:{default}:scheduled", {message.id: due})
        lab.value(message.id, seconds=5)


@pytest.mark.slow
def test_a_task_that_another_program_lost_is_recovered_after_its_grace(lab: Any) -> None:
    """Asynq recovers 30 s after the lease; nbqueue waits as long for Asynq's leases."""
    with lab.worker():
        lab.value(lab.submit(nothing))  # the code is there now
        now = int(lab.broker.clock.now())
        ids = {}
        for name, lease in (("early", now - 20), ("late", now - 40)):
            _, message = lab.call(nothing)
            lab.redis.hset(
                f"asynq:{{default}}:t:{message.id}",
                mapping={"msg": message.SerializeToString(), "state": "active"},
            )
            lab.redis.lpush("asynq:{default}:active", message.id)
            lab.redis.zadd("asynq:{default}:lease", {message.id: lease})
            ids[name] = message.id
        lab.value(ids["late"], seconds=6)
        assert lab.state(ids["early"]) == "active"


def test_active_tasks_without_a_lease_are_found_again(lab: Any) -> None:
    """A program that died between two writes leaves these (protocol H.1, 7)."""
    with lab.worker():
        lab.value(lab.submit(nothing))
        _, message = lab.call(nothing)
        lab.redis.hset(
            f"asynq:{{default}}:t:{message.id}",
            mapping={"msg": message.SerializeToString(), "state": "active"},
        )
        lab.redis.lpush("asynq:{default}:active", message.id)
        lab.value(message.id, seconds=10)


@pytest.mark.slow
def test_equal_ids_in_two_queues_are_two_tasks(lab: Any) -> None:
    def tell(seconds: float, word: str) -> str:
        time.sleep(seconds)
        return word

    with lab.worker(queues={"a": 1, "b": 1}, lease=2):
        lab.submit(tell, 3, "a", task_id="same", queue="a")
        lab.submit(tell, 3, "b", task_id="same", queue="b")
        assert lab.value("same", queue="a") == "a"
        assert lab.value("same", queue="b") == "b"
        assert lab.outcomes("same", "a") == lab.outcomes("same", "b") == ["completed"]


def test_results_are_kept_for_their_retention_and_deleted_without_one(lab: Any) -> None:
    with lab.worker():
        gone = lab.submit(nothing, retention=0)
        lab.wait_until(lambda: lab.find(gone) is None)
        assert lab.outcomes(gone) == ["completed"]
        kept = lab.submit(nothing, retention=60)
        lab.value(kept)
        until = lab.redis.zscore("asynq:{default}:completed", kept)
        assert until == int(until)
        assert 50 <= until - lab.broker.clock.now() <= 61
        stored = TaskMessage.FromString(lab.redis.hget(f"asynq:{{default}}:t:{kept}", "msg"))
        assert abs(stored.completed_at - lab.broker.clock.now()) < 10
