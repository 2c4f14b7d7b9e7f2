"""The tab of the workers: what they run, and buttons to start and stop local ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.worker_list import RunningLine, WorkerLine, WorkerList
from nbqueue.notebook.local_workers import local_workers
from nbqueue.notebook.magic_arguments import parse_queues
from nbqueue.notebook.panel.model_table import (
    ALL,
    Cells,
    Drawing,
    action_buttons,
    foot,
    model_table,
    task_name,
    with_page,
)
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h


class WorkersTab(Tab):
    """Workers of nbqueue and in Go, as of their last reports."""

    name = "Workers"
    rest = WorkerList.rest_seconds

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._workers = WorkerList(context, local_workers(context.client))
        self.tables = {"": self._workers, "running": self._workers.running}

    def read(self) -> None:
        self._workers.read()

    def body(self, acts: bool, live: bool) -> Markup:
        workers, drawing = self._workers, Drawing(acts, live, self.context.now_ms)
        caption = fmt.count(workers.paging.total or 0, "worker")
        caption += f", {workers.used_slots:,} of {workers.all_slots:,} slots in use"
        parts = [self._buttons() if acts else h.NOTHING]
        parts.append(
            model_table(
                workers,
                drawing,
                caption=with_page(caption, workers),
                cells=_cells,
                hidden=("slots",),
            )
        )
        parts += [foot(workers, live=live), self._running(drawing)]
        return h.join(parts)

    def _running(self, drawing: Drawing) -> Markup:
        running = self._workers.running
        if not running.rows:
            return h.row(h.pale("nothing runs"))

        def cells(row: RunningLine) -> Cells:
            return {
                "type": fmt.shortened(row.type, 40),
                "id": task_name(row.queue, row.id, live=drawing.live),
                "started_ms": fmt.span(max(0.0, (drawing.now_ms - row.started_ms) / 1000)),
            }

        caption = with_page(f"runs now: {fmt.count(running.paging.total or 0, 'task')}", running)
        table = model_table(running, drawing, table="running", caption=caption, cells=cells)
        return table + foot(running, live=drawing.live, table="running")

    def _buttons(self) -> Markup:
        queues = controls.field(
            _queues_text(self._workers.queues_to_start()),
            "set-queues",
            label="Queues of a new worker",
            placeholder="queues, as in critical=6,default",
            width=200,
        )
        slots = controls.field(
            str(self._workers.new_slots),
            "set-slots",
            label="Slots of a new worker",
            placeholder="slots",
            width=50,
        )
        buttons = action_buttons(self._workers.all_actions(), "", ALL)
        return h.row(
            h.pale("a new worker here, for"), queues, h.pale("slots"), slots, *buttons, gap=6
        )

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "set-queues":
            self._workers.new_queues = parse_queues(str(args.get("value")))
        elif action == "set-slots":
            self._workers.set_slots(str(args.get("value")))
        else:
            super().act(action, args)


def _cells(row: WorkerLine) -> Cells:
    return {
        "worker": h.join([h.strong(row.worker), h.pale(" here") if row.is_local else ""]),
        "used": f"{row.used} of {row.slots}",
        "queues": h.join([row.queues, h.pale(" strictly") if row.is_strict else ""]),
    }


def _queues_text(weights: Mapping[str, int]) -> str:
    return ",".join(name if weight == 1 else f"{name}={weight}" for name, weight in weights.items())
