"""`Panel`: the view of a store, with its tabs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.client.inspection.unknown_names import warn_of_new_queue
from nbqueue.dashboard.tables.table_model import CsvFile
from nbqueue.errors import StoreError, UsageError
from nbqueue.names import known_names
from nbqueue.notebook.live.shown import Shown
from nbqueue.notebook.live_views import show
from nbqueue.notebook.panel.groups_tab import GroupsTab
from nbqueue.notebook.panel.history_tab import HistoryTab
from nbqueue.notebook.panel.queues_tab import QueuesTab
from nbqueue.notebook.panel.schedules_tab import SchedulesTab
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.notebook.panel.tasks_tab import TasksTab
from nbqueue.notebook.panel.timeline_tab import TimelineTab
from nbqueue.notebook.panel.workers_tab import WorkersTab
from nbqueue.notebook.view import View
from nbqueue.printable import shown
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h

if TYPE_CHECKING:
    from nbqueue.client.client import Client

log = logging.getLogger("nbqueue.notebook")

_TABS: tuple[type[Tab], ...] = (
    QueuesTab,
    TasksTab,
    GroupsTab,
    WorkersTab,
    SchedulesTab,
    TimelineTab,
    HistoryTab,
)


_MOST_LINES = 20
"""The number of queues that the text of a panel lists."""


class Panel(View):
    """A panel of one store, as returned by ``q.panel()``.

    It follows the events of the queues while it is seen, and reads only what the open tab shows.
    """

    ticks = True

    def __init__(
        self,
        client: Client,
        *,
        tab: str = "Queues",
        queues: Sequence[str] | None = None,
        read_only: bool = False,
    ) -> None:
        names = [each.name for each in _TABS]
        if tab not in names:
            raise UsageError(f"tab={shown(tab)} is no tab{known_names(tab, names)}")
        if isinstance(queues, str):
            queues = (queues,)
        if queues is not None and not (
            isinstance(queues, Iterable) and all(isinstance(each, str) for each in queues)
        ):
            raise UsageError(f"queues={shown(queues)} must be names of queues")
        with suppress(StoreError):  # the panel shows it
            for queue in queues or ():
                warn_of_new_queue(client._session, queue)
        self._shown: Shown | None = None
        self._context = Context(
            client, None if queues is None else tuple(queues), read_only, self._redraw, self._save
        )
        self._tabs = {each.name: each(self._context) for each in _TABS}
        tasks = self._tabs[TasksTab.name]
        assert isinstance(tasks, TasksTab)
        self._tasks = tasks
        self._open = tab
        self._is_closed = False
        self._stops: list[Callable[[], None]] = []
        self._followed: set[str] = set()
        self._lock = threading.Lock()

    def _ipython_display_(self) -> None:
        show(self)

    # --- Drawing -------------------------------------------------------------------------------

    @property
    def is_final(self) -> bool:
        return self._is_closed

    def lines(self) -> list[str]:
        context = self._context
        lines = [f"nbqueue at {context.client._session.store.url.place}"]
        trouble = context.client._session.events.trouble
        if trouble:
            return [*lines, f"  {trouble}"]
        try:
            names = context.queue_names()
            for info in context.client.inspector.queue_infos(names[:_MOST_LINES]):
                lines.append(
                    f"  {info.queue}: {info.pending} pending, {info.active} active, "
                    f"{info.retry} retry, {info.archived} archived, {info.completed} completed"
                )
            if len(names) > _MOST_LINES:
                lines.append(f"  … and {len(names) - _MOST_LINES:,} more queues")
        except StoreError as error:
            lines.append(f"  {error}")
        return lines

    def html(self, live: bool) -> Markup:
        with self._context.lock:
            trouble = self._context.client._session.events.trouble
            # A read from a store that is away would take long, and every view waits for this one.
            inside = h.problem(trouble) if trouble else self._inside(live)
            inside = h.keyed(f"tab {self._open}", inside)
            if live and not trouble:
                self._follow_new_queues()
            parts = (self._head(live), self._message(), inside, self._foot(live))
            return h.card(*parts, label="nbqueue", wide=True)

    def _inside(self, live: bool) -> Markup:
        try:
            return self._tabs[self._open].html(live)
        except StoreError as error:
            return h.problem(str(error))
        except Exception as error:
            # Another tab, or the next drawing, may work.
            log.exception("a tab of the panel could not be drawn")
            return h.problem(f"{type(error).__name__}: {error}")

    def _head(self, live: bool) -> Markup:
        context = self._context
        title = h.row(
            h.strong("nbqueue"),
            h.pale(context.client._session.store.url.place),
            h.pale("read only") if context.read_only else "",
        )
        if not live:
            return title
        tabs = [
            controls.tab_button(name, is_open=name == self._open, edge=fmt.BUSY)
            for name in self._tabs
        ]
        style = (
            f"display:flex;flex-wrap:wrap;gap:2px;margin:6px 0;border-bottom:1px solid {fmt.LINE}"
        )
        return title + h.element("div", *tabs, role="tablist", aria_label="nbqueue", style=style)

    def _message(self) -> Markup:
        if not self._context.message:
            return h.NOTHING
        message = h.pale(self._context.message)
        return h.element("div", message, role="status", style="margin:4px 0")

    def _foot(self, live: bool) -> Markup:
        now = fmt.zoned_time(self._context.now_ms)
        if not live:
            return h.row(h.pale(f"as of {now} ·"), h.code("q.panel()") + h.pale(" shows it live"))
        return h.row(
            controls.button("Close", "close", label="Close the panel, and keep what it shows")
        )

    # --- Acting --------------------------------------------------------------------------------

    def act(self, action: str, args: dict[str, Any]) -> None:
        with self._context.lock:
            self._context.message = ""
            if action == "tab":
                self._go_to(str(args.get("name")))
            elif action == "close":
                self._is_closed = True
            elif action == "queue":
                self._tasks.look_at(str(args["queue"]), str(args.get("state", "pending")))
                self._go_to(TasksTab.name)
            elif action == "task":
                self._tasks.open(str(args["queue"]), str(args["id"]))
                self._go_to(TasksTab.name)
            else:
                self._tabs[self._open].act(action, args)
            self._tabs[self._open].refresh()

    def _go_to(self, name: str) -> None:
        if name in self._tabs:
            self._open = name

    # --- Following -----------------------------------------------------------------------------

    def _redraw(self) -> None:
        if self._shown is not None:
            self._shown.changed()

    def _save(self, file: CsvFile) -> None:
        if self._shown is not None:
            self._shown.send_file(file.name, file.text)

    def began(self, shown: Shown) -> None:
        self._shown = shown
        self._follow_new_queues()

    def _follow_new_queues(self) -> None:
        shown = self._shown
        if shown is None:
            return
        try:
            names = self._context.queue_names()
        except StoreError:
            return

        def on_event(happened: object) -> None:
            self._tabs[self._open].stale()
            shown.changed()

        with self._lock:
            for name in names:
                if name not in self._followed:
                    self._followed.add(name)
                    follow = self._context.client._session.events.follow
                    self._stops.append(follow(name, on_event))

    def ended(self, shown: Shown) -> None:
        self._shown = None
        self._stop_following()

    def is_seen(self, seen: bool) -> None:
        if not seen:
            self._stop_following()

    def _stop_following(self) -> None:
        with self._lock:
            stops, self._stops = self._stops, []
            self._followed.clear()
        for stop in stops:
            stop()
