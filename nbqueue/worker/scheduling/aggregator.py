"""Turn the tasks of an aggregation group into one task.

The members of a ripe group move to a set with a deadline; the function runs in an executor, on a
slot of the worker, and one script replaces the members by the task that it returned. If it fails,
the members return to their group with their scores, and each next try comes later. If this process
dies, its sets expire, and any worker returns their members.
"""

from __future__ import annotations

import itertools
import logging
import math
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nbqueue.broker.commands import aggregation
from nbqueue.broker.commands.aggregation import MOST_BYTES, Aggregated, Set, Taken
from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.durations import format_duration
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.runtime.reactor import Timer
from nbqueue.tasks import aggregation_group
from nbqueue.tasks.aggregation_group import Member
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import whole_number
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import TaskMessage
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.scheduling.aggregates import ReturnedTask, member_of, returned_task
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Refusal, timeout_text

log = logging.getLogger("nbqueue.worker")

LONGEST = 1800
"""Maximum seconds for the function: Asynq's time-out for messages without one."""

DEADLINE_SECONDS, DEADLINE_LEASES = 30.0, 4
"""The lifetime of an aggregation set, in seconds and in leases.

A set expires after one lease without an extension. With short leases it is up to four of them, as
it is extended only every few seconds. Asynq's sets expire after two minutes.
"""

_POLL = 7.0
_SLICE = 200
_NOT_BEGUN = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0

Key = tuple[str, str]
"""A queue, and the name of a group in it."""


@dataclass(slots=True)
class _Aggregation:
    """An aggregation set that this worker took, and its number of members."""

    queue: str
    chosen: Set
    count: int

    @property
    def key(self) -> Key:
        return self.queue, self.chosen.group


