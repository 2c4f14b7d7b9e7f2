"""The supervisor: fetches, has tasks run, answers for each. It never runs user code.

Everything happens in one thread, in rounds: what came in is handled, then results go out, tasks
come in, and executors get work. `TaskAcceptor` takes tasks in, `TaskOutcomes` decides what
becomes of them.

If this process dies, its executors die with it, and its tasks run again elsewhere when their
leases have run out.
"""

from __future__ import annotations

import itertools
import logging
import signal
import socket
from collections.abc import Callable

from nbqueue.broker.commands.lifecycle import Who
from nbqueue.broker.commands.presence import info_key
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import format_duration, parse_duration
from nbqueue.executor import pipe
from nbqueue.executor.signals import dump_stacks_on_quit
from nbqueue.requirements import offered_by
from nbqueue.runtime.gc_tuning import tune_garbage_collection
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.connection import Store
from nbqueue.wire.server_info import CLOSED, STOPPED
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.code_cache import CodeCache
from nbqueue.worker.executors.executor_process import NOT_BEGUN
from nbqueue.worker.executors.memory_trimmer import MemoryTrimmer
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.maintenance.aggregation_recovery import AggregationRecovery
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.code_gc import CodeCollector
from nbqueue.worker.maintenance.drain_mode import DrainMode
from nbqueue.worker.maintenance.health_checks import HealthChecks
from nbqueue.worker.maintenance.idle_exit import IdleExit
from nbqueue.worker.maintenance.parked_tasks import LimitExpiry, ParkedTasks
from nbqueue.worker.maintenance.presence import BeginNotes, Presence
from nbqueue.worker.maintenance.queue_watcher import QueueWatcher, Tended
from nbqueue.worker.maintenance.recoverer import Neighbours, Recovering
from nbqueue.worker.maintenance.service import (
    ClockKeeper,
    Forwarder,
    Heartbeat,
    Janitor,
    Recoverer,
    set_clock,
)
from nbqueue.worker.maintenance.unserved_queues import LeaseRepair, UnservedQueues
from nbqueue.worker.messages_in import Told, WorkerMessages, at_time
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.scheduling.providers import PeriodicSync, Providers
from nbqueue.worker.scheduling.scheduler import Scheduler
from nbqueue.worker.served_queues import ServedQueues
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.startup import ensure_descriptors, wait_for_store
from nbqueue.worker.tasks.accept import TaskAcceptor
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt, give_back
from nbqueue.worker.tasks.fetcher import Fetcher, QueueOrder, Slots
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import LeaseTokens
from nbqueue.worker.tasks.output_writer import OutputWriter
from nbqueue.worker.tasks.partial_results import PartialResults
from nbqueue.worker.tasks.required_workers import Parking, RequiredTasks
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes
from nbqueue.worker.tasks.verify import Verifier
from nbqueue.worker.worker_id import new_worker_id

log = logging.getLogger("nbqueue.worker")

_SHORT = 0.0005
"""Seconds: the end of tasks that take less is waited for awake."""


