"""The supervisor of a worker: runs its event loop, never user code.

Everything happens in one thread, in rounds: incoming replies and messages are handled, then tasks
are fetched, executors get work, and outcomes are sent. `nbqueue.worker.wiring` makes all parts.

If this process dies, its executors die with it, and its tasks run again elsewhere when their
leases have expired.
"""

from __future__ import annotations

import itertools
import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass

from nbqueue.durations import format_duration
from nbqueue.executor.signals import dump_stacks_on_quit
from nbqueue.runtime.gc_tuning import tune_garbage_collection
from nbqueue.store.connection import Store
from nbqueue.wire.server_info import CLOSED, STOPPED
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.handler_table import StoredHandlers
from nbqueue.worker.lifecycle.burst_mode import BurstMode
from nbqueue.worker.lifecycle.end_requests import EndRequests
from nbqueue.worker.lifecycle.health_checks import HealthChecks
from nbqueue.worker.lifecycle.presence import Presence
from nbqueue.worker.lifecycle.service_reports import ServiceReports
from nbqueue.worker.lifecycle.workload import Workload
from nbqueue.worker.maintenance.clock_sync import set_clock
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.scheduling.providers import Providers
from nbqueue.worker.scheduling.scheduler import Scheduler
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import give_back
from nbqueue.worker.tasks.fetcher import Fetcher
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import LeaseTokens
from nbqueue.worker.tasks.output_writer import OutputWriter
from nbqueue.worker.tasks.required_workers import RequiredTasks
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes

log = logging.getLogger("nbqueue.worker")

_LAST_SENDING = 5.0
_SHORT = 0.0005
"""Seconds. The supervisor waits without sleeping for the end of shorter tasks."""


@dataclass(frozen=True)
class TaskFlow:
    """The parts that a task passes, and their shared objects."""

    numbers: itertools.count[int]
    tokens: LeaseTokens
    handlers: StoredHandlers
    required: RequiredTasks
    fetcher: Fetcher
    large_arguments: LargeArguments
    waiting: WaitingAttempts
    load: LoadEstimate
    pool: Pool
    output_writer: OutputWriter
    outcomes: TaskOutcomes
    acknowledger: Acknowledger
    aggregator: Aggregator
    providers: Providers


@dataclass(frozen=True)
class Lifecycle:
    """The parts that begin and end with the worker."""

    workload: Workload
    presence: Presence
    health_checks: HealthChecks
    service_reports: ServiceReports
    scheduler: Scheduler | None
    burst_mode: BurstMode | None


