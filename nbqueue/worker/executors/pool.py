"""The executors of a worker: started when needed, fed, interrupted, replaced."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial

from nbqueue.clock import Clock
from nbqueue.executor import pipe
from nbqueue.runtime.reactor import Reactor, Timer
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
from nbqueue.worker.executors.spawn import wanted
from nbqueue.worker.executors.timeouts import Timeouts
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.tasks.attempt import FOREVER, Attempt
from nbqueue.worker.tasks.decisions import Refusal

log = logging.getLogger("nbqueue.worker")

_LOOK_AT_PARKED = 0.005
_MOST_FAILED_STARTS = 5
_LONGEST_WAIT = 0.05


class Pool:
    """Has attempts made by executors; the owner of each gets its reports and its outcome.

    ``on_too_many(runs)``: they
    were fetched ahead, and all slots are taken. ``on_broken(why)``: executors do not start.
    ``on_unsure()``: the leases of some may have ended; `renewed` is to be called when they are
    known to be extended. ``on_not_ours(run)``: it is dropped, as its lease was lost.
    """

    def __init__(
        self, reactor: Reactor, clock: Clock, codes: CodeCache, settings: WorkerSettings
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._codes = codes
        self._settings = settings
        self.pace = LoadEstimate()
        self.executors: list[ExecutorProcess] = []
        self._reaper = ExecutorReaper(reactor, self.executors, settings.kill_grace_seconds)
        self._waiting = WaitingAttempts(codes, settings.lease_seconds, self._refuse)
        self._ready, self._sure_ms = self._waiting.ready, self._waiting.sure_ms
        self._is_asking = False
        self._placement = Placement(settings, self.executors, self.pace, self._spawn)
        self._limits = Timeouts(reactor, lambda run: self.interrupt(run, pipe.TIMED_OUT))
        self.in_hand = 0
        """How many tasks are here and have not ended."""
        self._most = settings.tasks_per_executor, settings.memory_per_executor
        self._parked_timer: Timer | None = None
        self._waiting_timer: Timer | None = None
        self._failed_starts = 0
        self._closing = False
        self.is_ending = False
        """Whether the worker ends: what an executor dies of then is no fault of its tasks."""
        self.on_too_many: Callable[[list[Attempt]], None]
        self.on_broken: Callable[[str], None]
        self.on_unsure: Callable[[], None]
        self.on_not_ours: Callable[[Attempt], None]

    def ahead(self) -> int:
        """How many tasks may be fetched ahead of free slots: many if tasks are short."""
        return self.pace.ahead(self._settings.concurrency)

    def room(self) -> int:
        """How many tasks may be begun, or wait here for a slot."""
        return self._settings.concurrency + self.ahead() - self.in_hand

    def slack(self) -> float:
        """For how many seconds all executors have enough to do, about: so long nobody misses us.

        What ends meanwhile is then acknowledged together, and what comes is fetched together.
        """
        if self.in_hand < 2:
            return 0.0
        return self.pace.slack(
            [len(each.runs) for each in self.executors if each.kind == SYNC],
            sum(len(each.runs) for each in self.executors if each.kind != SYNC),
        )

    def warm_up(self) -> None:
        """Start executors before there is work, as many as can run at once."""
        kind, _, count = wanted(self._settings.executor, self._settings.concurrency)
        for _ in range(count):
            self._spawn(kind)

    def add(self, run: Attempt) -> None:
        """Take a run. `dispatch`, once a round, hands it on."""
        self.in_hand += 1
        self._ready.append(run)

    def dispatch(self) -> None:
        """Hand runs to executors that have room."""
        ready = self._ready
        now_ms = self._clock.now_ms() if ready else 0
        for _ in range(len(ready)):
            run = ready.popleft()
            if run.leased_ms + self._sure_ms < now_ms:
                self._waiting.unsure.append(run)
                continue
            executor = self._placement.executor_for(run)
            if executor is None:
                ready.appendleft(run)
                break
            if run.fingerprint in executor.known_code or self._send_code(executor, run):
                self._send(executor, run)
        for executor in self.executors:
            if executor.wants_write:
                self._flush(executor)
        if self._waiting.unsure and not self._is_asking:
            self._is_asking = True
            self.on_unsure()
        if ready and self._waiting_timer is None:
            head = ready[0]
            self._waiting_timer = self._reactor.after(
                _LONGEST_WAIT, lambda: self._look_at_waiting(head)
            )

    def renewed(self) -> None:
        """Leases were extended: those of which we were not sure may begin."""
        self._is_asking = False
        self._waiting.renewed()

    def drop_lost(self, run: Attempt) -> bool:
        """Forget ``run``, which another worker may have, unless an executor has it already."""
        if not self._waiting.remove(run):
            return False
        self._drop(run)
        return True

    def _look_at_waiting(self, head: Attempt) -> None:
        """Give up what lies here while all slots are taken: another worker may be idle."""
        self._waiting_timer = None
        if not self._ready or self._ready[0] is not head:
            return
        now = self._reactor.now()
        busy = [now - each.began_at for each in self.executors if each.runs and each.ready]
        if busy:
            self.pace.ended(max(busy))
            runs = list(self._ready)
            self._ready.clear()
            for run in runs:
                self._drop(run)
            self.on_too_many(runs)

    def interrupt(self, run: Attempt, reason: int) -> None:
        """End a run: by an exception in it, and if that does not help by killing its executor."""
        run.stop_reason = reason
        executor = run.executor
        if executor is None:
            self.drop_lost(run)
            run.owner.lost(run, NOT_BEGUN, False)
            return
        is_first = next(iter(executor.runs)) == run.number
        if executor.kind == SYNC and not (is_first and executor.ready):
            # It has not begun: taken back, it need not be interrupted.
            self._take_back(executor)
            if run in self._ready:
                self.interrupt(run, reason)
            return
        executor.interrupt(run, reason)
        self._reaper.after_interrupt(executor, run)

    def take_back_unstarted(self) -> list[Attempt]:
        """Give up all runs that have not begun."""
        for executor in self.executors:
            self._take_back(executor)
        runs = self._waiting.take_all()
        for run in runs:
            self._drop(run)
        return runs

    def give_up_running(self) -> list[Attempt]:
        """Kill all executors; return the runs that they had begun."""
        runs = [run for executor in self.executors for run in executor.runs.values()]
        for run in runs:
            self._drop(run)
        for executor in self.executors:
            executor.runs.clear()
            executor.kill("the worker was shut down")
        return runs

    def dump_stacks(self) -> None:
        """Have each executor write the stacks of its threads to the worker's log."""
        for executor in self.executors:
            # First, so that the log says whose stacks follow, and when they were written.
            log.info("executor writes its stacks pid=%d tasks=%d", executor.pid, len(executor.runs))
            executor.dump_stacks()

    def stop_executors(self) -> None:
        """Have executors end when they are idle; no new ones start."""
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
        """Start an executor, unless that is of no use any more."""
        if self._closing or self._failed_starts >= _MOST_FAILED_STARTS:
            return None
        capacity = 1 if is_fresh or kind == SYNC else self._settings.concurrency
        executor = ExecutorProcess(kind, capacity, self._settings.service, is_fresh)
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

    def _send_code(self, executor: ExecutorProcess, run: Attempt) -> bool:
        """Have it know the code that ``run`` needs; False if that is to be fetched first."""
        blob = self._codes.get(run.fingerprint)
        if blob is None:
            self._waiting.await_code(run)
            return False
        executor.send_code(run.fingerprint, blob)
        return True

    def _send(self, executor: ExecutorProcess, run: Attempt) -> None:
        waits = executor.kind == SYNC and bool(executor.runs)
        begin_by = 0.0
        if run.leased_ms != FOREVER:
            begin_by = self._clock.to_steady(run.leased_ms + self._sure_ms)
        if run.is_unlimited:
            executor.send_task(run, run.frame(0.0, begin_by), self._reactor.now())
        else:
            started = self._clock.now()
            deadline = run.ends_at = run.end_at(started)
            executor.send_task(run, run.frame(deadline, begin_by), self._reactor.now())
            if ends_at := deadline if executor.ready else run.deadline:
                self._limits.set(run, ends_at - started)
        if waits and self._parked_timer is None:
            self._parked_timer = self._reactor.after(_LOOK_AT_PARKED, self._look_at_parked)

    def _begin_late(self, executor: ExecutorProcess) -> None:
        """What was sent to a process that was still starting begins only now."""
        now = self._clock.now()
        for run in executor.runs.values():
            if run.ends_at:
                run.ends_at = run.end_at(now)
                self._limits.set(run, run.ends_at - now)

    def _look_at_parked(self) -> None:
        """Take back what waits behind a task that turned out to be slow."""
        self._parked_timer = None
        now = self._reactor.now()
        any_parked = False
        for executor in self.executors:
            if executor.kind == SYNC and len(executor.runs) > 1:
                elapsed = now - executor.began_at
                if elapsed > _LOOK_AT_PARKED and executor.ready:
                    self.pace.ended(elapsed)
                    self._take_back(executor)
                else:
                    any_parked = True
        if any_parked:
            self._parked_timer = self._reactor.after(_LOOK_AT_PARKED, self._look_at_parked)

    def _take_back(self, executor: ExecutorProcess) -> None:
        taken = executor.take_back()
        for run in reversed(taken):
            self._limits.cancel(run)
            self._ready.appendleft(run)

    def _refuse(self, run: Attempt, refusal: Refusal) -> None:
        self._drop(run)
        run.owner.refused(run, refusal)

    def _read(self, executor: ExecutorProcess) -> bool:
        """Take what it answered; False if there is nothing more to come."""
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
        for run, kind, body in reported:
            run.owner.reported(run, kind, body)
        if ended and not executor.retiring and executor.is_used_up(*self._most):
            if not executor.is_fresh:
                log.info("executor recycled pid=%d tasks=%d", executor.pid, executor.finished)
            self._take_back(executor)
            self._retire(executor)
        if ended and self._ready:
            self.dispatch()  # its process need not wait while we see to what ended
        for run, done in ended:
            self._drop(run)
            # A fresh one takes as long as its process takes to start.
            elapsed = self._reactor.now() - run.sent_at if run.is_fresh else done.micros / 1e6
            self.pace.ended(elapsed)
            run.owner.done(run, done)
        return bool(ended or reported)

    def _take_returned(self, executor: ExecutorProcess) -> None:
        """Take back what came too late to begin, perhaps because we were paused."""
        returned, executor.returned = executor.returned, []
        for run in reversed(returned):
            self._limits.cancel(run)
            if run.is_lost:
                self._drop(run)
                self.on_not_ours(run)
            elif run.stop_reason:
                self._drop(run)
                run.owner.lost(run, NOT_BEGUN, False)
            else:
                self._ready.appendleft(run)

    def _retire(self, executor: ExecutorProcess) -> None:
        """Have it end when it is idle."""
        executor.stop()
        self._flush(executor)
        self._reaper.after_stop(executor)

    def _flush(self, executor: ExecutorProcess) -> None:
        try:
            executor.flush()
        except ExecutorGone:
            # What it answered before is still to be read; the end of that tells the loss.
            return
        if executor.wants_write:
            self._watch(executor, writing=True)

    def _on_end(self, executor: ExecutorProcess) -> None:
        """The process has ended: what it answered before counts, the rest is lost."""
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
        runs = list(executor.runs.values())
        why = executor.why_gone()
        executor.close()
        if not was_expected:
            log.warning(
                "executor lost pid=%d tasks=%d reason=%s", executor.pid, len(runs), why.text
            )
        if not executor.ready and not was_expected:
            self._failed_starts += 1
            if self._failed_starts >= _MOST_FAILED_STARTS:
                self.on_broken(
                    f"{self._failed_starts} executors ended before they began: {why.text}"
                )
        for run in runs:
            self._drop(run)
            innocent = self.is_ending or executor.culprit not in (None, run)
            run.owner.lost(run, why, innocent)

    def _drop(self, run: Attempt) -> None:
        self.in_hand -= 1
        if not run.is_unlimited:
            self._limits.cancel(run)

    def find(self, task_id: str) -> Iterable[Attempt]:
        """The runs here of tasks with this id, which may be in several queues."""
        places: list[Iterable[Attempt]] = [executor.runs.values() for executor in self.executors]
        places.append(self._waiting)
        return [run for place in places for run in place if run.task_id == task_id]