class Aggregator(Service):
    """Looks at due groups, and runs the function for ripe ones.

    The scripts announce each task that is added to a group. Other programs announce nothing, so
    all groups are looked at every few seconds, as Asynq does. While a ripe group waits for room in
    ``waiting``, the fetcher must leave `reserved` slots free.
    """

    def __init__(
        self,
        context: ServiceContext,
        settings: WorkerSettings,
        acknowledger: Acknowledger,
        waiting: WaitingAttempts,
        numbers: itertools.count[int],
    ) -> None:
        self._queues = context.queues.names
        self._acknowledger = acknowledger
        self._waiting = waiting
        self._numbers = numbers
        self._is_async = settings.aggregator_is_async
        self._ripeness = settings.ripeness
        self._deadline_seconds = max(
            settings.lease_seconds, min(DEADLINE_SECONDS, DEADLINE_LEASES * settings.lease_seconds)
        )
        self.enabled = settings.aggregates
        self._timers: dict[Key, Timer] = {}
        self._to_look_at: dict[Key, None] = {}
        self._ripe: dict[Key, None] = {}
        self._taking: _Aggregation | None = None
        self._returning: dict[str, _Aggregation] = {}
        self._running: dict[int, _Aggregation] = {}
        self._failures: dict[Key, tuple[int, float]] = {}
        grace = self._ripeness.grace_ms / 1000
        super().__init__(context, min(_POLL, grace, settings.lease_seconds))
        context.connections.on_up.append(self._put_back_all)

    @property
    def reserved(self) -> int:
        """The number of slots that a ripe group waits for."""
        return int(self.enabled and (self._taking is not None or bool(self._ripe)))

    @property
    def is_idle(self) -> bool:
        """True if no set is being taken or returned."""
        return self._taking is None and not self._returning

    def stop(self) -> None:
        super().stop()
        for timer in self._timers.values():
            timer.cancel()
        for what in (self._timers, self._to_look_at, self._ripe):
            what.clear()
        # The set may have been taken, although the reply is lost.
        if self._taking is not None:
            self._returning[self._taking.chosen.set_id] = self._taking
            self._taking = None

    def run_once(self) -> None:
        self._extend()
        if not self.enabled:
            return
        for queue in self._queues:
            words = ("SMEMBERS", queue_keys(queue).groups)
            self._connections.upkeep(queue).call(words, partial(self._on_groups, queue))

    def announced(self, queue: str, data: bytes) -> None:
        """Handle the announcement of a new member: ``<size of the group> <its name>``."""
        size, _, raw = data.partition(b" ")
        count = whole_number(size, 0)
        if not self.enabled or not raw or count is None:
            return
        when = self._ripeness
        key = (queue, raw.decode("utf-8", "replace"))
        if when.max_size and count >= when.max_size:
            self._look(key)
        else:
            limits = [ms for ms in (when.grace_ms, when.max_delay_ms) if ms]
            self._look_after(key, (min(limits) + 1) / 1000)

    def round(self, may_begin: bool) -> None:
        """Send commands that are due.

        ``may_begin`` is false while fetched tasks may be on their way here.
        """
        if not self.enabled:
            return
        asked, self._to_look_at = self._to_look_at, {}
        by_queue: dict[str, list[str]] = {}
        for queue, group in asked:
            by_queue.setdefault(queue, []).append(group)
        for queue, groups in by_queue.items():
            for start in range(0, len(groups), _SLICE):
                part = groups[start : start + _SLICE]
                command = aggregation.aggregation_due(queue, part, self._ripeness)
                self._send(queue, command, partial(self._on_ripe, queue, part))
        if self._ripe and may_begin and self._taking is None and self._waiting.room() > 0:
            key = next(iter(self._ripe))
            del self._ripe[key]
            self._take(*key)

    # --- When to look at a group ---

    def _on_groups(self, queue: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give groups queue={queue}", reply)
            return
        for raw in reply:
            self._look((queue, raw.decode("utf-8", "replace")))

    def _look(self, key: Key) -> None:
        """Look at a group in this round, or later after a recent failure."""
        wait = self._failures.get(key, (0, 0.0))[1] - self._reactor.now()
        if wait > 0:
            self._look_after(key, wait)
        else:
            self._to_look_at[key] = None

    def _look_after(self, key: Key, seconds: float) -> None:
        at = self._reactor.now() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.at <= at:
                return
            timer.cancel()
        self._timers[key] = self._reactor.after(seconds, lambda: self._on_time(key))

    def _on_time(self, key: Key) -> None:
        del self._timers[key]
        self._look(key)

    def _on_ripe(self, queue: str, groups: Sequence[str], reply: list[int | None] | None) -> None:
        now_ms = self._clock.now_ms()
        for group, at in zip(groups, reply or (), strict=False):
            key = (queue, group)
            if at is None:
                self._failures.pop(key, None)
            elif at <= now_ms:
                self._ripe[key] = None
            else:
                self._look_after(key, (at - now_ms + 1) / 1000)

    # --- From a group to an attempt ---

    def _deadline(self) -> int:
        return math.ceil(self._clock.now_ms() / 1000 + self._deadline_seconds)

    def _take(self, queue: str, group: str) -> None:
        chosen = Set(group, str(uuid.uuid4()))
        self._taking = _Aggregation(queue, chosen, 0)
        command = aggregation.form_set(
            queue, chosen, self._ripeness, self._clock.now_ms(), self._deadline()
        )
        self._send(queue, command, partial(self._on_taken, self._taking))

    def _on_taken(self, taken: _Aggregation, reply: Taken | None) -> None:
        if reply is not None and reply.next_look_ms is not None:
            wait = (reply.next_look_ms - self._clock.now_ms() + 1) / 1000
            self._look_after(taken.key, max(wait, 0.0))
        if reply is None or not reply.size:
            self._taking = None
            return
        taken.count = reply.size
        self._read(taken, [], None)

    def _read(self, taken: _Aggregation, found: list[NewTask], reply: list[NewTask] | None) -> None:
        """Read the members slice by slice; then begin."""
        found += reply or ()
        if len(found) < taken.count and reply != []:
            command = aggregation.read_set(taken.queue, taken.chosen, len(found))
            self._send(taken.queue, command, lambda more: self._read(taken, found, more or []))
            return
        self._taking = None
        members = [member for task in found if (member := member_of(task)) is not None]
        if not members or not self.enabled:
            self._put_back(taken)
            return
        self._begin(taken, members)

    def _begin(self, taken: _Aggregation, members: list[Member]) -> None:
        queue, chosen = taken.queue, taken.chosen
        message = TaskMessage(
            type=f"aggregate:{chosen.group}",
            id=chosen.set_id,
            queue=queue,
            payload=aggregation_group.pack_members(chosen.group, members),
            timeout=LONGEST,
        )
        now_ms = self._clock.now_ms()
        task = Fetched(chosen.set_id, b"", None, 1, 0)
        attempt = Attempt(next(self._numbers), queue, task, message, "", now_ms, self)
        attempt.fingerprint, attempt.is_coroutine = pipe.AGGREGATION, self._is_async
        self._running[attempt.number] = taken
        self._waiting.add(attempt)

    def _extend(self) -> None:
        for taken in self._running.values():
            command = aggregation.extend_set(taken.queue, taken.chosen, self._deadline())
            self._send(taken.queue, command)

    # --- From an attempt to a task ---

    def done(self, attempt: Attempt, done: DoneFrame) -> None:
        """Handle an executor's answer."""
        if done.outcome != pipe.VALUE or attempt.stop_reason:
            is_late = attempt.stop_reason == pipe.TIMED_OUT
            why = timeout_text(attempt) if is_late else done.error_text
            self._failed(attempt, why, done.delay)
            return
        if len(done.body) > MOST_BYTES:
            self._failed(attempt, f"the aggregate is too large: {len(done.body):,} bytes")
            return
        try:
            returned = returned_task(attempt.queue, bytes(done.body))
        except (ValueError, TypeError, KeyError) as error:
            self._failed(attempt, f"its answer cannot be read: {error}")
            return
        taken = self._running.pop(attempt.number)
        self._acknowledger.ended(
            attempt,
            partial(self._command, taken, returned),
            partial(self._on_aggregated, attempt, taken),
        )

    def lost(self, attempt: Attempt, exit: ExecutorExit, innocent: bool) -> None:
        """Return the members of a set whose executor was lost."""
        is_late = attempt.stop_reason == pipe.TIMED_OUT
        self._failed(attempt, timeout_text(attempt) if is_late else exit.text)

    def refused(self, attempt: Attempt, refusal: Refusal) -> None:
        """Return the members of a set whose attempt cannot begin."""
        self._failed(attempt, refusal.decision.error_text)

    def give_back(self, attempt: Attempt, how: str, reason: str) -> None:
        """Return the members of a set whose attempt was given up."""
        taken = self._running.pop(attempt.number)
        self._put_back(taken)
        self._look_after(taken.key, _NOT_BEGUN)

    def reported(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Drop a report of the function, which has no task to show it."""

    def _command(
        self, taken: _Aggregation, returned: ReturnedTask, now_ms: int, who: Who
    ) -> Command[Any]:
        aggregate = returned.at(now_ms)
        if aggregate.group and aggregate.due_ms is not None:
            noted = aggregation.note_groups(taken.queue, [aggregate.group], aggregate.due_ms)
            self._send(taken.queue, noted)
        return aggregation.finish_set(taken.queue, taken.chosen, aggregate, now_ms)

    def _on_aggregated(
        self, attempt: Attempt, taken: _Aggregation, reply: Aggregated | None
    ) -> None:
        if reply is None:
            return  # logged by the acknowledger
        if reply.word == "EXISTS":
            self._running[attempt.number] = taken
            self._failed(attempt, "a task with the id of the aggregate exists")
            return
        self._failures.pop(taken.key, None)
        if reply.word == "DUPLICATE":
            log.warning(
                "aggregate is no new task queue=%s group=%s tasks=%d: it is the same as %s, "
                "which is unique and stands for it",
                taken.queue,
                taken.chosen.group,
                taken.count,
                reply.holder,
            )
        else:
            log.debug("group aggregated queue=%s group=%s tasks=%d", *taken.key, taken.count)

    def _failed(self, attempt: Attempt, why: str, delay: float = -1.0) -> None:
        taken = self._running.pop(attempt.number)
        count = self._failures.get(taken.key, (0, 0.0))[0] + 1
        pause = min(_FIRST_PAUSE * 2 ** min(count - 1, 10), _LONGEST_PAUSE)
        pause = delay if delay >= 0 else pause
        self._failures[taken.key] = (count, self._reactor.now() + pause)
        log.warning(
            "aggregation failed queue=%s group=%s tasks=%d next=%s error=%r",
            *taken.key,
            taken.count,
            format_duration(pause),
            why,
        )
        self._put_back(taken)
        self._look_after(taken.key, pause)

    def _put_back(self, taken: _Aggregation) -> None:
        # Kept until the store is connected again, if it is disconnected.
        self._returning[taken.chosen.set_id] = taken
        command = aggregation.reclaim_set(taken.queue, taken.chosen)
        self._send(taken.queue, command, partial(self._on_put_back, taken))

    def _on_put_back(self, taken: _Aggregation, left: int | None) -> None:
        if left:
            self._put_back(taken)
        else:
            # After a refusal the set expires.
            del self._returning[taken.chosen.set_id]

    def _put_back_all(self) -> None:
        for taken in list(self._returning.values()):
            self._put_back(taken)
