"""The card of one task, shown for a future at the end of a cell."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.client.inspection.bulk_actions import BulkActions
from nbqueue.client.live.task_feed import News, follow
from nbqueue.client.live.task_snapshot import Snapshot, read_snapshot
from nbqueue.client.obstacles.obstacle_watch import Found
from nbqueue.client.results.failed_calls import FailedTask, failed_call
from nbqueue.client.results.shown_result import shown_result
from nbqueue.clock import Clock
from nbqueue.errors import NbqueueError, StoreError, UsageError
from nbqueue.notebook.replay_here import replay_here
from nbqueue.notebook.view import View
from nbqueue.tasks.result_preview import ResultPreview
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.ansi import without_colours
from nbqueue.views.failed_call import FailedCall, failure_parts, failure_text
from nbqueue.views.notices import notices_html, notices_text
from nbqueue.views.output_lines import OutputLines, output_box
from nbqueue.views.progress_bar import bars_html, bars_text
from nbqueue.views.result_parts import result_parts
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.live.event_stream import Happened
    from nbqueue.notebook.live.shown import Shown


class FutureCard(View):
    """The state, progress, worker and result of a task, with buttons to act on it."""

    ticks = True

    def __init__(self, future: TaskFuture[Any]) -> None:
        self._session = future._attached()
        self._clock: Clock = self._session.clock
        self._lock = threading.Lock()
        self._shows_output = False
        self._stops: list[Callable[[], None]] = []
        self._show(future)

    def _show(self, future: TaskFuture[Any]) -> None:
        """Show this run of the task."""
        self._future = self.subject = future
        self._snapshot: Snapshot | None = None
        self._is_stale = True
        self._output = OutputLines()
        self._note = ""
        self._shown_result: ResultPreview | None = None
        self._obstacles = future._obstacles()
        self._failed: FailedCall | None = None
        self._replayed = ""
        self._read()
        if future.done():
            self._read_output()

    def end_notice(self) -> tuple[str, str]:
        text = self._error() or (self._result().summary if self.state == states.COMPLETED else "")
        glyph = fmt.badge(self.state).glyph
        return f"{glyph} {self.title} {self.state}", fmt.shortened(text, 200)

    # --- Drawing -------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        future = self._future
        if future.done():
            return fmt.CANCELLED_TASK if future.cancelled() else future.state
        return self._snapshot.state if self._snapshot is not None else future.state

    @property
    def is_final(self) -> bool:
        return self._future.done()

    @property
    def acts_at_end(self) -> bool:
        return self._future.done() and self.state == states.ARCHIVED

    @property
    def title(self) -> str:
        return self._future.name or self._future.type

    def lines(self) -> list[str]:
        parts = [fmt.badge_text(self.state), self.title]
        spent = self._spent()
        if spent is not None:
            parts.append(fmt.span(spent))
        error = self._error()
        if error:
            parts.append(fmt.shortened(error, 100))
        elif self._future.done() and self._future.state == states.COMPLETED:
            parts.append(f"→ {self._result().summary}")
        else:
            due_ms = self._snapshot.due_ms if self._snapshot is not None else None
            if due_ms is not None and not self._future.done():
                parts.append(f"due {fmt.due(due_ms, self._now())}")
            parts += bars_text(self._progress())
        line = "  ".join(parts) + f"  (id {self._future.id})"
        return [line, *notices_text(self._why())]

    def html(self, live: bool) -> Markup:
        self._refresh()
        parts = [self._head()]
        parts += self._progress_parts()
        error = self._error()
        if error:
            parts += self._failure_parts(error)
        elif self._future.done() and self._future.state == states.COMPLETED:
            parts += result_parts(self._result())
        parts += notices_html(self._why())
        parts.append(self._output_part(live))
        trouble = self._session.events.trouble
        if trouble and not self._future.done():
            parts.append(h.problem(trouble))
        if live:
            parts.append(self._buttons())
            if self._replayed:
                parts.append(h.element("div", self._replayed, role="status"))
            parts.append(h.announcement(f"{self.title} is {self.state}"))
        parts.append(self._foot(live))
        return h.card(*parts, label=f"task {self.title}")

    def _head(self) -> Markup:
        future, snapshot = self._future, self._snapshot
        facts = [h.badge(self.state), h.strong(self.title)]
        if future.queue != "default":
            facts.append(h.fact("queue", future.queue))
        if snapshot is not None:
            if snapshot.attempt > 1 or (snapshot.attempt and snapshot.max_retry):
                facts.append(h.fact("attempt", f"{snapshot.attempt}"))
            if snapshot.retried:
                facts.append(h.fact("retries", f"{snapshot.retried} of {snapshot.max_retry}"))
            if snapshot.due_ms is not None and not future.done():
                left = (snapshot.due_ms - self._now()) / 1000
                facts.append(h.fact("due", fmt.ago(-left) if left > 0 else "now"))
                if left > 0:
                    facts.append(h.fact("at", h.time(snapshot.due_ms, self._now())))
        spent = self._spent()
        if spent is not None:
            name = "took" if future.done() else "for"
            facts.append(h.fact(name, fmt.span(spent)))
        if snapshot is not None and snapshot.started_ms:
            facts.append(h.fact("began", h.time(snapshot.started_ms, self._now())))
        if snapshot is not None and snapshot.worker:
            facts.append(h.pale(f"on {snapshot.worker.rpartition(':')[0]}", snapshot.worker))
        return h.row(*facts)

    def _progress_parts(self) -> list[Markup]:
        progress = self._progress()
        if progress and not (self._future.done() and self._future.state == states.COMPLETED):
            return [bars_html(progress, end=self.state if self._future.done() else "")]
        return []

    def _failure_parts(self, error: str) -> list[Markup]:
        future = self._future
        if not future.done():
            return [h.problem(error)]
        if self._failed is None:
            raised = future.exception(0)
            if raised is None:
                return [h.problem(error)]
            task = FailedTask(self.title, future.queue, future.id, raised)
            self._failed = failed_call(self._session, task)
        return failure_parts(self._failed)

    def _output_part(self, live: bool) -> Markup:
        """Return the last line of its output, or all of it if that was asked for."""
        with self._lock:
            first, lines = self._output.first, [*self._output.lines]
        if not lines:
            return h.NOTHING
        is_ended = self._future.done()
        if live and self._shows_output and not is_ended:
            return output_box(first, lines)
        if (live and not is_ended) or len(lines) == 1:
            return h.row(h.fact("printed", h.code(fmt.shortened(without_colours(lines[-1]), 110))))
        return h.folded("Output", output_box(first, lines))

    def _buttons(self) -> Markup:
        if self._future.done():
            return self._end_buttons() if self.acts_at_end else h.NOTHING
        title, state = self.title, self.state
        buttons = [
            controls.button("Cancel", "cancel", label=f"Cancel {title}", ask="Cancel 1 task?")
        ]
        if state in (states.SCHEDULED, states.RETRY):
            word = "Retry now" if state == states.RETRY else "Run now"
            buttons.append(controls.button(word, "run", label=f"{word}: {title}"))
        buttons.append(controls.bell_button(f"Notify me when {title} has ended"))
        word = "Hide output" if self._shows_output else "Output"
        buttons.append(controls.button(word, "logs", label=f"{word} of {title}"))
        return h.row(*buttons, gap=6)

    def _end_buttons(self) -> Markup:
        title = self.title
        buttons = [controls.button("Retry", "retry", label=f"Run {title} again")]
        if self._failed is not None:
            if self._future._facts.is_call:
                label = f"Run {self._failed.call or title} in this notebook"
                buttons.append(controls.button("Replay here", "replay", label=label))
            text = failure_text(self._failed)
            buttons.append(controls.copy_button("Copy", text, label="Copy call and error"))
        return h.row(*buttons, gap=6)

    def _foot(self, live: bool) -> Markup:
        future = self._future
        if live:
            return h.row(h.pale(f"id {future.id}"), h.pale(self._note))
        if future.done() and self.state == states.ARCHIVED:
            again = h.code(f'q.retry("{future.id}")') + h.pale(" runs it again, ")
            here = h.code(f'q.get("{future.id}").replay()') + h.pale(" runs it here")
            return h.row(h.pale(f"id {future.id} ·"), again + here, gap=4)
        if future.done():
            return h.row(h.pale(f"id {future.id}"), h.pale(self._note))
        return h.row(
            h.pale(f"as of {fmt.zoned_time(self._now())} ·"),
            h.code(f'q.get("{future.id}")') + h.pale(" shows it live"),
            gap=4,
        )

    def _spent(self) -> float | None:
        snapshot = self._snapshot
        if snapshot is None or snapshot.started_ms is None:
            return None
        end = snapshot.finished_ms if self._future.done() else self._now()
        if end is None or (not self._future.done() and snapshot.state != states.ACTIVE):
            return None
        return max(0.0, (end - snapshot.started_ms) / 1000)

    def _progress(self) -> dict[str, Any]:
        return self._snapshot.progress if self._snapshot is not None else {}

    def _why(self) -> Found:
        """Return why the task does not run, unless it has begun."""
        return () if self._future.done() or self._is_at_work() else self._obstacles

    def _is_at_work(self) -> bool:
        has_worker = all(each.kind not in ("silent", "no_worker") for each in self._obstacles)
        return self.state == states.ACTIVE and has_worker

    def _error(self) -> str:
        if self._future.done() and self.state in (states.COMPLETED, fmt.CANCELLED_TASK):
            return ""  # the badge shows it
        if not self._future.done() and any(each.kind == "requirement" for each in self._obstacles):
            return ""  # a notice says what it needs
        return self._snapshot.error if self._snapshot is not None else ""

    def _result(self) -> ResultPreview:
        """Return what is shown of the result; a dash while the store is away."""
        outcome = self._future._outcome
        if self._shown_result is None and outcome is not None and not self._session.events.trouble:
            future, size = self._future, outcome.unread_bytes
            try:
                self._shown_result = shown_result(
                    self._session, future.queue, future.id, outcome, size
                )
            except StoreError as error:
                self._note = str(error)
        return self._shown_result or ResultPreview("–")

    def _now(self) -> int:
        return self._clock.now_ms()

    # --- Following -----------------------------------------------------------------------------

    def _read(self) -> None:
        try:
            snapshot = read_snapshot(self._session, self._future.queue, self._future.id)
        except StoreError as error:
            self._note = str(error)
            return
        self._note = ""
        if snapshot is not None:
            self._snapshot = snapshot
        elif self._snapshot is not None:
            self._snapshot = self._snapshot._replace(finished_ms=self._now())

    def _read_output(self) -> None:
        """Read all output of a task that has ended."""
        try:
            for part in self._future.output().parts:
                self._output.add(part.kind, part.text)
        except NbqueueError as error:
            self._note = str(error)

    def _refresh(self) -> None:
        if self._session.events.trouble:
            return  # a read would take long now, and every view waits for this one
        with self._lock:
            is_stale, self._is_stale = self._is_stale, False
        if is_stale:
            self._read()

    def began(self, shown: Shown) -> None:
        def on_event(happened: Happened) -> None:
            if not happened.event or self._future.id in happened.ids:
                with self._lock:
                    self._is_stale = True
                shown.changed()

        def on_news(news: News) -> None:
            with self._lock:
                for entry in news.entries:
                    if entry.kind in ("stdout", "stderr"):
                        self._output.add(entry.kind, entry.data.decode("utf-8", "replace"))
                self._is_stale = self._is_stale or news.progress is not None
            shown.changed()

        def on_obstacles(found: Found) -> None:
            self._obstacles = found
            shown.changed()

        future = self._future
        self._stops.append(self._session.obstacles.follow(future._sample, on_obstacles))
        self._stops.append(follow(self._session, future.queue, future.id, on_news))
        self._stops.append(self._session.events.follow(self._future.queue, on_event))
        self._future.add_done_callback(lambda future: self._ended_now(shown))

    def _ended_now(self, shown: Shown) -> None:
        with self._lock:
            self._is_stale = True
        shown.changed()

    def ended(self, shown: Shown) -> None:
        for stop in self._stops:
            stop()
        self._stops.clear()

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "cancel":
            self._future.cancel()
        elif action == "run":
            BulkActions(self._session).run(self._future)
        elif action == "logs":
            self._shows_output = not self._shows_output
        elif action == "retry":
            self._retry()
        elif action == "replay":
            self._replayed = ""
            self._replayed = replay_here(self._future)

    def _retry(self) -> None:
        """Run the task again, and show its new run. Raises `UsageError` if it cannot run again."""
        future = self._future
        refused = BulkActions(self._session).retry(future).refused
        if refused:
            raise UsageError(f"task {future.id} cannot run again: {refused[future.id]}")
        self._show(future._next_run())
