"""`WorkerList`: the workers, what they run, and starting and stopping those of this machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from nbqueue.broker.reads.models import ServerInfo
from nbqueue.clock import to_ms
from nbqueue.dashboard.measures.process_usage import ProcessUsage
from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import BYTES, COUNT, MOMENT, SHARE, STATE, Column
from nbqueue.dashboard.tables.table_model import Action, TableModel
from nbqueue.dashboard.tables.task_key import task_key
from nbqueue.errors import UsageError
from nbqueue.views.format import count, worker_state

_MOST_QUEUES = 20
"""The greatest number of queues that a row names."""


class WorkerLine(NamedTuple):
    """A worker at its last report. ``cpu`` is 1.0 for a core, ``memory`` in bytes.

    Both are None for workers that were not started on this machine.
    """

    key: str
    worker: str
    """Host and process id, as in ``host:123``."""
    is_local: bool
    state: str
    used: int
    slots: int
    queues: str
    is_strict: bool
    started_ms: int
    cpu: float | None
    memory: int | None


class RunningLine(NamedTuple):
    """A task that a worker was running at its last report."""

    key: str
    id: str
    queue: str
    type: str
    worker: str
    started_ms: int


class Launcher(Protocol):
    """Starts and stops workers of the store on this machine."""

    def running(self) -> Sequence[Any]:
        """Return the workers that run, each with its ``pid``."""

    def start(self, queues: Mapping[str, int], **options: Any) -> Any:
        """Start a worker, and return it with its ``pid`` and ``log`` when it is ready."""

    def stop(self) -> Sequence[Any]:
        """Stop the workers, and return them."""


class RunningTasks(TableModel[RunningLine]):
    """The tasks that run now, as workers reported them; see `WorkerList.running`."""

    title = "Running"
    noun = "task"
    columns = (
        Column("type", "type"),
        Column("id", "id"),
        Column("queue", "queue"),
        Column("worker", "worker"),
        Column("started_ms", "began", MOMENT),
    )

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._servers: Sequence[ServerInfo] = ()

    def follow(self, servers: Sequence[ServerInfo]) -> None:
        """Show what these workers run."""
        self._servers = servers
        self.read()

    def _all_rows(self) -> list[RunningLine]:
        return [
            RunningLine(
                key=task_key(task.queue, task.task_id),
                id=task.task_id,
                queue=task.queue,
                type=task.type,
                worker=f"{server.host}:{server.pid}",
                started_ms=to_ms(task.started_at),
            )
            for server in self._servers
            for task in server.active_tasks
            if self.scope.includes(task.queue)
        ]


class WorkerList(TableModel[WorkerLine]):
    """Workers of nbqueue and in Go. ``launcher`` adds starting and stopping local ones."""

    title = "Workers"
    noun = "worker"
    rest_seconds = 1.0
    columns = (
        Column("worker", "worker"),
        Column("state", "", STATE),
        Column("used", "used", COUNT),
        Column("slots", "slots", COUNT),
        Column("queues", "queues"),
        Column("started_ms", "began", MOMENT),
        Column("cpu", "CPU", SHARE),
        Column("memory", "memory", BYTES),
    )

    def __init__(self, scope: Scope, launcher: Launcher | None = None) -> None:
        super().__init__(scope)
        self._launcher = launcher
        self._usage = ProcessUsage()
        self.running = RunningTasks(scope)
        self.new_queues: dict[str, int] = {}
        """The queues of a worker to start, with weights; empty for all queues."""
        self.new_slots = os.cpu_count() or 1
        self.used_slots = self.all_slots = self.local_count = 0

    def read(self) -> None:
        servers = [
            server
            for server in self.scope.client.inspector.servers()
            if any(map(self.scope.includes, server.queues))
        ]
        local = {worker.pid for worker in self._launcher.running()} if self._launcher else set()
        self._usage.measure(local)
        self.local_count = len(local)
        self.used_slots = sum(len(server.active_tasks) for server in servers)
        self.all_slots = sum(server.concurrency for server in servers)
        self.running.follow(servers)
        self._lines = [self._line(server, server.pid in local) for server in servers]
        self._show(self._lines)

    def _all_rows(self) -> list[WorkerLine]:
        self.read()
        return self._lines

    def _line(self, server: ServerInfo, is_local: bool) -> WorkerLine:
        cpu, memory = (self._usage.by_pid.get(server.pid) if is_local else None) or (None, None)
        return WorkerLine(
            key=server.id,
            worker=f"{server.host}:{server.pid}",
            is_local=is_local,
            state=worker_state(server.status),
            used=len(server.active_tasks),
            slots=server.concurrency,
            queues=_queues_text(server.queues),
            is_strict=server.strict_priority,
            started_ms=to_ms(server.started_at),
            cpu=cpu,
            memory=memory,
        )

    # --- Acting --------------------------------------------------------------------------------

    def queues_to_start(self) -> dict[str, int]:
        """Return the queues of a worker to start, with weights."""
        if self.new_queues:
            return self.new_queues
        names = self.scope.queue_names()
        return dict.fromkeys(names, 1) if 0 < len(names) <= _MOST_QUEUES else {"default": 1}

    def set_slots(self, text: str) -> None:
        """Set the number of slots of a worker to start. Raises `UsageError`."""
        if not text.strip().isdigit() or int(text) < 1:
            raise UsageError(f"slots: {text!r} is not a whole number from 1 on")
        self.new_slots = int(text)

    def all_actions(self) -> Sequence[Action]:
        if self._launcher is None:
            return ()
        start = Action("start", "Start", "Start a worker on this machine")
        label = "End the workers that were started on this machine"
        question = f"Stop {count(self.local_count, 'worker')}?"
        stop = Action("stop", "Stop those started here", label, question, bool(self.local_count))
        return start, stop

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        if self._launcher is None or action not in ("start", "stop"):
            return super()._act(action, keys)
        if action == "start":
            worker = self._launcher.start(self.queues_to_start(), concurrency=self.new_slots)
            return f"worker {worker.pid} runs; its log is {worker.log}"
        return f"{count(len(self._launcher.stop()), 'worker')} ended"


def _queues_text(weights: Mapping[str, int]) -> str:
    pairs = sorted(weights.items(), key=lambda pair: -pair[1])
    shown = [name if weight == 1 else f"{name}={weight}" for name, weight in pairs[:_MOST_QUEUES]]
    if len(pairs) > _MOST_QUEUES:
        shown.append(f"… {len(pairs) - _MOST_QUEUES:,} more")
    return ", ".join(shown)
