"""Make the parts of a worker, in the order of their dependencies.

Each part gets the parts that it calls as arguments. A part that must call one made later gets an
object that both share, such as `EndRequests`, `WaitingAttempts`, or the lists of
`WorkerConnections`.
"""

from __future__ import annotations

import itertools
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass

from nbqueue.broker.commands.failure import Who
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import parse_duration
from nbqueue.requirements import offered_by
from nbqueue.runtime.notify_socket import NotifySocket
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.connection import Store
from nbqueue.worker.cluster.cluster_connections import ClusterConnections
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.begun_attempts import BeginNotes
from nbqueue.worker.executors.code_cache import CodeCache
from nbqueue.worker.executors.idle_executors import IdleExecutors
from nbqueue.worker.executors.load_estimate import LoadEstimate
from nbqueue.worker.executors.memory_trimmer import MemoryTrimmer
from nbqueue.worker.executors.pool import Pool, PoolEvents
from nbqueue.worker.executors.waiting_attempts import WaitingAttempts
from nbqueue.worker.handler_table import HandlerTable, StoredHandlers
from nbqueue.worker.lifecycle.burst_mode import BurstMode
from nbqueue.worker.lifecycle.cancel_tasks import TaskCanceller
from nbqueue.worker.lifecycle.end_requests import EndRequests
from nbqueue.worker.lifecycle.health_checks import HealthChecks
from nbqueue.worker.lifecycle.idle_exit import IdleExit
from nbqueue.worker.lifecycle.messages_in import OnMessage, WorkerMessages, at_time
from nbqueue.worker.lifecycle.presence import Presence
from nbqueue.worker.lifecycle.queue_changes import QueueChanges
from nbqueue.worker.lifecycle.service_reports import ServiceReports, report_start
from nbqueue.worker.lifecycle.startup import ensure_descriptors, wait_for_store
from nbqueue.worker.lifecycle.workload import Workload
from nbqueue.worker.maintenance.cancelled_in_go import CancelFollower
from nbqueue.worker.maintenance.clock_sync import ClockSync
from nbqueue.worker.maintenance.dead_workers import DeadWorkers
from nbqueue.worker.maintenance.expiry.code_gc import CodeCollector
from nbqueue.worker.maintenance.expiry.limit_expiry import LimitExpiry
from nbqueue.worker.maintenance.expiry.task_group_expiry import TaskGroupExpiry
from nbqueue.worker.maintenance.forwarder import Forwarder
from nbqueue.worker.maintenance.heartbeat import Heartbeat
from nbqueue.worker.maintenance.janitor import Janitor
from nbqueue.worker.maintenance.lease_repair import LeaseRepair
from nbqueue.worker.maintenance.parked_tasks import ParkedTasks
from nbqueue.worker.maintenance.queue_watcher import QueueWatcher, WatchedServices
from nbqueue.worker.maintenance.recoverer import LostAttempts, Recoverer
from nbqueue.worker.maintenance.unserved_queues import UnservedQueues, UnservedServices
from nbqueue.worker.scheduling.aggregation_recovery import AggregationRecovery
from nbqueue.worker.scheduling.aggregator import Aggregator
from nbqueue.worker.scheduling.providers import PeriodicSync, Providers
from nbqueue.worker.scheduling.scheduler import Scheduler
from nbqueue.worker.served_queues import ServedQueues
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.supervisor import Lifecycle, Supervisor, TaskFlow
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.fetcher import Fetcher, QueueOrder, Slots
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.leases import LeaseTokens
from nbqueue.worker.tasks.output_writer import OutputWriter
from nbqueue.worker.tasks.partial_results import PartialResults
from nbqueue.worker.tasks.required_workers import Parking, RequiredTasks
from nbqueue.worker.tasks.task_acceptor import TaskAcceptor, Verifier
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes
from nbqueue.worker.worker_id import new_worker_id

log = logging.getLogger("nbqueue.worker")

_LONGEST_RECOVERY_INTERVAL = 5.0