class Supervisor:
    """One worker. `run` blocks until a signal or `shut_down` ends it."""

    def __init__(
        self,
        settings: WorkerSettings,
        store: Store,
        context: ServiceContext,
        flow: TaskFlow,
        lifecycle: Lifecycle,
        requests: EndRequests,
    ) -> None:
        self._settings = settings
        self._store = store
        self._reactor = context.reactor
        self._connections = context.connections
        self._clock = context.clock
        self._queues = context.queues
        self._worker_id = context.worker_id
        self._fetcher = flow.fetcher
        self._large_arguments = flow.large_arguments
        self._waiting = flow.waiting
        self._load = flow.load
        self._pool = flow.pool
        self._output_writer = flow.output_writer
        self._outcomes = flow.outcomes
        self._acknowledger = flow.acknowledger
        self._aggregator = flow.aggregator
        self._providers = flow.providers
        self._workload = lifecycle.workload
        self._presence = lifecycle.presence
        self._health_checks = lifecycle.health_checks
        self._service_reports = lifecycle.service_reports
        self._scheduler = lifecycle.scheduler
        self._burst_mode = lifecycle.burst_mode
        self._is_ending = self._is_stopping = self._is_giving_back = self._has_left = False
        self._is_hurried = False
        """True after a request to end that the next one makes immediate."""
        self._exit_code = 0
        requests.subscribe(self._on_end_request, self.drain)

    def run(self) -> int:
        """Serve until the worker ends; return its exit code.

        Only in the main thread.
        """
        self._handle_signals()
        self._pool.warm_up()
        set_clock(self._store, self._clock)
        self._presence.set_started()
        self._connections.connect()
        log.info(
            "worker ready id=%s store=%s queues=%s concurrency=%d executor=%s",
            self._worker_id,
            self._store.url.place,
            self._queues,
            self._settings.concurrency,
            self._settings.executor,
        )
        tune_garbage_collection()
        self._reactor.every_round(self._round)
        # Sent after the round, in which executors get their tasks first.
        self._reactor.every_round(self._connections.flush)
        try:
            self._reactor.run(self._is_reply_near, self._pool.slack)
        finally:
            self._health_checks.close()
            self._pool.close()
            self._connections.close()
            self._store.close()
            self._reactor.close()
        log.info("worker ended id=%s", self._worker_id)
        return self._exit_code

    def pause(self) -> None:
        """Fetch no more tasks; those already here continue. SIGTSTP does this."""
        if self._fetcher.enabled:
            how_to_end = "" if self._is_ending else ": nothing resumes it, and SIGTERM ends it"
            log.info("worker fetches no more tasks%s id=%s", how_to_end, self._worker_id)
        self._fetcher.close()
        self._aggregator.enabled = False
        self._is_giving_back = True
        self._presence.set_status(CLOSED if self._is_ending else STOPPED)
        self._service_reports.paused()

    def shut_down(self) -> None:
        """End after the running tasks, or after the shutdown time-out.

        A second call ends the worker at once.
        """
        if self._is_hurried:
            self._abort()
            return
        self._is_hurried = True
        self._end()
        if not self._settings.drain:
            self._service_reports.set_limit(self._settings.shutdown_seconds)
            self._reactor.after(self._settings.shutdown_seconds, self._abort)

    def drain(self) -> None:
        """End after the running tasks, however long they take."""
        self._end()

    def _end(self) -> None:
        """Fetch no more, and end when the running tasks have ended."""
        if self._is_ending:
            return
        self._is_ending = True
        self._pool.is_ending = True
        self.pause()
        self._service_reports.ending()
        if self._scheduler is not None:
            self._scheduler.close()
        self._providers.close()
        timeout = "none"
        if self._is_hurried and not self._settings.drain:
            timeout = format_duration(self._settings.shutdown_seconds)
        log.info(
            "worker ends id=%s running=%d timeout=%s",
            self._worker_id,
            self._waiting.in_hand,
            timeout,
        )

    def _handle_signals(self) -> None:
        actions: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self.shut_down,
            signal.SIGINT: self.shut_down,
            signal.SIGTSTP: self.pause,
            signal.SIGQUIT: self._pool.dump_stacks,
        }
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
            actions[signal.SIGHUP] = self._hang_up
        self._reactor.on_signals(actions)
        dump_stacks_on_quit(chain=True)

    def _hang_up(self) -> None:
        """Shut down; ignore repetitions, as a closed terminal may send two signals."""
        if not self._is_hurried:
            self.shut_down()

    def _on_end_request(self, exit_code: int) -> None:
        self._exit_code = self._exit_code or exit_code
        self.shut_down()

    def _abort(self) -> None:
        """Interrupt running tasks, give them back, and stop soon."""
        give_back(self._large_arguments.give_up(), "unstarted", "not begun")
        running = self._pool.give_up_running()
        for attempt in running:
            if attempt.owner is self._outcomes:
                log.warning("task interrupted id=%s type=%s", attempt.task_id, attempt.message.type)
        give_back(running, "interrupted", "the worker was shut down")
        # If the store is unreachable until then, the leases of these tasks have to expire.
        self._reactor.after(_LAST_SENDING, self._reactor.stop)

    def _is_reply_near(self) -> bool:
        """Return whether to poll without sleeping, as a reply should come within microseconds.

        That is the reply of the store, or the end of a short task, while no task needs the CPU
        more.
        """
        in_hand = self._waiting.in_hand
        if in_hand and self._load.seconds >= _SHORT:
            return False
        return in_hand > 0 or self._connections.awaits_reply

    def _round(self) -> None:
        if self._is_giving_back:
            self._give_back_when_all_are_here()
        if self._aggregator.enabled:
            self._aggregator.round(not self._fetcher.is_asking)
        self._fetcher.fetch()
        self._pool.dispatch()
        if self._output_writer.changed:
            self._output_writer.flush()
        self._acknowledger.flush()
        self._fetcher.offer()
        if self._is_ending:
            self._end_when_idle()
        elif self._burst_mode is not None:
            self._burst_mode.look()

    def _give_back_when_all_are_here(self) -> None:
        """Give back what has not begun, once nothing is on its way, so that its order is kept."""
        if not (self._fetcher.is_asking or self._large_arguments.under_way):
            self._is_giving_back = False
            give_back(self._pool.take_back_unstarted(), "unstarted", "not begun")

    def _end_when_idle(self) -> None:
        """Wait for the tasks, then for the executors, then stop.

        Executors may have hooks to run.
        """
        if self._is_stopping:
            if not self._pool.executors and self._has_left:
                self._reactor.stop()
        elif self._workload.is_idle():
            self._is_stopping = True
            self._pool.stop_executors()
            self._presence.leave(self._on_left)
            self._reactor.after(self._settings.kill_grace_seconds, self._reactor.stop)

    def _on_left(self) -> None:
        self._has_left = True
