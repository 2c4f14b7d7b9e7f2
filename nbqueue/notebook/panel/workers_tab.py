"""The tab of the workers: what they run, and buttons to start and stop local ones."""

from __future__ import annotations

import os
from typing import Any

from markupsafe import Markup

from nbqueue.broker.reads.models import ServerInfo
from nbqueue.clock import to_ms
from nbqueue.dashboard.paging import Paging
from nbqueue.dashboard.process_usage import ProcessUsage
from nbqueue.errors import UsageError
from nbqueue.notebook.local_workers import LocalWorker, LocalWorkers, local_workers
from nbqueue.notebook.magic_arguments import parse_queues
from nbqueue.notebook.panel.tab import Context, Tab, pager, task_name, with_page
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h

_STATUS = {"active": "running", "stopped": "paused", "closed": "stopping", "new": "pending"}
_MOST_TASKS = 20
_MOST_QUEUES = 20


class WorkersTab(Tab):
    """Workers of nbqueue and in Go, as of their last reports."""

    name = "Workers"
    rest = 1.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._servers: list[ServerInfo] = []
        self._locals: list[LocalWorker] = []
        self._usage = ProcessUsage()
        self._queues = ""
        self._slots = os.cpu_count() or 1
        self._paging = Paging()

    @property
    def _workers(self) -> LocalWorkers:
        return local_workers(self.context.client)

    def read(self) -> None:
        self._servers = [
            server
            for server in self.context.client.inspector.servers()
            if any(map(self.context.includes, server.queues))
        ]
        self._locals = self._workers.running()
        self._usage.measure(worker.pid for worker in self._locals)

    def body(self, acts: bool, live: bool) -> Markup:
        rows = [self._row(server) for server in self._paging.of(self._servers)]
        running = sum(len(server.active_tasks) for server in self._servers)
        slots = sum(server.concurrency for server in self._servers)
        workers = fmt.count(len(self._servers), "worker")
        caption = f"{workers}, {running:,} of {slots:,} slots in use"
        caption = with_page(caption, self._paging, len(rows))
        heads = ["worker", "", "slots", "queues", "began", "CPU", "memory"]
        parts = [self._buttons() if acts else h.NOTHING]
        parts.append(h.table(heads, rows, caption=caption, numeric=(2, 5, 6)))
        parts.append(pager(self._paging, len(rows), live=live))
        parts.append(self._tasks(live))
        return h.join(parts)

    def _row(self, server: ServerInfo) -> list[h.Content]:
        now = self.context.now_ms
        queues = ", ".join(
            name if weight == 1 else f"{name}={weight}"
            for name, weight in sorted(server.queues.items(), key=lambda pair: -pair[1])[
                :_MOST_QUEUES
            ]
        )
        if len(server.queues) > _MOST_QUEUES:
            queues += f", … {len(server.queues) - _MOST_QUEUES:,} more"
        local = next((worker for worker in self._locals if worker.pid == server.pid), None)
        usage = self._usage.by_pid.get(server.pid) if local is not None else None
        return [
            h.join([h.strong(f"{server.host}:{server.pid}"), h.pale(" here") if local else ""]),
            h.badge(_STATUS.get(server.status, server.status)),
            f"{len(server.active_tasks)} of {server.concurrency}",
            h.join([queues, h.pale(" strictly") if server.strict_priority else ""]),
            h.time(to_ms(server.started_at), now),
            h.pale("–") if usage is None else f"{100 * usage[0]:.0f}%",
            h.pale("–") if usage is None else fmt.size(usage[1]),
        ]

    def _tasks(self, live: bool) -> Markup:
        now = self.context.now_ms
        found = [(server, task) for server in self._servers for task in server.active_tasks]
        found = [pair for pair in found if self.context.includes(pair[1].queue)]
        if not found:
            return h.row(h.pale("nothing runs"))
        rows = []
        for server, task in found[:_MOST_TASKS]:
            seconds = max(0.0, (now - to_ms(task.started_at)) / 1000)
            rows.append(
                [
                    fmt.shortened(task.type, 40),
                    task_name(task.queue, task.task_id, live=live),
                    task.queue,
                    f"{server.host}:{server.pid}",
                    fmt.span(seconds),
                ]
            )
        more = f", the first {_MOST_TASKS}" if len(found) > _MOST_TASKS else ""
        heads = ["type", "id", "queue", "worker", "for"]
        return h.table(
            heads, rows, caption=f"runs now: {fmt.count(len(found), 'task')}{more}", numeric=(4,)
        )

    def _buttons(self) -> Markup:
        count = len(self._locals)
        queues = controls.field(
            self._queues or ",".join(self._default_queues()),
            "set-queues",
            label="Queues of a new worker",
            placeholder="queues, as in critical=6,default",
            width=200,
        )
        slots = controls.field(
            str(self._slots),
            "set-slots",
            label="Slots of a new worker",
            placeholder="slots",
            width=50,
        )
        start = controls.button("Start", "start", label="Start a worker on this machine")
        stop = controls.button(
            "Stop those started here",
            "stop",
            label="End the workers that were started on this machine",
            ask=f"Stop {fmt.count(count, 'worker')}?",
            disabled=not count,
        )
        return h.row(
            h.pale("a new worker here, for"), queues, h.pale("slots"), slots, start, stop, gap=6
        )

    def _default_queues(self) -> list[str]:
        names = self.context.queue_names()
        return names if 0 < len(names) <= _MOST_QUEUES else ["default"]

    def act(self, action: str, args: dict[str, Any]) -> None:
        if self._turn(action, args, self._paging) or self.context.read_only:
            return
        if action == "set-queues":
            parse_queues(str(args.get("value")))
            self._queues = str(args.get("value")).strip()
        elif action == "set-slots":
            self._slots = _slots(str(args.get("value")))
        elif action == "start":
            queues = parse_queues(self._queues or ",".join(self._default_queues()))
            worker = self._workers.start(queues, concurrency=self._slots)
            self.context.message = f"worker {worker.pid} runs; its log is {worker.log}"
        elif action == "stop":
            ended = self._workers.stop()
            self.context.message = f"{fmt.count(len(ended), 'worker')} ended"


def _slots(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise UsageError(f"slots: {text!r} is not a whole number from 1 on")
    return int(text)