def build_worker(
    settings: WorkerSettings,
    store: Store | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> Supervisor:
    """Make a worker, and connect to its store unless one is given.

    ``on_ready(worker_id)`` is called when the worker can be seen in the store. Raises `StoreError`
    or `UsageError` if the worker cannot serve with these settings.
    """
    ensure_descriptors(settings)
    notify_socket = NotifySocket(os.environ, log.warning)
    if store is None:
        report_start(notify_socket, settings.wait_seconds)
        store = wait_for_store(settings.url, settings.wait_seconds, settings.queues)
    host = socket.gethostname() or "unknown-host"
    context = _context(settings, store, new_worker_id(host))
    requests = EndRequests()
    flow = _task_flow(context, settings, Who(context.worker_id, host), requests)
    scheduler = Scheduler(context, flow.fetcher.look) if settings.scheduler else None
    services = _maintenance(context, settings, flow, scheduler)
    reports = ServiceReports(context, flow.waiting, settings, notify_socket)
    lifecycle = _lifecycle(context, settings, flow, scheduler, requests, reports, on_ready)
    _listen(context, flow, services, lifecycle, requests)
    return Supervisor(settings, store, context, flow, lifecycle, requests)


def _context(settings: WorkerSettings, store: Store, worker_id: str) -> ServiceContext:
    reactor = Reactor()
    queues = ServedQueues(settings.queues)
    connections = WorkerConnections if store.nodes is None else ClusterConnections
    return ServiceContext(
        reactor=reactor,
        connections=connections(reactor, store, queues, settings.answer_seconds),
        clock=Clock(),
        keys=Keyring.load(store.config_directory),
        queues=queues,
        worker_id=worker_id,
    )


def _task_flow(
    context: ServiceContext, settings: WorkerSettings, who: Who, requests: EndRequests
) -> TaskFlow:
    """Make the parts that a task passes.

    The order matters where a part appends callbacks to the connections' lists: unsent outcomes go
    first when the store is back, and handlers are read before tasks are fetched.
    """
    numbers, offered = itertools.count(1), offered_by(settings.python)
    tokens = LeaseTokens(context.worker_id, settings.lease_seconds)
    acknowledger = Acknowledger(context, who)
    partial_results, output_writer = PartialResults(context), OutputWriter(context)
    outcomes = TaskOutcomes(
        acknowledger, context.keys, context.clock, (partial_results, output_writer)
    )
    handlers = _handlers(context, settings)
    codes, load = CodeCache(context), LoadEstimate()
    waiting = WaitingAttempts(codes, load, settings)
    large_arguments = LargeArguments(context)
    acceptor = TaskAcceptor(
        Verifier(context.keys, handlers.table, context.clock, offered),
        handlers,
        acknowledger.held,
        large_arguments,
        Parking(context, acknowledger),
        waiting,
        outcomes,
        numbers,
    )
    required = RequiredTasks(context, offered)
    ClockSync(context)
    aggregator = Aggregator(context, settings, acknowledger, waiting, numbers)
    heartbeat = Heartbeat(context, acknowledger.held, waiting, settings.lease_seconds)
    events = PoolEvents(requests.fail, heartbeat.run_once, heartbeat.drop)
    order = QueueOrder(context.queues.weights, settings.strict_priority)
    slots = Slots(settings.concurrency, waiting, load, large_arguments, aggregator)
    return TaskFlow(
        numbers=numbers,
        tokens=tokens,
        handlers=handlers,
        required=required,
        fetcher=Fetcher(context, tokens, order, slots, acceptor, required),
        large_arguments=large_arguments,
        waiting=waiting,
        load=load,
        pool=Pool(context, codes, waiting, load, settings, events),
        output_writer=output_writer,
        outcomes=outcomes,
        acknowledger=acknowledger,
        aggregator=aggregator,
        providers=_providers(context, settings, waiting, numbers),
    )


def _handlers(context: ServiceContext, settings: WorkerSettings) -> StoredHandlers:
    table = HandlerTable(context.keys, context.queues.names, settings.patterns)
    return StoredHandlers(context, table)


def _providers(
    context: ServiceContext,
    settings: WorkerSettings,
    waiting: WaitingAttempts,
    numbers: itertools.count[int],
) -> Providers:
    return Providers(
        PeriodicSync(context, waiting, name, seconds, next(numbers))
        for name, seconds in settings.providers
    )


@dataclass(frozen=True)
class _Maintenance:
    """The services that messages concern."""

    forwarder: Forwarder
    parked_tasks: ParkedTasks
    dead_workers: DeadWorkers


def _maintenance(
    context: ServiceContext,
    settings: WorkerSettings,
    flow: TaskFlow,
    scheduler: Scheduler | None,
) -> _Maintenance:
    """Make the services that maintain the queues of the store."""
    look, on_schedules = flow.fetcher.look, _no_schedules
    if scheduler is not None:
        on_schedules = scheduler.tend
    forwarder = Forwarder(context, look)
    parked_tasks = ParkedTasks(context, look)
    lost = LostAttempts(context, flow.acknowledger.held, flow.outcomes, flow.tokens, flow.numbers)
    recoverer = Recoverer(context, lost)
    lease_repair = LeaseRepair(context)
    cancelled = CancelFollower(context)
    recovery_interval = min(_LONGEST_RECOVERY_INTERVAL, settings.lease_seconds)
    watched = WatchedServices(
        forwarder=forwarder,
        parked_tasks=parked_tasks,
        recoverer=recoverer,
        janitor=Janitor(context),
        lease_repair=lease_repair,
        aggregation_recovery=AggregationRecovery(context, recovery_interval),
        cancelled=cancelled,
        schedules=on_schedules,
        requirements=flow.required.note,
    )
    QueueWatcher(context, watched)
    dead_workers = DeadWorkers(context, lost)
    UnservedQueues(context, UnservedServices(recoverer, lease_repair, cancelled, on_schedules))
    LimitExpiry(context)
    TaskGroupExpiry(context)
    CodeCollector(context)
    BeginNotes(context, flow.pool)
    MemoryTrimmer(context, flow.pool)
    if settings.autoscale is not None:
        IdleExecutors(context, flow.pool, settings.autoscale[0])
    return _Maintenance(forwarder, parked_tasks, dead_workers)


def _no_schedules(queue: str) -> None:
    """Ignore the schedules of a queue, as this worker has no scheduler."""


def _lifecycle(
    context: ServiceContext,
    settings: WorkerSettings,
    flow: TaskFlow,
    scheduler: Scheduler | None,
    requests: EndRequests,
    service_reports: ServiceReports,
    on_ready: Callable[[str], None] | None,
) -> Lifecycle:
    """Make the parts that begin and end with the worker."""
    workload = Workload(
        flow.waiting, flow.large_arguments, flow.fetcher, flow.aggregator, flow.acknowledger
    )

    def on_seen() -> None:
        service_reports.ready()
        if on_ready is not None:
            on_ready(context.worker_id)

    idle = settings.idle_timeout
    idle_seconds = None if idle is None else parse_duration(idle)
    IdleExit(context, workload.is_idle, requests, idle_seconds, settings.owner)
    return Lifecycle(
        workload=workload,
        presence=Presence(context, flow.pool, settings, on_seen),
        health_checks=HealthChecks(context, settings),
        service_reports=service_reports,
        scheduler=scheduler,
        burst_mode=BurstMode(context, workload.is_idle, requests) if settings.burst else None,
    )


def _listen(
    context: ServiceContext,
    flow: TaskFlow,
    services: _Maintenance,
    lifecycle: Lifecycle,
    requests: EndRequests,
) -> None:
    """Route published messages to the parts that they concern."""
    scheduler, aggregator, handlers = lifecycle.scheduler, flow.aggregator, flow.handlers
    changes = QueueChanges(context, flow.fetcher, handlers, lifecycle.presence, requests)

    def on_schedules(queue: str, _: bytes) -> None:
        if scheduler is not None:
            scheduler.refresh(queue)

    def poll() -> None:
        """Read the data that messages would have announced."""
        handlers.refresh()
        if aggregator.enabled:
            aggregator.run_once()
        for queue in context.queues.names:
            on_schedules(queue, b"")

    by_word: dict[bytes, OnMessage] = {
        b"due": at_time(services.forwarder.timers.set),
        b"turn": at_time(services.parked_tasks.timers.set),
        b"need": flow.required.on_announced,
        b"group": aggregator.announced,
        b"handlers": lambda queue, _: handlers.refresh(),
        b"worker": lambda _, request: changes.on_message(request),
        b"neighbour": services.dead_workers.on_announced,
        b"schedules": on_schedules,
    }
    context.connections.on_poll.append(poll)
    canceller = TaskCanceller(flow.large_arguments, flow.pool)
    WorkerMessages(context.connections, by_word, flow.fetcher.look, canceller.cancel)
