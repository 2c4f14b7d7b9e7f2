"""Limits, requirements and tasks after one another, under random commands and crashes.

Times are random as well, and a Go peer shares the queue. There is no exact model: invariants are
checked after each step, and at the end that no task waits for ever. That end comes long before the
safety net of parked tasks would help.
"""

from __future__ import annotations

from typing import Any

import pytest
from asynq_peer import AsynqPeer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from keyspace import NOW_MS, check_invariants, dump, encoded
from transitions import WHO

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue, lifecycle, limits, maintenance, requirements
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.enqueue import UniqueLock
from nbqueue.broker.commands.failure import Failure
from nbqueue.broker.commands.lifecycle import Ended, token_fence
from nbqueue.store.connection import Store
from nbqueue.tasks.new_task import NewTask

LEASE_MS = 30_000
HOUR = 3_600_000
NEED = "python=3.9"
LOCK = "asynq:{q}:unique:t:83878c91171338902e0fe0fb97a8c47a"
NUMBERS = {"one": "1|||", "three": "3|||", "rate": "|10|1000|", "both": "2|20|1000|2"}
ENDED = ("completed", "archived")

some = st.integers(min_value=0, max_value=1_000_000)
names = st.sampled_from([*NUMBERS, "unknown", ""])


class ParkingMachine(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.redis: Any = self.store.redis
        self.redis.flushall()
        self.broker = Broker(self.store)
        self.peer = AsynqPeer(self.redis)
        self.now_ms = NOW_MS
        self.tokens: dict[str, str] = {}
        self.limits: dict[str, str] = {}
        self.by_go: set[str] = set()
        self.made = 0
        for name, numbers in NUMBERS.items():
            self.broker.run(limits.set_limit("q", name, numbers, NOW_MS, NOW_MS))

    def teardown(self) -> None:
        try:
            self.nobody_waits_for_ever()
        finally:
            self.broker.close()

    def new_id(self) -> str:
        self.made += 1
        return f"t{self.made:03}"

    def state(self, task_id: str) -> str:
        found = self.redis.hget("asynq:{q}:t:" + task_id, "state")
        return found.decode() if found else "gone"

    def pick(self, choice: int, *states: str, by_go: bool = False) -> str | None:
        found = [
            i
            for i in (f"t{n:03}" for n in range(1, self.made + 1))
            if self.state(i) in states and (i in self.by_go) == by_go
        ]
        return found[choice % len(found)] if found else None

    def message(self, task_id: str) -> bytes:
        found: bytes = self.redis.hget("asynq:{q}:t:" + task_id, "msg")
        return found

    # --- Producers -------------------------------------------------------------------------------

    @rule(name=names, number=st.integers(1, 6), delay_ms=st.sampled_from([None, 50, 1500]))
    def submit(self, name: str, number: int, delay_ms: int | None) -> None:
        ids = [self.new_id() for _ in range(number)]
        tasks = [limits.limited(NewTask(i, encoded(i)), name) for i in ids]
        self.limits.update(dict.fromkeys(ids, name))
        if delay_ms is None:
            assert self.broker.run(enqueue.enqueue("q", tasks, self.now_ms)) == []
        else:
            later = [(task, self.now_ms + delay_ms) for task in tasks]
            assert self.broker.run(enqueue.schedule("q", later, self.now_ms)) == []

    @rule(name=names, delay_ms=st.sampled_from([None, None, 1500]))
    def submit_after(self, name: str, delay_ms: int | None) -> None:
        task_id = self.new_id()
        self.limits[task_id] = name
        new = limits.limited(NewTask(task_id, encoded(task_id, unique_key=LOCK)), name)
        due_ms = None if delay_ms is None else self.now_ms + delay_ms
        command = enqueue.enqueue_unique(
            "q", new, UniqueLock(LOCK, HOUR, waits_for_holder=True), self.now_ms, due_ms=due_ms
        )
        assert self.broker.run(command) == "ENQUEUED"

    @rule(name=st.sampled_from(["one", "three", "both"]))
    def raise_a_limit(self, name: str) -> None:
        raised = {"one": "2|||", "three": "4|||", "both": "3|50|1000|"}[name]
        self.broker.run(limits.set_limit("q", name, raised, self.now_ms, self.now_ms))

    # --- Workers ---------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 5))
    def fetch(self, limit: int) -> None:
        self.take(limit)

    def take(self, limit: int) -> list[str]:
        token = f"w:{self.now_ms}:{len(self.tokens)}"
        return self.note(
            lifecycle.fetch("q", limit, self.now_ms, self.now_ms + LEASE_MS, token), token
        )

    def take_required(self, limit: int) -> list[str]:
        """Fetch tasks as a worker that meets the requirement."""
        token = f"w:{self.now_ms}:{len(self.tokens)}"
        until_ms = self.now_ms + LEASE_MS
        command = requirements.fetch_required("q", NEED, limit, self.now_ms, until_ms, token)
        return self.note(command, token)

    def note(self, command: Any, token: str) -> list[str]:
        found = self.broker.run(command)
        for each in found or ():
            self.tokens[each.task_id] = token
            self.by_go.discard(each.task_id)
        return [each.task_id for each in found or ()]

    @rule(choice=some)
    def park_for_another_worker(self, choice: int) -> None:
        task_id = self.pick(choice, "active")
        if task_id is not None:
            fence = token_fence(self.tokens[task_id])
            command = requirements.park_required("q", task_id, fence, NEED, self.now_ms)
            assert self.broker.run(command)
            assert not self.broker.run(command)

    @rule(limit=st.integers(1, 5))
    def another_worker_fetches(self, limit: int) -> None:
        self.take_required(limit)

    def failure(self, task_id: str) -> Failure:
        fence = token_fence(self.tokens[task_id])
        return Failure(task_id, fence, "t", 1, 0, None, "error", 0, "boom")

    @rule(choice=some, keep=st.booleans())
    def complete(self, choice: int, keep: bool) -> None:
        task_id = self.pick(choice, "active")
        if task_id is not None:
            self.end([task_id], keep)

    def end(self, ids: list[str], keep: bool = False) -> None:
        until = self.now_ms // 1000 + 9 if keep else None
        ended = [
            Ended(i, token_fence(self.tokens[i]), until, self.message(i), b"r", "t", 1, 0, 0, 0, 0)
            for i in ids
        ]
        assert self.broker.run(lifecycle.complete("q", ended, self.now_ms, WHO)) == []

    @rule(choice=some, how=st.sampled_from(["retry", "archive", "lost", "unstarted"]))
    def fail(self, choice: int, how: str) -> None:
        task_id = self.pick(choice, "active")
        if task_id is None:
            return
        failure, msg, now_ms = self.failure(task_id), self.message(task_id), self.now_ms
        command: Any
        if how == "retry":
            command = failure_commands.retry("q", failure, msg, now_ms + 300, now_ms, WHO)
        elif how == "archive":
            command = failure_commands.archive("q", failure, msg, now_ms, WHO)
        else:
            command = failure_commands.requeue("q", failure, how, now_ms, WHO)
        assert self.broker.run(command)

    @rule(choice=some)
    def cancel(self, choice: int) -> None:
        task_id = self.pick(choice, "pending", "scheduled", "retry")
        if task_id is not None:
            msg = self.message(task_id)
            command = maintenance.cancel("q", task_id, msg, msg, b"E", self.now_ms)
            assert self.broker.run(command) == "CANCELLED"

    # --- Upkeep ----------------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 40, 100, 1_000, 2_500, 31_000, 700_000]))
    def advance(self, ms: int) -> None:
        self.now_ms += ms

    @rule()
    def judge(self) -> None:
        self.broker.run(limits.release_parked("q", self.now_ms))

    @rule()
    def forward(self) -> None:
        self.broker.run(maintenance.forward("q", self.now_ms))

    @rule()
    def recover(self) -> None:
        for each in self.broker.run(maintenance.expired("q", self.now_ms)):
            lost = Failure(each.task_id, each.fence, "t", 1, 0, None, "lost", 0, "boom")
            assert self.broker.run(failure_commands.requeue("q", lost, "lost", self.now_ms, WHO))

    # --- Others ----------------------------------------------------------------------------------

    @rule()
    def go_dequeues(self) -> None:
        line = self.redis.lrange("asynq:{q}:pending", -1, -1)
        if self.peer.dequeue(self.now_ms // 1000) is not None:
            self.by_go.add(line[0].decode())

    @rule(choice=some)
    def go_is_done(self, choice: int) -> None:
        task_id = self.pick(choice, "active", by_go=True)
        if task_id is not None:
            if self.redis.get(LOCK) == task_id.encode():
                self.redis.delete(LOCK)
            self.peer.done(task_id)

    @rule(choice=some)
    def an_inspector_runs_one(self, choice: int) -> None:
        task_id = self.pick(choice, "scheduled", "retry", "archived")
        if task_id is not None:
            assert self.peer.run_one(task_id) == 1

    @rule()
    def the_lock_runs_out(self) -> None:
        self.redis.delete(LOCK)

    # --- What must hold --------------------------------------------------------------------------

    @invariant()
    def the_store_makes_sense(self) -> None:
        content = dump(self.redis)
        check_invariants(content)
        for name, numbers in content.get("own:limits", {}).items():
            most = numbers.partition("|")[0]
            running = [
                i
                for i in content.get("active", [])
                if self.limits.get(i) == name and i not in self.by_go
            ]
            assert not most or len(running) <= int(most), f"{running} run under {name}"

    def nobody_waits_for_ever(self) -> None:
        for _ in range(3 * self.made + 30):
            self.now_ms += 2_100
            self.recover()
            self.forward()
            self.judge()
            ids = [*self.take(50), *self.take_required(50)]
            if ids:
                self.end(ids)
            self.the_store_makes_sense()
            ids = [f"t{n:03}" for n in range(1, self.made + 1)]
            if {self.state(i) for i in ids} <= {*ENDED, "gone"}:
                break
        content = dump(self.redis)
        left = {k: v["state"] for k, v in content.items() if k.startswith("t:")}
        assert set(left.values()) <= set(ENDED), (left, content)
        assert not [k for k in content if k.startswith(("own:wait:", "own:limit:"))], content


@pytest.mark.parametrize("examples", [25, pytest.param(60, marks=pytest.mark.slow)])
def test_limits_hold_and_nobody_waits_for_ever(store: Store, examples: int) -> None:
    class Bound(ParkingMachine):
        pass

    Bound.store = store
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
