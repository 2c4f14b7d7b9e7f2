"""The tab of the tasks: a filtered, paged list with actions, and one task in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.clock import to_ms
from nbqueue.dashboard.task_list import ACTIONS, STATES, TaskList
from nbqueue.errors import TaskNotFound
from nbqueue.notebook.panel.tab import Context, Tab, pager, queue_choice, task_name
from nbqueue.notebook.panel.task_detail import TaskDetail
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.wire import states

_TIME_OF = {
    states.SCHEDULED: "due",
    states.RETRY: "due",
    states.ARCHIVED: "failed at",
    states.COMPLETED: "completed at",
}


class TasksTab(Tab):
    """The tasks of one queue in one state, a page at a time."""

    name = "Tasks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._list = TaskList(context)
        self._detail: TaskDetail | None = None

    def look_at(self, queue: str, state: str) -> None:
        """Show the tasks of a queue in a state."""
        self._detail = None
        self._list.show(queue, state)

    def open(self, queue: str, task_id: str) -> None:
        """Show one task in full."""
        self._list.queue = queue
        self._detail = TaskDetail(self.context, queue, task_id)

    def read(self) -> None:
        self._list.read_names()
        if self._detail is not None:
            self._detail.read()
        elif fault := self._list.read():
            self.context.message = fault

    # --- Drawing -------------------------------------------------------------------------------

    def body(self, acts: bool, live: bool) -> Markup:
        if self._detail is not None:
            return self._detail.html(acts, live)
        if not self._list.queue:
            return h.row(h.pale("no task was ever enqueued here"))
        tasks, caption = self._list.tasks, self._caption()
        heads: list[h.Content] = ["state", "type", "id", "attempt"]
        heads += [_TIME_OF.get(self._list.state, ""), "error"]
        numeric = [3]
        if acts:
            is_on = bool(tasks) and all(task.id in self._list.selected for task in tasks)
            heads.insert(0, controls.checkbox(is_on, "select-page", label="Select this page"))
            numeric = [4]
        rows = [self._row(task, acts, live) for task in tasks]
        parts = [self._filters() if live else h.NOTHING, self._bulk() if acts else h.NOTHING]
        if rows:
            parts.append(h.table(heads, rows, caption=caption, numeric=numeric))
        else:
            parts.append(h.row(h.pale(caption)))
        parts.append(pager(self._list.paging, len(tasks), live=live))
        return h.join(parts)

    def _caption(self) -> str:
        shown = self._list
        if not shown.tasks:
            return f"no {shown.state} tasks in {shown.queue}" + (
                " fit the filter" if shown.is_filtered else ""
            )
        first, total = shown.paging.first, shown.paging.total
        order = "newest first" if shown.newest_first and total is not None else "next first"
        of = f" of {total:,}" if total is not None else " that fit"
        return f"{first + 1:,}–{first + len(shown.tasks):,}{of}, {order}"

    def _filters(self) -> Markup:
        shown = self._list
        return h.row(
            queue_choice(shown.queue, shown.queue_names, "set-queue", label="Queue"),
            controls.choice(
                shown.state,
                [(state, f"{state} ({shown.counts.get(state, 0):,})") for state in STATES],
                "set-state",
                label="State",
            ),
            self._order(),
            controls.field(
                shown.type, "set-type", label="Type", placeholder="type, or begins with*"
            ),
            controls.field(
                shown.error, "set-error", label="Error", placeholder="text of the error"
            ),
            controls.field("", "find", label="Id of a task", placeholder="find an id"),
            gap=6,
        )

    def _order(self) -> Markup:
        if not self._list.can_sort:
            return h.NOTHING
        chosen = "newest" if self._list.newest_first else "next"
        options = [("next", "next first"), ("newest", "newest first")]
        return controls.choice(chosen, options, "set-order", label="Order")

    def _bulk(self) -> Markup:
        count = len(self._list.selected)
        buttons = [h.pale(f"{count:,} selected")]
        for action in ACTIONS[self._list.state]:
            word = action.capitalize()
            buttons.append(
                controls.button(
                    word,
                    "bulk",
                    label=f"{word} the {fmt.count(count, 'selected task')}",
                    args={"what": action},
                    ask=f"{word} {fmt.count(count, 'task')}?",
                    disabled=not count,
                )
            )
        return h.row(*buttons, *self._all_buttons(), gap=6)

    def _all_buttons(self) -> list[Markup]:
        """Return buttons for all tasks that match.

        The number of tasks that match a filter is unknown at first: a button counts them.
        """
        shown = self._list
        count = shown.matching if shown.is_filtered else shown.paging.total
        of = f"{shown.state} tasks of {shown.queue}" + (" that fit" if shown.is_filtered else "")
        if count is None and shown.tasks:
            return [
                h.pale("·"),
                controls.button("All that fit …", "count", label=f"Count the {of}"),
            ]
        if not count:
            return []
        buttons = [
            controls.button(
                f"{action.capitalize()} all {count:,}",
                "all",
                label=f"{action.capitalize()} all {count:,} {of}",
                args={"what": action},
                ask=f"{action.capitalize()} {fmt.count(count, 'task')}?",
            )
            for action in ACTIONS[shown.state]
        ]
        return [h.pale("·"), *buttons]

    def _row(self, task: TaskInfo, acts: bool, live: bool) -> list[h.Content]:
        cells: list[h.Content] = [
            h.badge(task.state),
            fmt.shortened(task.type, 40),
            task_name(task.queue, task.id, live=live),
            f"{task.attempt}" if task.attempt else h.pale("–"),
            h.unbroken(self._time(task)),
            fmt.shortened(task.fault or task.error or "", 80),
        ]
        if acts:
            is_on, place = task.id in self._list.selected, {"queue": task.queue, "id": task.id}
            tick = controls.checkbox(is_on, "select", label=f"Select {task.id}", args=place)
            cells.insert(0, tick)
        return cells

    def _time(self, task: TaskInfo) -> Markup:
        now = self.context.now_ms
        if task.state in (states.SCHEDULED, states.RETRY) and task.next_process_at is not None:
            left = (to_ms(task.next_process_at) - now) / 1000
            moment = fmt.zoned_time(to_ms(task.next_process_at))
            return h.titled(fmt.ago(-left) if left > 0 else "now", moment)
        moment_at = task.completed_at if task.state == states.COMPLETED else task.last_failed_at
        return h.time(to_ms(moment_at), now) if moment_at is not None else h.pale("–")

    # --- Acting --------------------------------------------------------------------------------

    def act(self, action: str, args: dict[str, Any]) -> None:
        if self._detail is not None and action != "back":
            self._detail.act(action, args)
            return
        shown = self._list
        is_on = bool(args.get("value"))
        handlers: dict[str, Callable[[], None]] = {
            "back": self._back,
            "page": lambda: shown.paging.turn(int(args.get("by", 0))),
            "set-queue": lambda: self._choose_queue(str(args["value"]).strip()),
            "set-state": lambda: shown.show(shown.queue, str(args["value"])),
            "set-order": lambda: shown.sort(newest_first=args["value"] == "newest"),
            "set-type": lambda: shown.filter(type=str(args["value"])),
            "set-error": lambda: shown.filter(error=str(args["value"])),
            "find": lambda: self._find(str(args["value"]).strip()),
            "select": lambda: shown.select([str(args["id"])], is_on=is_on),
            "select-page": lambda: shown.select([task.id for task in shown.tasks], is_on=is_on),
            "count": shown.count_matching,
            "bulk": lambda: self._move(shown.act_on_selected, str(args["what"])),
            "all": lambda: self._move(shown.act_on_all, str(args["what"])),
        }
        handler = handlers.get(action)
        if handler is not None:
            handler()

    def _back(self) -> None:
        self._detail = None

    def _choose_queue(self, name: str) -> None:
        if name in self.context.queue_names():
            self.look_at(name, self._list.state)
        else:
            self.context.message = f"there is no queue {name!r}"

    def _find(self, task_id: str) -> None:
        if not task_id:
            return
        try:
            found = self.context.client.inspector.task(task_id)
        except TaskNotFound as error:
            self.context.message = str(error)
            return
        if self.context.includes(found.queue):
            self.open(found.queue, found.id)

    def _move(self, act: Callable[[str], str], action: str) -> None:
        if not self.context.read_only and (summary := act(action)):
            self.context.message = summary
