"""A model of one queue against the broker, under random commands and crashes.

Times and repeats are random as well. Workers of nbqueue and a program in Go share the queue. Any
worker may act on tasks that it fetched long ago (it was paused, or its reply was late): the model
predicts whether it may, and the content of the store. After each step everything in the store is
compared with the model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
from asynq_peer import AsynqPeer
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from keyspace import NOW_MS, check_invariants, dump, encoded
from transitions import WHO

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import aggregation, lifecycle, maintenance
from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands.aggregation import Aggregate, Aggregated, Ripeness, Set
from nbqueue.broker.commands.failure import Failure
from nbqueue.broker.commands.lifecycle import Ended, token_fence
from nbqueue.broker.commands.maintenance import Expired
from nbqueue.store.connection import Store
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.script_call import Command

LEASE_MS = 30_000
GO = "go"
PLACES = ("scheduled", "retry", "archived", "completed")


@dataclass
class Model:
    """The expected state of a task in the store."""

    state: str
    since: int | None = None
    score: int = 0
    due: int | None = None
    holder: str = ""
    lease_ms: int = 0
    token_since: int | None = None
    attempt: int = 0
    lost: int = 0
    is_grouped: bool = False
    added: int | None = None
    in_set: str = ""

    @property
    def added_at(self) -> int:
        if self.added is not None and self.added // 1000 == self.score:
            return self.added
        return self.score * 1000


@dataclass
class AggregationSet:
    """A set held by a worker until its deadline; 0: it is being put back."""

    deadline: int
    is_ours: bool


@dataclass(frozen=True)
class Claim:
    """A past fetch, by which a worker may still believe that it has the task."""

    task_id: str
    token: str
    attempt: int


some = st.integers(min_value=0, max_value=1_000_000)


class QueueMachine(RuleBasedStateMachine):
    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.redis: Any = self.store.redis
        self.redis.flushall()
        self.broker = Broker(self.store)
        self.peer = AsynqPeer(self.redis)
        self.now_ms = NOW_MS
        self.tasks: dict[str, Model] = {}
        self.line: list[str] = []
        self.claims: list[Claim] = []
        self.found: list[tuple[Expired, str, int]] = []
        self.repeatable: list[tuple[Command[Any], Any]] = []
        self.events: list[tuple[str, str]] = []
        self.attempts: list[tuple[str, int, str]] = []
        self.processed = self.failed = self.made = self.tokens = 0
        self.is_paused = False
        self.sets: dict[str, AggregationSet] = {}
        self.our_sets: list[str] = []
        self.heard: Any = self.redis.pubsub(ignore_subscribe_messages=True)
        self.heard.subscribe("w")
        self.heard.get_message(timeout=5)

    def teardown(self) -> None:
        self.heard.close()
        self.broker.close()

    # --- Words -----------------------------------------------------------------------------------

    @property
    def now_s(self) -> int:
        return self.now_ms // 1000

    def new_id(self) -> str:
        self.made += 1
        return f"t{self.made:03}"

    def find(self, choice: int, *states: str, holder: str | None = None) -> str | None:
        """One of the tasks in these states."""
        found = [
            i
            for i, task in self.tasks.items()
            if task.state in states and (holder is None or task.holder == holder)
        ]
        return found[choice % len(found)] if found else None

    def is_held(self, claim: Claim) -> bool:
        task = self.tasks.get(claim.task_id)
        return task is not None and task.state == "active" and task.holder == claim.token

    def pick(self, choice: int) -> Claim:
        # The later ones: an old claim is refused whatever else happens.
        return self.claims[-1 - choice % min(len(self.claims), 8)]

    def failure(self, claim: Claim, fence: str | None = None) -> Failure:
        fence = token_fence(claim.token) if fence is None else fence
        return Failure(claim.task_id, fence, "t", claim.attempt, 0, None, "error", 0, "boom")

    def run(self, command: Command[Any], refused: Any) -> Any:
        self.repeatable = [(command, refused)]
        return self.broker.run(command)

    def put(self, task_id: str, state: str, score: int, due: int | None = None) -> None:
        task = self.tasks[task_id]
        task.state, task.score, task.since = state, score, None
        task.due = task.due if due is None else due

    def make_pending(self, task_id: str, since: int | None, *, front: bool = False) -> None:
        task = self.tasks[task_id]
        task.state, task.since, task.in_set = "pending", since, ""
        self.line.insert(0 if front else len(self.line), task_id)

    # --- Producers -------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.enqueue(3, False)

    @rule(number=st.integers(1, 4), by_go=st.booleans())
    def enqueue(self, number: int, by_go: bool) -> None:
        ids = [self.new_id() for _ in range(number)]
        since = self.now_ms * 1_000_000
        if by_go:
            for task_id in ids:
                assert self.peer.enqueue(task_id, encoded(task_id), since) == 1
        else:
            tasks = [NewTask(i, encoded(i)) for i in ids]
            command = enqueue_commands.enqueue("q", tasks, self.now_ms)
            assert self.run(command, list(range(number))) == []
            self.events.append(("enqueued", " ".join(ids)))
        for task_id in ids:
            self.tasks[task_id] = Model("pending", since)
            self.line.append(task_id)

    @rule(delay_ms=st.integers(0, 3_000), by_go=st.booleans())
    def schedule(self, delay_ms: int, by_go: bool) -> None:
        task_id, due = self.new_id(), self.now_ms + delay_ms
        self.tasks[task_id] = Model("scheduled")
        if by_go:
            assert self.peer.schedule(task_id, encoded(task_id), due // 1000) == 1
            self.put(task_id, "scheduled", due // 1000)
        else:
            command = enqueue_commands.schedule("q", [(NewTask(task_id, encoded(task_id)), due)], 0)
            assert self.run(command, [0]) == []
            self.events.append(("scheduled", task_id))
            self.put(task_id, "scheduled", math.ceil(due / 1000), due)

    @precondition(lambda self: self.tasks)
    @rule(choice=some, later=st.booleans())
    def enqueue_an_id_that_exists(self, choice: int, later: bool) -> None:
        task_id = list(self.tasks)[choice % len(self.tasks)]
        new = NewTask(task_id, b"")
        if later:
            command = enqueue_commands.schedule("q", [(new, self.now_ms)], self.now_ms)
        else:
            command = enqueue_commands.enqueue("q", [new], self.now_ms)
        assert self.broker.run(command) == [0]

    # --- Aggregation groups ----------------------------------------------------------------------

    def put_in_group(self, task_id: str, score: int, added: int | None = None) -> None:
        self.put(task_id, "aggregating", score)
        task = self.tasks[task_id]
        task.is_grouped, task.in_set = True, ""
        task.added = task.added if added is None else added

    def members(self, set_id: str = "") -> list[str]:
        """Return the members of the group, or of one of its sets, ordered by score."""
        found = [
            i for i, t in self.tasks.items() if t.state == "aggregating" and t.in_set == set_id
        ]
        return sorted(found, key=lambda i: (self.tasks[i].score, i))

    @rule(number=st.integers(1, 2), by_go=st.booleans())
    def add_to_group(self, number: int, by_go: bool) -> None:
        ids = [self.new_id() for _ in range(number)]
        if by_go:
            for task_id in ids:
                assert self.peer.add_to_group(task_id, encoded(task_id), "g", self.now_s) == 1
        else:
            tasks = [NewTask(i, encoded(i)) for i in ids]
            command = aggregation.add_to_group("q", "g", tasks, self.now_ms)
            assert self.run(command, list(range(number))) == []
            self.events.append(("aggregating", " ".join(ids)))
        for task_id in ids:
            self.tasks[task_id] = Model("aggregating")
            self.put_in_group(task_id, self.now_s, None if by_go else self.now_ms)

    @rule(delay_ms=st.integers(0, 3_000))
    def schedule_into_group(self, delay_ms: int) -> None:
        task_id, due = self.new_id(), self.now_ms + delay_ms
        new = [(NewTask(task_id, encoded(task_id)), due)]
        assert self.run(enqueue_commands.schedule("q", new, 0, group="g"), [0]) == []
        self.tasks[task_id] = Model("scheduled", is_grouped=True)
        self.put(task_id, "scheduled", math.ceil(due / 1000), due)
        self.events.append(("scheduled", task_id))

    @rule(
        size=st.sampled_from([0, 1, 3]),
        delay=st.sampled_from([0, 2]),
        grace=st.sampled_from([1, 60]),
        by_go=st.booleans(),
    )
    def aggregate(self, size: int, delay: int, grace: int, by_go: bool) -> None:
        waiting = self.members()
        set_id = f"s{self.made}-{len(self.sets)}-{len(self.our_sets)}"
        times = [self.tasks[i].added_at // (1000 if by_go else 1) for i in waiting]
        now, second = (self.now_s, 1) if by_go else (self.now_ms, 1000)
        is_ripe = bool(waiting) and (
            (size > 0 and len(waiting) >= size)
            or max(times) + grace * second <= now
            or (delay > 0 and min(times) + delay * second <= now)
        )
        moved = waiting[: size or None] if is_ripe else []
        if by_go:
            assert self.peer.check_group("g", set_id, self.now_s, size, delay, grace) is is_ripe
            deadline = self.now_s + 120
        else:
            when, deadline = Ripeness(grace * 1000, delay * 1000, size), self.now_s + 30
            command = aggregation.form_set("q", Set("g", set_id), when, self.now_ms, deadline)
            assert self.broker.run(command).size == len(moved)
            if moved:
                assert self.broker.run(command).size == len(moved)  # a repeat takes no more
                self.our_sets.append(set_id)
        if moved:
            self.sets[set_id] = AggregationSet(deadline, not by_go)
        for task_id in moved:
            self.tasks[task_id].in_set = set_id

    @rule(choice=some, how=st.sampled_from(["finish", "put back", "half", "extend"]))
    def a_set_is_made_and_runs_out(self, choice: int, how: str) -> None:
        """Combine steps that matter together, and seldom meet by chance."""
        self.add_to_group(2, choice % 2 == 0)
        self.aggregate(1 + choice % 2, 0, 60, by_go=False)
        self.end_a_set(0, how)
        self.end_a_set(choice, "finish")

    def put_back(self, set_id: str, limit: int | None = None) -> None:
        for task_id in self.members(set_id)[:limit]:
            self.tasks[task_id].in_set = ""
        if self.members(set_id):
            self.sets[set_id].deadline = 0
        else:
            del self.sets[set_id]

    @precondition(lambda self: self.our_sets)
    @rule(choice=some, how=st.sampled_from(["finish", "put back", "half", "extend"]))
    def end_a_set(self, choice: int, how: str) -> None:
        """End a set, perhaps long after its deadline.

        It may have been put back, by nbqueue or by Go.
        """
        set_id = self.our_sets[-1 - choice % min(len(self.our_sets), 3)]
        found, chosen = self.sets.get(set_id), Set("g", set_id)
        is_held = found is not None and found.deadline > 0
        if how == "finish":
            task_id, members = self.new_id(), self.members(set_id)
            made = Aggregate(NewTask(task_id, encoded(task_id)))
            command = aggregation.finish_set("q", chosen, made, self.now_ms)
            expected = Aggregated("ENQUEUED", "") if is_held else None
            assert self.run(command, None) == expected
            if is_held:
                for member in members:
                    del self.tasks[member]
                del self.sets[set_id]
                self.tasks[task_id] = Model("pending", self.now_ms * 1_000_000)
                self.line.append(task_id)
                self.events += [("aggregated", " ".join(members)), ("enqueued", task_id)]
        elif how == "extend":
            deadline = self.now_s + 30
            assert self.broker.run(aggregation.extend_set("q", chosen, deadline)) is is_held
            if found is not None and is_held:
                found.deadline = deadline
        else:
            limit = 1 if how == "half" else 999
            left = self.broker.run(aggregation.reclaim_set("q", chosen, limit=limit))
            if found is not None:
                self.put_back(set_id, limit)
            assert left == len(self.members(set_id))

    @rule()
    def reclaim(self) -> None:
        for set_id, found in list(self.sets.items()):
            self.broker.run(aggregation.reclaim_set("q", Set("g", set_id), self.now_s))
            if found.deadline <= self.now_s:
                self.put_back(set_id)
        self.broker.run(aggregation.note_groups("q", ["g"], self.now_ms))
        self.broker.run(aggregation.restore_groups("q", 0, self.now_ms))
        is_known = bool(self.redis.sismember("asynq:{q}:groups", "g"))
        assert is_known or not self.members()

    @rule()
    def go_reclaims(self) -> None:
        over = [i for i, found in self.sets.items() if found.deadline <= self.now_s]
        assert self.peer.reclaim(self.now_s) == len(over)
        for set_id in over:
            self.put_back(set_id)

    @rule(choice=some)
    def go_deletes_its_set(self, choice: int) -> None:
        theirs = [i for i, found in self.sets.items() if not found.is_ours and found.deadline > 0]
        if theirs:
            set_id = theirs[choice % len(theirs)]
            self.peer.delete_set("g", set_id)
            for member in self.members(set_id):
                del self.tasks[member]
            del self.sets[set_id]

    # --- Workers ---------------------------------------------------------------------------------

    @rule(limit=st.integers(1, 4))
    def fetch(self, limit: int) -> None:
        self.tokens += 1
        token = f"w:{self.tokens}"
        command = lifecycle.fetch("q", limit, self.now_ms, self.now_ms + LEASE_MS, token)
        found = self.broker.run(command)
        if self.is_paused:
            assert found is None
            return
        taken, self.line = self.line[:limit], self.line[limit:]
        expected = []
        for task_id in taken:
            expected.append(self.take(task_id, token))
        assert found == expected
        if taken:
            self.events.append(("started", " ".join(taken)))

    def take(self, task_id: str, token: str) -> tuple[Any, ...]:
        """Give the task to a worker of nbqueue; return the worker's record of it."""
        task = self.tasks[task_id]
        task.attempt += 1
        found = (task_id, encoded(task_id), task.since, task.attempt, task.lost, 0)
        task.state, task.holder, task.lease_ms = "active", token, self.now_ms + LEASE_MS
        task.token_since, task.since = task.since, None
        self.claims.append(Claim(task_id, token, task.attempt))
        return found

    @rule(channel=st.sampled_from(["w", "gone"]), holds=st.booleans())
    def enqueue_where_a_worker_offered(self, channel: str, holds: bool) -> None:
        self.tokens += 1
        task_id, token = self.new_id(), f"w:{self.tokens}"
        until_ms = self.now_ms if holds else 0  # which for the store is to come, or was long ago
        text = lifecycle.offer_text(until_ms, self.now_ms + LEASE_MS, channel, token)
        self.broker.run(lifecycle.add_offer("q", text, 60_000))
        command = enqueue_commands.enqueue("q", [NewTask(task_id, encoded(task_id))], self.now_ms)
        assert self.run(command, [0]) == []
        self.broker.call(lifecycle.withdraw_offer("q", text), on="q")
        self.tasks[task_id] = Model("pending", self.now_ms * 1_000_000)
        self.events.append(("enqueued", task_id))
        if channel == "w" and holds and not self.line and not self.is_paused:
            handed = lifecycle.read_handed(self.heard.get_message(timeout=5)["data"])
            assert handed == ("q", token, self.take(task_id, token))
            self.events.append(("started", task_id))
        else:
            self.line.append(task_id)

    @precondition(lambda self: self.claims)
    @rule(choices=st.lists(some, min_size=1, max_size=4), keep=st.sampled_from([None, 0, 2, 60]))
    def complete(self, choices: list[int], keep: int | None) -> None:
        until = None if keep is None else self.now_s + keep
        batch, refused, done = [], [], []
        for position, claim in enumerate(self.pick(choice) for choice in choices):
            batch.append(
                Ended(claim.task_id, token_fence(claim.token), until, encoded(claim.task_id), b"r",
                      "t", claim.attempt, 0, 0, None, 0)
            )  # fmt: skip
            if not self.is_held(claim):
                refused.append(position)
                continue
            done.append(claim.task_id)
            self.attempts.append((claim.task_id, claim.attempt, "completed"))
            if until is None:
                del self.tasks[claim.task_id]
            else:
                self.put(claim.task_id, "completed", until)
        command = lifecycle.complete("q", batch, self.now_ms, WHO)
        assert self.run(command, list(range(len(batch)))) == refused
        if done:
            self.processed += len(done)
            self.events.append(("completed", " ".join(done)))

    @precondition(lambda self: self.claims)
    @rule(choice=some, delay_ms=st.integers(0, 3_000), counts=st.booleans())
    def retry(self, choice: int, delay_ms: int, counts: bool) -> None:
        claim = self.pick(choice)
        self.fail(claim, None, "retry", delay_ms, counts, self.is_held(claim))

    @precondition(lambda self: self.claims)
    @rule(choice=some)
    def archive(self, choice: int) -> None:
        claim = self.pick(choice)
        self.fail(claim, None, "archive", 0, True, self.is_held(claim))

    @precondition(lambda self: self.claims)
    @rule(choice=some, how=st.sampled_from(["unstarted", "interrupted", "lost"]))
    def requeue(self, choice: int, how: str) -> None:
        claim = self.pick(choice)
        self.fail(claim, None, how, 0, False, self.is_held(claim))

    def fail(
        self, claim: Claim, fence: str | None, how: str, delay_ms: int, counts: bool, is_held: bool
    ) -> None:
        """End an attempt in one of the ways that are no success."""
        task_id, failure = claim.task_id, self.failure(claim, fence)
        msg, due = encoded(task_id), self.now_ms + delay_ms
        if how == "retry":
            command = failure_commands.retry(
                "q", failure, msg, due, self.now_ms, WHO, counts=counts
            )
        elif how == "archive":
            command = failure_commands.archive("q", failure, msg, self.now_ms, WHO)
        else:
            command = failure_commands.requeue("q", failure, how, self.now_ms, WHO)
        assert self.run(command, False) is is_held
        if not is_held:
            return
        task = self.tasks[task_id]
        if how != "unstarted":
            outcome = "archived" if how == "archive" else how
            self.attempts.append((task_id, claim.attempt, outcome))
            # What is fetched next counts attempts of programs in Go, too.
            task.attempt = max(task.attempt, claim.attempt)
        if how == "retry":
            self.put(task_id, "retry", math.ceil(due / 1000), due)
            task.is_grouped = False
            self.events.append(("retried", task_id))
        elif how == "archive":
            self.put(task_id, "archived", self.now_s)
            self.events.append(("archived", task_id))
        else:
            task.lost += how == "lost"
            task.attempt -= how == "unstarted"
            since = None if task.holder == GO else task.token_since
            self.make_pending(task_id, since, front=True)
            self.events.append(("requeued", task_id))
        if how == "archive" or (how == "retry" and counts):
            self.processed += 1
            self.failed += 1

    @precondition(lambda self: self.claims)
    @rule(choices=st.lists(some, min_size=1, max_size=4))
    def extend(self, choices: list[int]) -> None:
        claims = [self.pick(choice) for choice in choices]
        held = [(c.task_id, token_fence(c.token)) for c in claims]
        refused = self.broker.run(lifecycle.extend("q", held, self.now_ms + LEASE_MS))
        assert refused == [i for i, claim in enumerate(claims) if not self.is_held(claim)]
        for claim in claims:
            if self.is_held(claim):
                self.tasks[claim.task_id].lease_ms = self.now_ms + LEASE_MS

    @rule(
        how=st.sampled_from(["lost", "retry", "archive", "nothing"]), limit=st.sampled_from([1, 9])
    )
    def recover(self, how: str, limit: int) -> None:
        found = self.broker.run(maintenance.expired("q", self.now_ms, limit=100))
        expected = {
            i
            for i, task in self.tasks.items()
            if task.state == "active"
            and task.lease_ms + (30_000 if task.holder == GO else 0) <= self._lease_now(task)
        }
        assert {each.task_id for each in found} == expected
        self.found += [
            (e, self.tasks[e.task_id].holder, self.tasks[e.task_id].lease_ms) for e in found
        ]
        for each in found[:limit]:
            if how != "nothing":
                claim = Claim(each.task_id, "", each.attempt)
                self.fail(claim, each.fence, how, 700, True, True)

    @rule(how=st.sampled_from(["lost", "nothing"]), limit=st.integers(1, 4))
    def a_worker_sleeps_past_its_lease(self, how: str, limit: int) -> None:
        self.fetch(limit)
        self.advance(31_000)
        self.recover(how, limit)
        self.fetch(limit)

    @precondition(lambda self: self.found)
    @rule(choice=some, how=st.sampled_from(["lost", "retry", "archive"]))
    def recover_late(self, choice: int, how: str) -> None:
        """Recover an expired lease late: the task may be in any state by now."""
        found, holder, lease_ms = self.found[-1 - choice % min(len(self.found), 4)]
        task = self.tasks.get(found.task_id)
        is_held = (
            task is not None
            and task.state == "active"
            and (task.holder == GO, task.lease_ms) == (holder == GO, lease_ms)
        )
        self.fail(Claim(found.task_id, "", found.attempt), found.fence, how, 700, True, is_held)

    def _lease_now(self, task: Model) -> int:
        return self.now_s * 1000 if task.holder == GO else self.now_ms

    @precondition(lambda self: self.repeatable)
    @rule()
    def repeat_the_last_command(self) -> None:
        """The reply was lost, and the command is sent again: all of it is refused."""
        command, refused = self.repeatable[0]
        if command.script.name in ("enqueue", "schedule", "add_to_group"):
            ids = [key.rpartition(":")[2] for key in command.keys if ":t:" in key]
            if not all(task_id in self.tasks for task_id in ids):
                return  # it ran and was deleted: a repeat is then a new task
        assert self.broker.run(command) == refused

    # --- Maintenance -----------------------------------------------------------------------------

    @rule(ms=st.sampled_from([1, 10, 377, 1_000, 2_500, 31_000, 62_000]))
    def advance(self, ms: int) -> None:
        self.now_ms += ms

    @rule(by_go=st.booleans())
    def forward(self, by_go: bool) -> None:
        moved = [
            task_id
            for state in ("scheduled", "retry")
            for task_id in sorted(
                (i for i, task in self.tasks.items() if task.state == state),
                key=lambda i: (self.tasks[i].score, i),
            )
            if self._is_due(self.tasks[task_id], by_go)
        ]
        since = self.now_ms * 1_000_000
        if by_go:
            since = self.now_s * 1_000_000_000
            assert self.peer.forward(self.now_s) == len(moved)
        else:
            assert self.broker.run(maintenance.forward("q", self.now_ms)).moved == len(moved)
        grouped = [i for i in moved if self._goes_to_group(self.tasks[i], by_go)]
        moved = [i for i in moved if i not in grouped]
        for what, ids in (("forwarded", moved), ("aggregating", grouped)):
            if ids and not by_go:
                self.events.append((what, " ".join(ids)))
        for task_id in moved:
            self.make_pending(task_id, since)
        for task_id in grouped:
            self.put_in_group(task_id, self.now_s, None if by_go else self.now_ms)

    @staticmethod
    def _goes_to_group(task: Model, by_go: bool) -> bool:
        return task.is_grouped and (by_go or task.state == "scheduled")

    def _is_due(self, task: Model, by_go: bool) -> bool:
        if by_go:
            return task.score <= self.now_s
        if task.due is not None and math.ceil(task.due / 1000) == task.score:
            return task.due <= self.now_ms
        # A program in Go cut the fraction of its second off.
        return (task.score + 1) * 1000 <= self.now_ms

    @rule()
    def delete_expired(self) -> None:
        over = [
            i for i, task in self.tasks.items()
            if task.state == "completed" and task.score <= self.now_s
        ]  # fmt: skip
        over.sort(key=lambda i: (self.tasks[i].score, i))
        assert self.broker.run(maintenance.delete_expired("q", self.now_ms)) == len(over)
        if over:
            self.events.append(("expired", " ".join(over)))
        for task_id in over:
            del self.tasks[task_id]

    @precondition(lambda self: self.tasks)
    @rule(choice=some)
    def cancel(self, choice: int) -> None:
        task_id = list(self.tasks)[choice % len(self.tasks)]
        task, msg = self.tasks[task_id], encoded(task_id)
        word = self.broker.run(maintenance.cancel("q", task_id, msg, msg, b"E", self.now_ms))
        if task.in_set or task.state not in ("pending", "scheduled", "retry", "aggregating"):
            assert word == task.state
            return
        assert word == "CANCELLED"
        if task.state == "pending":
            self.line.remove(task_id)
        since = task.since
        self.put(task_id, "archived", self.now_s)
        task.since = since  # as when an inspector archives it
        self.events.append(("archived", task_id))

    @rule(choice=some)
    def pause_or_go_on(self, choice: int) -> None:
        self.is_paused = not self.is_paused and choice % 4 == 0
        if self.is_paused:
            self.redis.set("asynq:{q}:paused", self.now_s)
        else:
            self.redis.delete("asynq:{q}:paused")

    # --- A program in Go -------------------------------------------------------------------------

    @rule()
    def go_dequeues(self) -> None:
        found = self.peer.dequeue(self.now_s)
        if self.is_paused or not self.line:
            assert found is None
            return
        task_id = self.line.pop(0)
        assert found == encoded(task_id)
        task = self.tasks[task_id]
        task.state, task.holder, task.since = "active", GO, None
        task.lease_ms = (self.now_s + 30) * 1000

    @rule(choice=some, how=st.sampled_from(["done", "complete", "requeue", "retry", "archive"]))
    def go_ends(self, choice: int, how: str) -> None:
        task_id = self.find(choice, "active", holder=GO)
        if task_id is None:
            return
        msg = encoded(task_id)
        if how == "done":
            self.peer.done(task_id)
            del self.tasks[task_id]
        elif how == "complete":
            self.peer.complete(task_id, msg, self.now_s + 2)
            self.put(task_id, "completed", self.now_s + 2)
        elif how == "requeue":
            self.peer.requeue(task_id)
            self.make_pending(task_id, None, front=True)
        elif how == "retry":
            self.peer.retry(task_id, msg, self.now_s + 1)
            self.put(task_id, "retry", self.now_s + 1)
        else:
            self.peer.archive(task_id, msg, self.now_s)
            self.put(task_id, "archived", self.now_s)
        self.processed += how != "requeue"
        self.failed += how in ("retry", "archive")

    @rule(choice=some)
    def go_extends(self, choice: int) -> None:
        task_id = self.find(choice, "active", holder=GO)
        if task_id is not None:
            self.peer.extend([task_id], self.now_s)
            self.tasks[task_id].lease_ms = (self.now_s + 30) * 1000

    @rule(choice=some)
    def an_inspector_runs_one(self, choice: int) -> None:
        task_id = self.find(choice, *PLACES, "aggregating")
        if task_id is not None and not self.tasks[task_id].in_set:
            assert self.peer.run_one(task_id) == 1
            # It leaves the time of waiting as it is, even one from before it was cancelled.
            self.make_pending(task_id, self.tasks[task_id].since)

    # --- What must hold --------------------------------------------------------------------------

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        content = dump(self.redis)
        check_invariants(content)
        found = {name[2:]: fields for name, fields in content.items() if name.startswith("t:")}
        assert found.keys() == self.tasks.keys()
        assert content.get("pending", [])[::-1] == self.line
        for task_id, task in self.tasks.items():
            fields = found[task_id]
            assert fields["state"] == task.state, task_id
            assert fields.get("pending_since") == task.since, task_id
            assert fields.get("nbq:attempt", 0) == task.attempt, task_id
            assert fields.get("nbq:lost", 0) == task.lost, task_id
            if task.state in PLACES:
                assert content[task.state][task_id] == task.score, task_id
            assert ("group" in fields) == task.is_grouped, task_id
            if task.state == "aggregating":
                home = f"g:g:{task.in_set}" if task.in_set else "g:g"
                assert content[home][task_id] == task.score, task_id
            if task.state == "active":
                score = content["lease"][task_id]
                assert math.isclose(score, task.lease_ms / 1000, abs_tol=0.0011), task_id
                assert isinstance(score, int) == (task.holder == GO), task_id
        sets = {f"asynq:{{q}}:g:g:{i}": each.deadline for i, each in self.sets.items()}
        assert content.get("aggregation_sets", {}) == sets
        assert int(content.get("processed", 0)) == self.processed
        assert int(content.get("failed", 0)) == self.failed
        events = [(e["event"], e["ids"]) for e in content.get("own:events", [])]
        assert events == self.events
        attempts = content.get("own:attempts", [])
        ended = [(e["task_id"], int(e["attempt"]), e["outcome"]) for e in attempts]
        assert ended == self.attempts

    @invariant()
    def no_attempt_is_finished_twice(self) -> None:
        finished = [entry[:2] for entry in self.attempts if entry[2] == "completed"]
        assert len(finished) == len(set(finished))


@pytest.mark.timeout(300)  # it takes half a minute, on a machine with nothing else to do
@pytest.mark.parametrize("examples", [60, pytest.param(150, marks=pytest.mark.slow)])
def test_the_broker_does_what_the_model_says_whatever_comes(store: Store, examples: int) -> None:
    class Bound(QueueMachine):
        pass

    Bound.store = store
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
