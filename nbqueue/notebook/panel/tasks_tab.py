"""The tab of the tasks: filter, page, select, act; and one task in full."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from nbqueue.broker.reads.models import TaskInfo
from nbqueue.clock import to_ms
from nbqueue.dashboard.paging import Paging
from nbqueue.errors import StoreDamaged, TaskNotFound
from nbqueue.notebook.panel.tab import Context, Tab, pager, queue_choice
from nbqueue.notebook.panel.task_detail import TaskDetail
from nbqueue.printable import escape
from nbqueue.views import format as words
from nbqueue.views import html as h
from nbqueue.wire import states

_ALL = (
    states.PENDING,
    states.ACTIVE,
    states.SCHEDULED,
    states.RETRY,
    states.ARCHIVED,
    states.COMPLETED,
    states.AGGREGATING,
)
_ACTIONS = {
    states.PENDING: ("cancel", "archive", "delete"),
    states.ACTIVE: ("cancel",),
    states.SCHEDULED: ("run", "cancel", "archive", "delete"),
    states.RETRY: ("run", "cancel", "archive", "delete"),
    states.ARCHIVED: ("run", "delete"),
    states.COMPLETED: ("run", "delete"),
    states.AGGREGATING: ("run", "cancel", "archive", "delete"),
}
_DONE = {"run": "will run", "cancel": "cancelled", "archive": "archived", "delete": "deleted"}


class TasksTab(Tab):
    """The tasks of one queue in one state, a page at a time."""

    name = "Tasks"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._queue = ""
        self._state = states.PENDING
        self._group = ""
        self._type = ""
        self._error = ""
        self._newest_first = False
        self._paging = Paging()
        self._selected: set[str] = set()
        self._fitting: int | None = None
        self._tasks: list[TaskInfo] = []
        self._counts: dict[str, int] = {}
        self._names: list[str] = []
        self._detail: TaskDetail | None = None

    def look_at(self, queue: str, state: str) -> None:
        """Show the tasks of a queue in a state."""
        self._queue, self._detail = queue, None
        self._choose(state)

    def open(self, queue: str, task_id: str) -> None:
        """Show one task in full."""
        self._queue = queue
        self._detail = TaskDetail(self.context, queue, task_id)

    def _choose(self, state: str) -> None:
        self._state = state if state in _ALL else states.PENDING
        self._newest_first = self._state in states.FINAL
        self._begin()

    def _begin(self) -> None:
        self._paging.restart()
        self._fitting = None
        self._selected.clear()

    # --- Reading -------------------------------------------------------------------------------

    def read(self) -> None:
        inspector = self.context.client.inspector
        self._names = self.context.queue_names()
        if self._queue not in self._names:
            self._queue = self._names[0] if self._names else ""
        if self._detail is not None:
            self._detail.read()
            return
        self._tasks, self._counts = [], {}
        if not self._queue:
            return
        info = inspector.queue(self._queue)
        self._counts = {state: getattr(info, state) for state in _ALL}
        # Tasks may have left while somebody looked at the last page.
        self._paging.counted(None if self._is_filtered else self._counts[self._state])
        first, count = self._paging.first, self._paging.size
        if self._is_filtered or self._state == states.AGGREGATING:
            read = partial(self._filtered, first)
        else:
            read = partial(
                inspector.page,
                *(self._queue, self._state, first, count),
                newest_first=self._newest_first,
            )
        try:
            self._tasks = read()
        except StoreDamaged:
            self.context.said = f"{self._queue} cannot be read: {info.fault}"

    @property
    def _is_filtered(self) -> bool:
        return bool(self._type or self._error)

    def _filtered(self, first: int) -> list[TaskInfo]:
        return list(islice(self._all_filtered(), first, first + self._paging.size))

    def _all_filtered(self) -> Iterator[TaskInfo]:
        inspector = self.context.client.inspector
        groups: list[str | None] = [None]
        if self._state == states.AGGREGATING:
            groups = list(inspector.groups(self._queue))
        for group in groups:
            yield from inspector.tasks(
                self._queue, self._state, group=group, type=self._type or None,
                error=self._error or None,
            )  # fmt: skip

    # --- Drawing -------------------------------------------------------------------------------

    def body(self, acts: bool, live: bool) -> str:
        if self._detail is not None:
            return self._detail.html(acts, live)
        if not self._queue:
            return h.row(h.pale("no task was ever enqueued here"))
        caption = self._caption(self._paging.first, self._paging.total)
        heads = ["state", "type", "id", "attempt", _TIME_OF.get(self._state, ""), "error"]
        numeric = [3]
        if acts:
            all_on = bool(self._tasks) and all(task.id in self._selected for task in self._tasks)
            check = h.check(all_on, "select-page", label="Select this page")
            heads.insert(0, h.Html(check))
            numeric = [4]
        rows = [self._row(task, acts, live) for task in self._tasks]
        parts = [self._filters() if live else "", self._bulk() if acts else ""]
        if rows:
            parts.append(h.table(heads, rows, caption=caption, numeric=numeric))
        else:
            parts.append(h.row(h.pale(caption)))
        parts.append(pager(self._paging, len(self._tasks), live=live))
        return "".join(parts)

    def _caption(self, first: int, total: int | None) -> str:
        if not self._tasks:
            return f"no {self._state} tasks in {self._queue}" + (
                " fit the filter" if self._is_filtered else ""
            )
        order = "newest first" if self._newest_first and total is not None else "next first"
        of = f" of {total:,}" if total is not None else " that fit"
        return f"{first + 1:,}–{first + len(self._tasks):,}{of}, {order}"

    def _filters(self) -> str:
        return h.row(
            queue_choice(self._queue, self._names, "set-queue", label="Queue"),
            h.choice(
                self._state,
                [(state, f"{state} ({self._counts.get(state, 0):,})") for state in _ALL],
                "set-state",
                label="State",
            ),
            self._order(),
            h.field(self._type, "set-type", label="Type", placeholder="type, or begins with*"),
            h.field(self._error, "set-error", label="Error", placeholder="text of the error"),
            h.field("", "find", label="Id of a task", placeholder="find an id"),
            gap=6,
        )

    def _order(self) -> str:
        if self._is_filtered or self._state == states.AGGREGATING:
            return ""  # these are found in the order in which they lie
        chosen = "newest" if self._newest_first else "next"
        options = [("next", "next first"), ("newest", "newest first")]
        return h.choice(chosen, options, "set-order", label="Order")

    def _bulk(self) -> str:
        count = len(self._selected)
        buttons = [h.pale(f"{count:,} selected")]
        for action in _ACTIONS[self._state]:
            buttons.append(
                h.button(
                    _word(action),
                    "bulk",
                    label=f"{_word(action)} the {words.count(count, 'selected task')}",
                    args={"what": action},
                    ask=f"{_word(action)} {words.count(count, 'task')}?",
                    disabled=not count,
                )
            )
        return h.row(*buttons, *self._all_buttons(), gap=6)

    def _all_buttons(self) -> list[str]:
        """Buttons for all tasks, which ask; of those that fit a filter, nobody knows yet how many
        they are: a first button counts them."""
        fitting = self._fitting if self._is_filtered else self._paging.total
        of = f"{self._state} tasks of {self._queue}" + (" that fit" if self._is_filtered else "")
        if fitting is None and self._tasks:
            return [h.pale("·"), h.button("All that fit …", "count", label=f"Count the {of}")]
        if not fitting:
            return []
        return [
            h.pale("·"),
            *(
                h.button(
                    f"{_word(action)} all {fitting:,}",
                    "all",
                    label=f"{_word(action)} all {fitting:,} {of}",
                    args={"what": action},
                    ask=f"{_word(action)} {words.count(fitting, 'task')}?",
                )
                for action in _ACTIONS[self._state]
            ),
        ]

    def _row(self, task: TaskInfo, acts: bool, live: bool) -> list[str]:
        place = {"queue": task.queue, "id": task.id}
        name = (
            h.link(task.id, "task", label=f"Show the task {task.id}", args=place)
            if live
            else h.code(task.id)
        )
        cells = [
            words.badge_html(task.state),
            escape(words.shortened(task.type, 40)),
            name,
            f"{task.attempt}" if task.attempt else h.pale("–"),
            h.close(self._time(task)),
            escape(words.shortened(task.fault or task.error or "", 80)),
        ]
        if acts:
            is_on = task.id in self._selected
            cells.insert(0, h.check(is_on, "select", label=f"Select {task.id}", args=place))
        return cells

    def _time(self, task: TaskInfo) -> str:
        now = self.context.now_ms
        if task.state in (states.SCHEDULED, states.RETRY) and task.next_process_at is not None:
            left = (to_ms(task.next_process_at) - now) / 1000
            moment = words.zoned_time(to_ms(task.next_process_at))
            return h.titled(words.ago(-left) if left > 0 else "now", moment)
        moment_at = task.completed_at if task.state == states.COMPLETED else task.last_failed_at
        return words.time_html(to_ms(moment_at), now) if moment_at is not None else h.pale("–")

    # --- Acting --------------------------------------------------------------------------------

    def act(self, action: str, args: dict[str, Any]) -> None:
        if self._detail is not None and action != "back":
            self._detail.act(action, args)
            return
        handlers: dict[str, Callable[[], None]] = {
            "back": self._back,
            "page": lambda: self._paging.turn(int(args.get("by", 0))),
            "set-queue": lambda: self._choose_queue(str(args["value"]).strip()),
            "set-state": lambda: self._choose(str(args["value"])),
            "set-order": lambda: self._sort(args["value"] == "newest"),
            "set-type": lambda: self._set("_type", str(args["value"])),
            "set-error": lambda: self._set("_error", str(args["value"])),
            "find": lambda: self._find(str(args["value"]).strip()),
            "select": lambda: self._select([str(args["id"])], bool(args.get("value"))),
            "select-page": lambda: self._select(
                [task.id for task in self._tasks], bool(args.get("value"))
            ),
            "count": self._count_fitting,
            "bulk": lambda: self._move(str(args["what"]), sorted(self._selected)),
            "all": lambda: self._move(str(args["what"]), None),
        }
        handler = handlers.get(action)
        if handler is not None:
            handler()

    def _count_fitting(self) -> None:
        self._fitting = sum(1 for _ in self._all_filtered())

    def _back(self) -> None:
        self._detail = None

    def _choose_queue(self, name: str) -> None:
        if name in self.context.queue_names():
            self.look_at(name, self._state)
        else:
            self.context.said = f"there is no queue {name!r}"

    def _sort(self, newest_first: bool) -> None:
        self._newest_first = newest_first
        self._begin()

    def _set(self, name: str, value: str) -> None:
        setattr(self, name, value.strip())
        self._begin()

    def _find(self, task_id: str) -> None:
        if not task_id:
            return
        try:
            found = self.context.client.inspector.task(task_id)
        except TaskNotFound as error:
            self.context.said = str(error)
            return
        if self.context.is_shown(found.queue):
            self.open(found.queue, found.id)

    def _select(self, task_ids: list[str], is_on: bool) -> None:
        if is_on:
            self._selected.update(task_ids)
        else:
            self._selected.difference_update(task_ids)

    def _move(self, what: str, task_ids: list[str] | None) -> None:
        if self.context.read_only or what not in _ACTIONS[self._state]:
            return
        inspector = self.context.client.inspector
        move = getattr(inspector, what)
        if task_ids is not None:
            self._said(what, move(task_ids, queue=self._queue))
        elif self._state == states.AGGREGATING:
            for group in inspector.groups(self._queue):
                self._said(what, move(**self._filter(), group=group))
        else:
            self._said(what, move(**self._filter()))
        self._begin()

    def _filter(self) -> dict[str, Any]:
        chosen: dict[str, Any] = {"queue": self._queue, "state": self._state}
        if self._type:
            chosen["type"] = self._type
        if self._error:
            chosen["error"] = self._error
        return chosen

    def _said(self, what: str, result: Any) -> None:
        said = f"{len(result):,} {_DONE[what]}"
        if getattr(result, "asked", None):
            said += f", {len(result.asked):,} running and asked to end"
        if result.refused:
            reason = next(iter(result.refused.values()))
            said += f", {len(result.refused):,} refused ({reason})"
        self.context.said = said


_TIME_OF = {
    states.SCHEDULED: "due",
    states.RETRY: "due",
    states.ARCHIVED: "failed at",
    states.COMPLETED: "completed at",
}


def _word(action: str) -> str:
    return {"run": "Run"}.get(action, action.capitalize())
