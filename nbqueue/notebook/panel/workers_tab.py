"""The tab of the workers: who they are, and what each runs since when; and those started here."""

from __future__ import annotations

import os
from typing import Any

import psutil

from nbqueue.broker.reads.models import ServerInfo
from nbqueue.clock import to_ms
from nbqueue.dashboard.paging import Paging
from nbqueue.errors import UsageError
from nbqueue.notebook.local_workers import LocalWorker, LocalWorkers, local_workers
from nbqueue.notebook.magic_arguments import parse_queues
from nbqueue.notebook.panel.tab import Context, Tab, pager, with_page
from nbqueue.printable import escape
from nbqueue.views import format as words
from nbqueue.views import html as h

_STATUS = {"active": "running", "stopped": "paused", "closed": "stopping", "new": "pending"}
_MOST_TASKS = 20
_MOST_QUEUES = 20


class WorkersTab(Tab):
    """Workers of nbqueue and in Go, as they last reported, and the machine's own."""

    name = "Workers"
    rest = 1.0

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._servers: list[ServerInfo] = []
        self._locals: list[LocalWorker] = []
        self._usage: dict[int, tuple[float, int]] = {}
        self._processes: dict[int, psutil.Process] = {}
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
            if any(map(self.context.is_shown, server.queues))
        ]
        self._locals = self._workers.running()
        self._measure()

    def _measure(self) -> None:
        """CPU (1 is a whole one) and memory of each local worker, with its executors."""
        self._usage = {}
        for worker in self._locals:
            cpu, memory = 0.0, 0
            try:
                family = [psutil.Process(worker.pid)]
                family += family[0].children(recursive=True)
                for each in family:
                    # The same object as before, since it measures from one call to the next.
                    process = self._processes.setdefault(each.pid, each)
                    cpu += process.cpu_percent() / 100
                    memory += process.memory_info().rss
            except psutil.Error:
                continue
            self._usage[worker.pid] = cpu, memory
        alive = {process for process in self._processes if psutil.pid_exists(process)}
        self._processes = {pid: each for pid, each in self._processes.items() if pid in alive}

    def body(self, acts: bool, live: bool) -> str:
        rows = [self._row(server) for server in self._paging.of(self._servers)]
        running = sum(len(server.active_tasks) for server in self._servers)
        slots = sum(server.concurrency for server in self._servers)
        workers = words.count(len(self._servers), "worker")
        caption = f"{workers}, {running:,} of {slots:,} slots in use"
        caption = with_page(caption, self._paging, len(rows))
        heads = ["worker", "", "slots", "queues", "began", "CPU", "memory"]
        parts = [self._buttons() if acts else ""]
        parts.append(h.table(heads, rows, caption=caption, numeric=(2, 5, 6)))
        parts.append(pager(self._paging, len(rows), live=live))
        parts.append(self._tasks(live))
        return "".join(parts)

    def _row(self, server: ServerInfo) -> list[str]:
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
        usage = self._usage.get(server.pid) if local is not None else None
        return [
            h.strong(f"{server.host}:{server.pid}") + (h.pale(" here") if local else ""),
            words.badge_html(_STATUS.get(server.status, server.status)),
            f"{len(server.active_tasks)} of {server.concurrency}",
            escape(queues) + (h.pale(" strictly") if server.strict_priority else ""),
            words.time_html(to_ms(server.started_at), now),
            h.pale("–") if usage is None else f"{100 * usage[0]:.0f}%",
            h.pale("–") if usage is None else words.size(usage[1]),
        ]

    def _tasks(self, live: bool) -> str:
        now = self.context.now_ms
        found = [(server, task) for server in self._servers for task in server.active_tasks]
        found = [pair for pair in found if self.context.is_shown(pair[1].queue)]
        if not found:
            return h.row(h.pale("nothing runs"))
        rows = []
        for server, task in found[:_MOST_TASKS]:
            place = {"queue": task.queue, "id": task.task_id}
            name = (
                h.link(task.task_id, "task", label=f"Show the task {task.task_id}", args=place)
                if live
                else h.code(task.task_id)
            )
            seconds = max(0.0, (now - to_ms(task.started_at)) / 1000)
            rows.append(
                [
                    escape(words.shortened(task.type, 40)),
                    name,
                    escape(task.queue),
                    f"{escape(server.host)}:{server.pid}",
                    words.span(seconds),
                ]
            )
        more = f", the first {_MOST_TASKS}" if len(found) > _MOST_TASKS else ""
        heads = ["type", "id", "queue", "worker", "for"]
        return h.table(
            heads, rows, caption=f"runs now: {words.count(len(found), 'task')}{more}", numeric=(4,)
        )

    def _buttons(self) -> str:
        count = len(self._locals)
        queues = h.field(
            self._queues or ",".join(self._default_queues()),
            "set-queues",
            label="Queues of a new worker",
            placeholder="queues, as in critical=6,default",
            width=200,
        )
        slots = h.field(
            str(self._slots),
            "set-slots",
            label="Slots of a new worker",
            placeholder="slots",
            width=50,
        )
        start = h.button("Start", "start", label="Start a worker on this machine")
        stop = h.button(
            "Stop those started here",
            "stop",
            label="End the workers that were started on this machine",
            ask=f"Stop {words.count(count, 'worker')}?",
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
            self.context.said = f"worker {worker.pid} runs; its log is {worker.log}"
        elif action == "stop":
            ended = self._workers.stop()
            self.context.said = f"{words.count(len(ended), 'worker')} ended"


def _slots(text: str) -> int:
    if not text.strip().isdigit() or int(text) < 1:
        raise UsageError(f"slots: {text!r} is not a whole number from 1 on")
    return int(text)
