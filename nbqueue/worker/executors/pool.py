"""The executors of a worker: started on demand, given tasks, interrupted, replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from nbqueue.executor import pipe
from nbqueue.runtime.reactor import Timer
from nbqueue.worker.executors.code_cache import CodeCache
from nbqueue.worker.executors.executor_process import (
    NOT_BEGUN,
    SYNC,
    ExecutorGone,
    ExecutorProcess,
)
from nbqueue.worker.executors.executor_reaper import ExecutorReaper
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.executors.placement import Placement
from nbqueue.worker.executors.spawn import first_executors
from nbqueue.worker.executors.timeouts import Timeouts
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.tasks.attempt import FOREVER, Attempt, give_back

log = logging.getLogger("nbqueue.worker")

_LOOK_AT_QUEUED = 0.005
_MOST_FAILED_STARTS = 5
_LONGEST_WAIT = 0.05


@dataclass(frozen=True, slots=True)
class PoolEvents:
    """Callbacks of a pool, other than the owners of attempts.

    ``on_broken(why)``: executors cannot be started.
    ``on_unsure()``: the leases of some attempts may have expired and must be extended.
    ``on_not_ours(attempt)``: dropped before it began, as its lease was lost.
    """

    on_broken: Callable[[str], None]
    on_unsure: Callable[[], None]
    on_not_ours: Callable[[Attempt], None]


class Pool:
    """Runs waiting attempts in executors, and passes reports and outcomes to their owners."""

    def __init__(
        self,
        context: ServiceContext,
        codes: CodeCache,
        waiting: WaitingAttempts,
        load: LoadEstimate,
        settings: WorkerSettings,
        events: PoolEvents,
    ) -> None:
        self._reactor = context.reactor
        self._clock = context.clock
        self._codes = codes
        self._waiting = waiting
        self._ready, self._sure_ms = waiting.ready, waiting.sure_ms
        self._load = load
        self._settings = settings
        self._service = bytes((settings.makes_previews,)) + settings.service
        self._events = events
        self.executors: list[ExecutorProcess] = []
        self._reaper = ExecutorReaper(self._reactor, self.executors, settings.kill_grace_seconds)
        self._placement = Placement(settings, self.executors, load, self._spawn)
        self._timeouts = Timeouts(
            self._reactor, lambda attempt: self.interrupt(attempt, pipe.TIMED_OUT)
        )
        self._most = settings.tasks_per_executor, settings.executor_bytes
        self._queued_timer: Timer | None = None
        self._waiting_timer: Timer | None = None
        self._failed_starts = 0
        self._closing = False
        self.is_ending = False
        """True once the worker is ending.

        The loss of an executor is then no fault of its tasks.
        """

    def slack(self) -> float:
        """Return the approximate time for which all executors have work, in seconds.

        Tasks that end meanwhile are acknowledged together, and new ones are fetched together.
        """
        if self._waiting.in_hand < 2:
            return 0.0
        return self._load.slack(
            [len(each.attempts) for each in self.executors if each.kind == SYNC],
            sum(len(each.attempts) for each in self.executors if each.kind != SYNC),
        )

    def warm_up(self) -> None:
        """Start as many executors as can run at once, before work arrives."""
        kind, _, count = first_executors(self._settings.executor, self._settings.least_executors)
        for _ in range(count):
            self._spawn(kind)

    def dispatch(self) -> None:
        """Hand attempts to executors that have room.

        Called once a round.
        """
        ready, waiting = self._ready, self._waiting
        now_ms = self._clock.now_ms() if ready else 0
        for _ in range(len(ready)):
            attempt = ready.popleft()
            if attempt.leased_ms + self._sure_ms < now_ms:
                waiting.unsure.append(attempt)
                continue
            executor = self._placement.executor_for(attempt)
            if executor is None:
                ready.appendleft(attempt)
                break
            if attempt.fingerprint in executor.known_code or self._send_code(executor, attempt):
                self._send(executor, attempt)
        for executor in self.executors:
            if executor.wants_write:
                self._flush(executor)
        if waiting.unsure and not waiting.is_renewing:
            waiting.is_renewing = True
            self._events.on_unsure()
        if ready and self._waiting_timer is None:
            head = ready[0]
            self._waiting_timer = self._reactor.after(
                _LONGEST_WAIT, lambda: self._look_at_waiting(head)
            )

    def _look_at_waiting(self, head: Attempt) -> None:
        """Give up waiting attempts while all slots are taken.

        Another worker may be idle.
        """
        self._waiting_timer = None
        if not self._ready or self._ready[0] is not head:
            return
        now = self._reactor.now()
        busy = [now - each.began_at for each in self.executors if each.attempts and each.ready]
        if busy:
            self._load.ended(max(busy))
            give_back(self._waiting.take_ready(), "unstarted", "not begun")

    def interrupt(self, attempt: Attempt, reason: int) -> None:
        """End an attempt by an exception in it.

        Kills its executor if that fails.
        """
        attempt.stop_reason = reason
        executor = attempt.executor
        if executor is None:
            self._waiting.drop(attempt)
            attempt.owner.lost(attempt, NOT_BEGUN, False)
            return
        is_first = next(iter(executor.attempts)) == attempt.number
        if executor.kind == SYNC and not (is_first and executor.ready):
            # Take it back, unless it has just begun, which the executor has yet to report.
            self._take_back(executor)
            if attempt in self._ready:
                self.interrupt(attempt, reason)
                return
        executor.interrupt(attempt, reason)
        self._reaper.after_interrupt(executor, attempt)

    def take_back_unstarted(self) -> list[Attempt]:
        """Give up all attempts that have not begun."""
        for executor in self.executors:
            self._take_back(executor)
        return self._waiting.take_all()

    def give_up_running(self) -> list[Attempt]:
        """Kill all executors; return the attempts that they had begun."""
        attempts = [each for executor in self.executors for each in executor.attempts.values()]
        for attempt in attempts:
            self._drop(attempt)
        for executor in self.executors:
            executor.attempts.clear()
            executor.kill("the worker was shut down")
        return attempts

    def find(self, task_id: str) -> Iterable[Attempt]:
        """Return the attempts at tasks with this id, in any queue."""
        places: list[Iterable[Attempt]] = [each.attempts.values() for each in self.executors]
        places.append(self._waiting)
        return [attempt for place in places for attempt in place if attempt.task_id == task_id]

    def dump_stacks(self) -> None:
        """Have executors write the stacks of their threads to the worker's log."""
        for executor in self.executors:
            # Logged first, so that the log shows when, and which executor's stacks follow.
            count = len(executor.attempts)
            log.info("executor writes its stacks pid=%d tasks=%d", executor.pid, count)
            executor.dump_stacks()

    def stop_executors(self) -> None:
        """Have executors end when they are idle, and start no new ones."""
        self._closing = True
        for executor in list(self.executors):
            executor.stop()
            self._flush(executor)

    def close(self) -> None:
        """End all executors now."""
        self._closing = True
        for executor in self.executors:
            self._reactor.forget(executor)
            executor.forget_end(self._reactor)
            executor.close()
        self.executors.clear()

    def _spawn(self, kind: str, is_fresh: bool = False) -> ExecutorProcess | None:
        """Start an executor, unless the pool closes or executors cannot be started."""
        if self._closing or self._failed_starts >= _MOST_FAILED_STARTS:
            return None
        capacity = 1 if is_fresh or kind == SYNC else self._settings.concurrency
        executor = ExecutorProcess(kind, capacity, self._service, is_fresh)
        self.executors.append(executor)
        self._watch(executor)
        executor.watch_end(self._reactor, lambda: self._on_end(executor))
        log.debug("executor started pid=%d kind=%s", executor.pid, kind)
        return executor

    def _watch(self, executor: ExecutorProcess, *, writing: bool = False) -> None:
        def write() -> None:
            self._flush(executor)
            if not executor.wants_write and executor in self.executors:
                self._watch(executor)

        on_ready = partial(self._read, executor)
        self._reactor.watch(executor, on_ready, on_writable=write if writing else None)

    def _send_code(self, executor: ExecutorProcess, attempt: Attempt) -> bool:
        """Send the code of ``attempt``, if it is cached.

        Returns False if it must be read from the store first.
        """
        code = self._codes.get(attempt.fingerprint)
        if code is None:
            self._waiting.await_code(attempt)
            return False
        executor.send_code(attempt.fingerprint, code)
        return True

    def _send(self, executor: ExecutorProcess, attempt: Attempt) -> None:
        waits = executor.kind == SYNC and bool(executor.attempts)
        begin_by = 0.0
        if attempt.leased_ms != FOREVER:
            begin_by = self._clock.to_steady(attempt.leased_ms + self._sure_ms)
        if attempt.is_unlimited:
            executor.send_task(attempt, attempt.frame(0.0, begin_by), self._reactor.now())
        else:
            started = self._clock.now()
            deadline = attempt.ends_at = attempt.end_at(started)
            executor.send_task(attempt, attempt.frame(deadline, begin_by), self._reactor.now())
            if ends_at := deadline if executor.ready else attempt.deadline:
                self._timeouts.set(attempt, ends_at - started)
        if waits and self._queued_timer is None:
            self._queued_timer = self._reactor.after(_LOOK_AT_QUEUED, self._look_at_queued)

    def _begin_late(self, executor: ExecutorProcess) -> None:
        """Set the time-outs of attempts that were sent while the process started."""
        now = self._clock.now()
        for attempt in executor.attempts.values():
            if attempt.ends_at:
                attempt.ends_at = attempt.end_at(now)
                self._timeouts.set(attempt, attempt.ends_at - now)

    def _look_at_queued(self) -> None:
        """Take back attempts that are queued behind a slow one."""
        self._queued_timer = None
        now = self._reactor.now()
        any_queued = False
        for executor in self.executors:
            if executor.kind == SYNC and len(executor.attempts) > 1:
                elapsed = now - executor.began_at
                if elapsed > _LOOK_AT_QUEUED and executor.ready:
                    self._load.ended(elapsed)
                    self._take_back(executor)
                else:
                    any_queued = True
        if any_queued:
            self._queued_timer = self._reactor.after(_LOOK_AT_QUEUED, self._look_at_queued)

    def _take_back(self, executor: ExecutorProcess) -> None:
        taken = executor.take_back()
        for attempt in reversed(taken):
            self._timeouts.cancel(attempt)
            self._ready.appendleft(attempt)

    def _read(self, executor: ExecutorProcess) -> bool:
        """Handle the answers of an executor; return False if none can follow."""
        was_ready = executor.ready
        try:
            ended = executor.read(self._reactor.now())
        except ExecutorGone:
            self._reactor.forget(executor)
            executor.retiring = True
            self._reaper.after_hanging_up(executor)
            return False
        if executor.ready:
            self._failed_starts = 0
            if not was_ready:
                self._begin_late(executor)
        if executor.returned:
            self._take_returned(executor)
        reported, executor.reported = executor.reported, []
        for attempt, kind, body in reported:
            attempt.owner.reported(attempt, kind, body)
        if ended and not executor.retiring and executor.is_used_up(*self._most):
            if not executor.is_fresh:
                log.info("executor recycled pid=%d tasks=%d", executor.pid, executor.finished)
            self._take_back(executor)
            self.retire(executor)
        if ended and self._ready:
            self.dispatch()  # so that the executor need not wait for the following calls
        for attempt, done in ended:
            self._drop(attempt)
            # The time of a fresh executor includes the start of its process.
            is_fresh = attempt.is_fresh
            self._load.ended(
                self._reactor.now() - attempt.sent_at if is_fresh else done.micros / 1e6
            )
            attempt.owner.done(attempt, done)
        return bool(ended or reported)

    def _take_returned(self, executor: ExecutorProcess) -> None:
        """Take back attempts that an executor received too late to begin."""
        returned, executor.returned = executor.returned, []
        for attempt in reversed(returned):
            self._timeouts.cancel(attempt)
            if attempt.is_lost:
                self._drop(attempt)
                self._events.on_not_ours(attempt)
            elif attempt.stop_reason:
                self._drop(attempt)
                attempt.owner.lost(attempt, NOT_BEGUN, False)
            else:
                self._ready.appendleft(attempt)

    def retire(self, executor: ExecutorProcess) -> None:
        """Have an executor end when it is idle."""
        executor.stop()
        self._flush(executor)
        self._reaper.after_stop(executor)

    def _flush(self, executor: ExecutorProcess) -> None:
        try:
            executor.flush()
        except ExecutorGone:
            # Its last answers are still to be read; the loss is found at their end.
            return
        if executor.wants_write:
            self._watch(executor, writing=True)

    def _on_end(self, executor: ExecutorProcess) -> None:
        """Handle the end of a process.

        Its last answers count; its other attempts are lost.
        """
        if executor not in self.executors:
            return
        executor.retiring = True
        while self._read(executor):
            pass
        was_expected = executor.is_stopped
        self._reactor.forget(executor)
        executor.forget_end(self._reactor)
        self.executors.remove(executor)
        self._take_back(executor)
        attempts = list(executor.attempts.values())
        why = executor.why_gone()
        executor.close()
        if not was_expected:
            log.warning(
                "executor lost pid=%d tasks=%d reason=%s", executor.pid, len(attempts), why.text
            )
        if not executor.ready and not was_expected:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                self._events.on_broken(
                    f"{self._failed_starts} executors ended before they began: {why.text}"
                )
        for attempt in attempts:
            self._drop(attempt)
            innocent = self.is_ending or executor.culprit not in (None, attempt)
            attempt.owner.lost(attempt, why, innocent)

    def _drop(self, attempt: Attempt) -> None:
        self._waiting.in_hand -= 1
        if not attempt.is_unlimited:
            self._timeouts.cancel(attempt)
