"""The tab of the tasks: a filtered, paged list with actions, and one task in full."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from nbqueue.client.task_groups.stored_groups import find_members
from nbqueue.dashboard.task_detail import TaskDetail
from nbqueue.dashboard.task_line import TaskLine
from nbqueue.dashboard.task_list import ALL, STATES, TaskList
from nbqueue.errors import TaskNotFound
from nbqueue.notebook.panel import model_table as draw
from nbqueue.notebook.panel.model_table import Cells, Drawing, model_table, queue_choice, task_name
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.notebook.panel.task_view import task_view
from nbqueue.notebook.replay_here import replay_here
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.wire import states

_ALL_QUEUES = "*"
"""The value of the choice of all queues: no queue has an empty name, but a field may be empty."""
_FILTERS = {
    "type": "type, or begins with*",
    "error": "text of the error",
    "name": "name of a task or group",
    "arguments": "arguments, as in lr=0.1",
}
"""The filters, each with what can be typed there."""


class TasksTab(Tab):
    """The tasks of a queue or of all, a page at a time."""

    name = "Tasks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._list = TaskList(context, self._found_more)
        self._detail: TaskDetail | None = None
        self.tables = {"": self._list}

    def look_at(self, queue: str, state: str) -> None:
        """Show the tasks of a queue in a state."""
        self._detail = None
        self._list.show(queue, state)

    def open(self, queue: str, task_id: str) -> None:
        """Show one task in full."""
        self._list.queue = queue if self._list.queue != ALL else ALL
        self._detail = TaskDetail(self.context, queue, task_id)

    def stale(self) -> None:
        self._list.changed()
        super().stale()

    def _found_more(self) -> None:
        super().stale()
        self.context.redraw()

    def read(self) -> None:
        if self._detail is not None:
            self._detail.read()
        else:
            self._list.read()

    # --- Drawing -------------------------------------------------------------------------------

    def body(self, acts: bool, live: bool) -> Markup:
        drawing = Drawing(acts, live, self.context.now_ms)
        if self._detail is not None:
            return h.keyed(f"task {self._detail.id}", task_view(self._detail, drawing))
        tasks = self._list
        if tasks.queue is None:
            return h.row(h.pale("no task was ever enqueued here"))
        parts = [self._filters() if live else h.NOTHING, self._bulk() if acts else h.NOTHING]
        if tasks.rows:
            parts.append(
                model_table(
                    tasks,
                    drawing,
                    caption=self._caption(),
                    cells=lambda row: self._cells(row, drawing),
                    hidden=("call",),
                    selects=True,
                )
            )
        else:
            parts.append(h.row(h.pale(self._caption())))
        parts.append(draw.foot(tasks, live=live))
        return h.join(parts)

    def _caption(self) -> str:
        tasks, progress = self._list, self._list.progress
        notes = f" ({tasks.note})" if tasks.note else ""
        if not tasks.rows:
            if progress or tasks.note:
                return f"{progress or 'nothing is shown'}{notes}"
            state = f"{tasks.state} " if tasks.state else ""
            where = tasks.queue or "any queue"
            fits = " fit the filter" if tasks.is_filtered else ""
            return f"no {state}tasks in {where}{fits}"
        first, total = tasks.paging.first, tasks.paging.total
        shown = f"{first + 1:,}–{first + len(tasks.rows):,} of {total:,}"
        shown += " that fit" if tasks.is_filtered else ""
        if tasks.is_page_of_store:
            shown += ", newest first" if tasks.newest_first else ", next first"
        return shown + (f", {progress}" if progress else "") + notes

    def _filters(self) -> Markup:
        tasks = self._list
        options = [(_ALL_QUEUES, "all queues"), *((name, name) for name in tasks.queue_names)]
        total = sum(tasks.counts.values())
        state_options = [(ALL, f"all states ({total:,})")]
        state_options += [(state, f"{state} ({tasks.counts.get(state, 0):,})") for state in STATES]
        return h.row(
            queue_choice(tasks.queue or _ALL_QUEUES, options, "set-queue", label="Queue"),
            controls.choice(tasks.state, state_options, "set-state", label="State"),
            *(
                controls.field(
                    tasks.filters[name],
                    "filter",
                    label=name.capitalize(),
                    placeholder=example,
                    args={"name": name},
                    as_typed=True,
                )
                for name, example in _FILTERS.items()
            ),
            controls.field(
                "", "find", label="Id or name of a task", placeholder="find an id or a name"
            ),
            gap=6,
        )

    def _bulk(self) -> Markup:
        tasks = self._list
        parts = [h.pale(f"{len(tasks.selected):,} selected")]
        parts += draw.action_buttons(tasks.actions(), "", draw.SELECTED)
        if of_all := draw.action_buttons(tasks.all_actions(), "", draw.ALL):
            parts += [h.pale("·"), *of_all]
        return h.row(*parts, gap=6)

    @staticmethod
    def _cells(task: TaskLine, drawing: Drawing) -> Cells:
        return {
            "state": h.badge(fmt.task_state(task.state, task.error)),
            "type": h.titled(fmt.shortened(task.call or task.type, 60), task.type),
            "id": task_name(task.queue, task.id, live=drawing.live),
            "attempt": f"{task.attempt}" if task.attempt else h.pale("–"),
            "time_ms": _time(task, drawing.now_ms),
        }

    # --- Acting --------------------------------------------------------------------------------

    def act(self, action: str, args: dict[str, Any]) -> None:
        tasks = self._list
        if self._detail is not None:
            if action == "back":
                self._detail = None
            elif action == "task-act":
                self.context.message = self._detail.act(str(args.get("what")))
            elif action == "task-replay" and not self.context.read_only:
                future = self.context.client.get(self._detail.id)
                self.context.message = replay_here(future)
        elif action == "set-queue":
            self._choose_queue(str(args["value"]).strip())
        elif action == "set-state" and tasks.queue is not None:
            tasks.show(tasks.queue, str(args["value"]))
        elif action == "find":
            self._find(str(args["value"]).strip())
        else:
            super().act(action, args)

    def _choose_queue(self, name: str) -> None:
        if name == _ALL_QUEUES:
            self.look_at(ALL, self._list.state)
        elif name in self.context.queue_names():
            self.look_at(name, self._list.state)
        else:
            self.context.message = f"there is no queue {name!r}"

    def _find(self, text: str) -> None:
        """Open the task with this id or name, or list the tasks of the group."""
        if not text:
            return
        client = self.context.client
        try:
            found = client.get(text)
        except TaskNotFound as error:
            if not find_members(client._session, text):
                self.context.message = str(error)
                return
            self.look_at(ALL, ALL)
            self._list.filter(name=text)
            return
        if self.context.includes(found.queue):
            self.open(found.queue, found.id)


def _time(task: TaskLine, now_ms: int) -> Markup:
    if task.time_ms is None:
        return h.pale("–")
    if task.state in (states.SCHEDULED, states.RETRY):
        left = (task.time_ms - now_ms) / 1000
        moment = fmt.zoned_time(task.time_ms)
        return h.unbroken(h.titled(fmt.ago(-left) if left > 0 else "now", moment))
    return h.unbroken(h.time(task.time_ms, now_ms))
