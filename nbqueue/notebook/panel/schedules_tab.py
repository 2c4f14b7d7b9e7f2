"""The tab of the schedules: their rules, next and last runs, and history."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.clock import to_ms
from nbqueue.cron import shown_zone
from nbqueue.dashboard.paging import Paging
from nbqueue.errors import NbqueueError
from nbqueue.notebook.panel.tab import Context, Tab, pager, task_name, with_page
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h

if TYPE_CHECKING:
    from nbqueue.client.schedules.schedule import Schedule

_HISTORY = 20


class SchedulesTab(Tab):
    """The schedules, a page at a time, and the history of one."""

    name = "Schedules"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._rows: list[dict[str, Any]] = []
        self._handles: list[Schedule] = []
        self._open: tuple[str, str] | None = None
        self._history: list[dict[str, Any]] = []
        self._paging = Paging()

    def read(self) -> None:
        found = self.context.client.inspector.schedules()
        pairs = [
            (handle, row)
            for handle, row in zip(found, found.rows(), strict=True)
            if self.context.includes(handle.queue)
        ]
        pairs = self._paging.of(pairs)
        self._handles = [handle for handle, _ in pairs]
        self._rows = [row for _, row in pairs]
        handle = self._opened()
        self._history = []
        if handle is not None:
            try:
                self._history = handle.history(_HISTORY)
            except NbqueueError as error:
                self.context.message = str(error)

    def _opened(self) -> Schedule | None:
        return self._handle(*self._open) if self._open is not None else None

    def _handle(self, queue: str, schedule_id: str) -> Schedule | None:
        for handle in self._handles:
            if (handle.queue, handle.id) == (queue, schedule_id):
                return handle
        return None

    def body(self, acts: bool, live: bool) -> Markup:
        rows = [
            self._row(handle, row, acts, live)
            for handle, row in zip(self._handles, self._rows, strict=True)
        ]
        heads = ["schedule", "", "when", "type", "queue", "next", "last"]
        heads += [""] if acts else []
        caption = fmt.count(self._paging.total or 0, "schedule")
        caption = with_page(caption, self._paging, len(rows))
        if not rows:
            return h.row(
                h.pale("no schedules:"),
                h.code('q.schedule(fn, "@hourly")') + h.pale(" makes one"),
                gap=4,
            )
        pages = pager(self._paging, len(rows), live=live)
        return h.table(heads, rows, caption=caption) + pages + self._history_table(live)

    def _row(
        self, handle: Schedule, row: dict[str, Any], acts: bool, live: bool
    ) -> list[h.Content]:
        now = self.context.now_ms
        place = {"queue": handle.queue, "id": handle.id}
        name = (
            controls.link(handle.id, "open", label=f"Show the history of {handle.id}", args=place)
            if live
            else h.strong(handle.id)
        )
        when = h.code(row["spec"] or "?")
        if acts and row["spec"]:
            label = f"When {handle.id} runs"
            when = controls.field(row["spec"], "spec", label=label, width=120, args=place)
        if (row.get("tz") or "UTC") != "UTC":
            when = h.join([when, h.pale(str(row["tz"]))], " ")
        cells: list[h.Content] = [
            name,
            h.titled("cannot be read", row["fault"])
            if row.get("fault")
            else h.badge("paused" if row.get("paused") else "running"),
            when,
            fmt.shortened(str(row.get("type") or ""), 40),
            handle.queue,
            self._next(row, now),
            h.time(_ms(row.get("prev_at")), now),
        ]
        if acts:
            cells += [self._buttons(handle, bool(row.get("paused")), place)]
        return cells

    @staticmethod
    def _next(row: dict[str, Any], now: int) -> Markup:
        at = row.get("next_at")
        if at is None:
            return h.pale("never")
        left = (to_ms(at) - now) / 1000
        moment = fmt.zoned_time(to_ms(at), shown_zone(row.get("spec"), row.get("tz")))
        return h.unbroken(h.titled(fmt.ago(-left) if left > 0 else "now", moment))

    @staticmethod
    def _buttons(handle: Schedule, is_paused: bool, place: dict[str, str]) -> Markup:
        word = "Resume" if is_paused else "Pause"
        return h.row(
            controls.button("Run now", "run", label=f"Run {handle.id} now", args=place),
            controls.button(word, word.lower(), label=f"{word} {handle.id}", args=place),
            controls.button(
                "Remove",
                "remove",
                label=f"Remove {handle.id}",
                args=place,
                ask="Remove 1 schedule?",
            ),
            gap=4,
            wraps=False,
        )

    def _history_table(self, live: bool) -> Markup:
        if self._open is None:
            return h.NOTHING
        now = self.context.now_ms
        rows = []
        for each in self._history:
            task = h.pale("–")
            if each["task_id"]:
                task = task_name(self._open[0], each["task_id"], live=live)
            outcome = "completed" if each["outcome"] == "enqueued" else "waiting"
            rows.append(
                [
                    h.time(_ms(each["due"] or each["at"]), now),
                    f"{fmt.badge(outcome).glyph} {each['outcome']}",
                    task,
                    each["detail"] or "",
                ]
            )
        caption = f"What became of {self._open[1]}, newest first"
        return h.table(["for", "", "task", "why"], rows, caption=caption)

    def act(self, action: str, args: dict[str, Any]) -> None:
        place = str(args.get("queue")), str(args.get("id"))
        if self._turn(action, args, self._paging):
            self._open = None
            return
        if action == "open":
            self._open = None if self._open == place else place
            return
        handle = self._handle(*place)
        if self.context.read_only or handle is None:
            return
        try:
            self.context.message = self._apply(handle, action, args)
        except NbqueueError as error:
            self.context.message = str(error)

    def _apply(self, handle: Schedule, action: str, args: dict[str, Any]) -> str:
        if action == "run":
            return f"{handle.id} runs now, as task {handle.run_now().id}"
        if action == "pause":
            handle.pause()
            return f"{handle.id} is paused: its times pass, and nothing runs"
        if action == "resume":
            handle.resume()
            return f"{handle.id} goes on"
        if action == "spec":
            handle.update(spec=str(args.get("value", "")).strip())
            return f"{handle.id} runs at {handle.spec} from now on"
        if action == "remove":
            handle.remove()
            return f"{handle.id} is removed; its tasks go on"
        return ""


def _ms(at: datetime | None) -> int | None:
    return to_ms(at) if at is not None else None