class Supervisor:
    """One worker. `run` blocks until it was told to end, by a signal or by `shut_down`."""

    def __init__(self, settings: WorkerSettings, store: Store | None = None) -> None:
        self.settings = settings
        ensure_descriptors(settings)
        self.store = store or wait_for_store(settings.url, settings.wait_seconds, settings.queues)
        self._keys = Keyring.load(self.store.config_directory)
        self.reactor = Reactor()
        # Before what the connections do each round: an executor should have its task first.
        self.reactor.every_round(self._round)
        self.reactor.expects = self._expects
        self.clock = Clock()
        host = socket.gethostname() or "unknown-host"
        self.worker_id = new_worker_id(host)
        self._who = Who(self.worker_id, host)
        self.queues = ServedQueues(settings.queues)
        queues = self.queues.names
        self._numbers = itertools.count(1)
        self.links = WorkerConnections(self.reactor, self.store, queues, settings.answer_seconds)
        self.acknowledger = Acknowledger(self.reactor, self.links, self.clock, self._who)
        self._held = self.acknowledger.held
        self._output_writer = OutputWriter(self.links, self._keys, self.clock)
        self.outcomes = TaskOutcomes(
            self.acknowledger,
            self._keys,
            self.clock,
            (PartialResults(self.links, self._keys), self._output_writer),
        )
        self._handlers = HandlerTable(self.links, self._keys, queues, settings.patterns)
        self._codes = CodeCache(self.links)
        self.pool = Pool(self.reactor, self.clock, self._codes, settings)
        self.reactor.rest = self.pool.slack
        offered = offered_by(settings.python)
        self._large_arguments = LargeArguments(self.links, self._keys)
        self._acceptor = TaskAcceptor(
            Verifier(self._keys, self._handlers, self.clock, offered),
            self._handlers,
            self._held,
            self._large_arguments,
            Parking(self.links, self.clock, self.acknowledger),
            self.pool,
            self.outcomes,
            self._numbers,
        )
        self._required = RequiredTasks(self.reactor, self.links, queues, offered)
        self.pool.on_broken = self._on_broken
        self.pool.on_too_many = self._give_back
        ClockKeeper(self.reactor, self.links, self.clock)
        lease = settings.lease_seconds
        self.aggregator = Aggregator(
            self.reactor,
            self.links,
            self.clock,
            queues,
            settings,
            self.acknowledger,
            lambda: next(self._numbers),
            self.pool.add,
            self.pool.room,
        )
        self._providers = Providers(
            PeriodicSync(
                *(self.reactor, self.links, self.clock, self.pool),
                *(queues, name, seconds, next(self._numbers)),
            )
            for name, seconds in settings.providers
        )
        Heartbeat(self.reactor, self.links, self.clock, self._held, self.pool, lease)
        self._tokens = LeaseTokens(self.worker_id, lease)
        self.fetcher = Fetcher(
            self.reactor,
            self.links,
            self.clock,
            self._tokens,
            QueueOrder(self.queues.weights, settings.strict_priority),
            Slots(settings.concurrency, self.pool, self._large_arguments, self.aggregator),
            self._acceptor,
            self._required,
        )
        self.forwarder = Forwarder(self.reactor, self.links, self.clock, self.fetcher.look)
        self._judge = ParkedTasks(self.reactor, self.links, self.clock, self.fetcher.look)
        LimitExpiry(self.reactor, self.links, self.clock, queues)
        self._tend(queues)
        self._scheduler: Scheduler | None = None
        if settings.scheduler:
            self._scheduler = Scheduler(
                self.reactor, self.links, self.clock, self._keys, queues, self.fetcher.look
            )
        self._burst: DrainMode | None = None
        if settings.burst:
            self._burst = DrainMode(
                self.reactor, self.links, self.clock, queues, self._is_idle, self.shut_down
            )
        idle = settings.idle_timeout
        self._lifetime = IdleExit(
            self.reactor,
            self.links,
            self.clock,
            self._is_idle,
            self.shut_down,
            None if idle is None else parse_duration(idle),
            settings.owner,
        )
        self._listen()
        self._ending = self._stopping = self._is_giving_back = self._has_left = False
        self._exit_code = 0
        self.on_ready: Callable[[], None] = lambda: None

    def _tend(self, queues: list[str]) -> None:
        """Start what keeps the store in order, and says that we are here."""
        parts = (self.reactor, self.links, self.clock)
        recovering = Recovering(
            self.links,
            self.clock,
            self._keys,
            self._held,
            self.outcomes,
            self._tokens,
            queues,
            self._numbers,
        )
        adopter, cancelled = LeaseRepair(*parts), CancelFollower(*parts, self._keys)
        tended = Tended(
            self.forwarder,
            self._judge,
            Recoverer(*parts, recovering.expired),
            Janitor(*parts, queues),
            adopter,
            AggregationRecovery(*parts, queues, min(5.0, self.settings.lease_seconds)),
            cancelled,
            self._on_schedules,
            self._required.note,
        )
        QueueWatcher(*parts, queues, info_key(self.worker_id), tended)
        self._neighbours = Neighbours(*parts, self.worker_id, queues, recovering)
        UnservedQueues(*parts, queues, adopter, cancelled, recovering.expired, self._on_schedules)
        CodeCollector(*parts, queues)
        BeginNotes(*parts, self.pool)
        MemoryTrimmer(*parts, self.pool)
        self._health = HealthChecks(self.reactor, self.links, self.settings)
        self.presence = Presence(
            *parts, self.pool, self.settings, self.worker_id, self.queues.weights
        )
        self.queues.connect(self.worker_id, self.links, self.fetcher, self._handlers, self.presence)

    def _listen(self) -> None:
        """Hear of what concerns this worker."""

        def on_schedules(queue: str, _: bytes) -> None:
            if self._scheduler is not None:
                self._scheduler.refresh(queue)

        words: dict[bytes, Told] = {
            b"due": at_time(self.forwarder.alarms.set),
            b"turn": at_time(self._judge.alarms.set),
            b"need": self._required.told,
            b"group": self.aggregator.announced,
            b"handlers": lambda queue, _: self._handlers.refresh(),
            b"worker": lambda _, said: self.queues.on_message(said),
            b"neighbour": self._neighbours.found,
            b"schedules": on_schedules,
        }

        def ask() -> None:
            self._handlers.refresh()
            if self.aggregator.enabled:
                self.aggregator.run_once()
            for queue in self.queues.names:
                on_schedules(queue, b"")

        self.links.on_asking.append(ask)
        fetcher = self.fetcher
        WorkerMessages(self.links, words, fetcher.look, self._cancel)

    def _cancel(self, task_id: str) -> None:
        for attempt in self._large_arguments.take_out(task_id):
            attempt.stop_reason = pipe.CANCELLED
            attempt.owner.lost(attempt, NOT_BEGUN, innocent=False)
        for run in self.pool.find(task_id):
            log.info("task is cancelled id=%s type=%s", run.task_id, run.message.type)
            self.pool.interrupt(run, pipe.CANCELLED)

    def run(self) -> int:
        """Serve until told to end; return an exit code. Signals are handled in the main thread."""
        actions: dict[int, Callable[[], object]] = {
            signal.SIGTERM: self.shut_down,
            signal.SIGINT: self.shut_down,
            signal.SIGTSTP: self.pause,
            signal.SIGQUIT: self.pool.dump_stacks,
        }
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as it is under nohup
            actions[signal.SIGHUP] = self._hang_up
        self.reactor.on_signals(actions)
        dump_stacks_on_quit(chain=True)
        self.pool.warm_up()
        set_clock(self.store, self.clock)
        self.presence.when_seen(self.on_ready)
        self.links.connect()
        log.info(
            "worker ready id=%s store=%s queues=%s concurrency=%d executor=%s",
            *(self.worker_id, self.store.url.redacted, self.queues),
            *(self.settings.concurrency, self.settings.executor),
        )
        tune_garbage_collection()
        try:
            self.reactor.run()
        finally:
            self._health.close()
            self.pool.close()
            self.links.close()
            self.store.close()
            self.reactor.close()
        log.info("worker ended id=%s", self.worker_id)
        return self._exit_code

    def pause(self) -> None:
        """Fetch no more; what is in hand goes on. As SIGTSTP does."""
        if self.fetcher.enabled:
            way = "" if self._ending else ": nothing resumes it, and SIGTERM ends it"
            log.info("worker fetches no more tasks%s id=%s", way, self.worker_id)
        self.fetcher.close()
        self.aggregator.enabled = False
        self._is_giving_back = True
        self.presence.say(CLOSED if self._ending else STOPPED)

    def _on_schedules(self, queue: str) -> None:
        if self._scheduler is not None:
            self._scheduler.tend(queue)

    @staticmethod
    def _give_back(attempts: list[Attempt]) -> None:
        give_back(attempts, "unstarted", "not begun")

    def shut_down(self) -> None:
        """End: what runs may go on for the shutdown time-out. A second call ends it at once."""
        if self._ending:
            self._abort()
            return
        self._ending = True
        self.pool.is_ending = True
        self.pause()
        if self._scheduler is not None:
            self._scheduler.close()
        self._providers.close()
        log.info(
            "worker ends id=%s running=%d timeout=%s",
            self.worker_id,
            self.pool.in_hand,
            format_duration(self.settings.shutdown_seconds),
        )
        self.reactor.after(self.settings.shutdown_seconds, self._abort)

    def _hang_up(self) -> None:
        """End as `shut_down` does. A closed terminal may say so twice, which is no hurry."""
        if not self._ending:
            self.shut_down()

    def _abort(self) -> None:
        self._give_back(self._large_arguments.give_up())
        attempts = self.pool.give_up_running()
        for attempt in attempts:
            if attempt.owner is self.outcomes:
                log.warning("task interrupted id=%s type=%s", attempt.task_id, attempt.message.type)
        give_back(attempts, "interrupted", "the worker was shut down")
        # The store may be away: its tasks then wait for their leases to run out.
        self.reactor.after(5.0, self.reactor.stop)

    def _round(self) -> None:
        if self._is_giving_back and not self.fetcher.is_asking and not self._large_arguments:
            # All at once, with what was on its way: so they go back in the order they came in.
            self._is_giving_back = False
            self._give_back(self.pool.take_back_unstarted())
        if self.aggregator.enabled:
            self.aggregator.round(not self.fetcher.is_asking)
        self.fetcher.fetch()
        self.pool.dispatch()
        self._output_writer.flush()
        self.acknowledger.flush()
        self.fetcher.offer()
        if self._ending:
            self._end_when_idle()
        elif self._burst is not None:
            self._burst.look()

    def _expects(self) -> bool:
        """Whether an answer of the store, or the end of a short task, should come in a moment, and
        no task needs the CPU more."""
        if self.pool.in_hand and self.pool.pace.estimate >= _SHORT:
            return False
        link = self.links.tasks
        return self.pool.in_hand > 0 or (link is not None and link.under_way > 0)

    def _is_idle(self) -> bool:
        return (
            not self.pool.in_hand
            and self.acknowledger.is_idle
            and self.aggregator.is_idle
            and not self._large_arguments
            and not self.fetcher.is_asking
        )

    def _end_when_idle(self) -> None:
        """First the tasks end, then the executors, which may have hooks to run, and then we."""
        if self._stopping:
            if not self.pool.executors and self._has_left:
                self.reactor.stop()
        elif self._is_idle():
            self._stopping = True
            self.pool.stop_executors()
            self.presence.leave(self._left)
            self.reactor.after(self.settings.kill_grace_seconds, self.reactor.stop)

    def _left(self) -> None:
        self._has_left = True

    def _on_broken(self, why: str) -> None:
        log.critical("worker cannot run tasks and ends reason=%s", why)
        self._exit_code = 1
        self.shut_down()
