"""The card of a task group: one progress bar for all its tasks."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from nbqueue.client.live.member_states import MemberStates
from nbqueue.client.obstacles.obstacle_watch import Found
from nbqueue.client.results.failed_calls import error_kinds
from nbqueue.errors import StoreError, UsageError
from nbqueue.notebook.view import View
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h
from nbqueue.views.failed_call import ErrorKind, error_kind_parts
from nbqueue.views.notices import notices_html, notices_text
from nbqueue.wire import states

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.futures.wait import WaitSet
    from nbqueue.client.inspection.task_filter import BulkResult
    from nbqueue.client.live.event_stream import Happened
    from nbqueue.notebook.live.shown import Shown

_LEFT = (states.ACTIVE, states.PENDING, states.RETRY, states.SCHEDULED)
_MOST_ERRORS = 3
_MOST_FAILURES = 200
"""The number of failed tasks whose errors are compared: the first ones."""
_RATE_SECONDS = 10.0


class Speed:
    """The growth of a count per second, over the last seconds only."""

    def __init__(self, seconds: float = _RATE_SECONDS) -> None:
        self._seconds = seconds
        self._points: deque[tuple[float, int]] = deque()

    def add(self, now: float, count: int) -> None:
        """Note the count at a time in seconds."""
        points = self._points
        if not points or points[-1][1] != count or now - points[-1][0] >= 1.0:
            points.append((now, count))
        while len(points) > 2 and points[1][0] < now - self._seconds:
            points.popleft()

    def per_second(self, now: float) -> float | None:
        """Return the growth per second, or None before there is any."""
        if not self._points:
            return None
        began, first = self._points[0]
        gained = self._points[-1][1] - first
        return gained / (now - began) if gained > 0 and now > began else None


def _closed(left: int) -> str:
    return f"the client was closed: {fmt.count(left, 'task')} went on, and can be found again"


class GroupCard(View):
    """The states of a group's tasks, their speed, and the first errors."""

    ticks = True

    def __init__(self, group: TaskGroup[Any] | WaitSet) -> None:
        self._group = self.subject = group
        self._session = group._session
        # Handles that are waited for together are no group in the store.
        self._retry: Callable[[], BulkResult] | None = getattr(group, "retry", None)
        self._lock = threading.Lock()
        # The group itself counts the tasks that have ended.
        self._states = MemberStates(group._has_ended)
        self._must_read = True
        self._speed = Speed()
        self._began = time.monotonic()
        self._errors: list[ErrorKind] = []
        self._errors_seen = 0
        self._stops: list[Callable[[], None]] = []
        self._shown: Shown | None = None
        self._obstacles = self._session.obstacles.look(group._sample()) if group._sample() else ()

    @property
    def is_final(self) -> bool:
        return self._group.done()

    @property
    def acts_at_end(self) -> bool:
        can_retry = self._retry is not None and self._group.counts().failed > 0
        return self._group.done() and can_retry

    @property
    def title(self) -> str:
        return self._group.name or self._group.type

    def end_notice(self) -> tuple[str, str]:
        state = self._state()
        return f"{fmt.badge(state).glyph} {self.title} {state}", self.lines()[0]

    def lines(self) -> list[str]:
        self._read()
        counts = self._group.counts()
        state = self._state()
        parts = [fmt.badge_text(state), self.title, f"{counts.done:,} of {counts.total:,}"]
        for word in ("failed", "cancelled", "gone"):
            if count := getattr(counts, word):
                parts.append(f"{count:,} {word}")
        parts.append(fmt.span(self._elapsed()))
        closed = [_closed(left)] if (left := self._left_by_closing()) else []
        return ["  ".join(parts), *closed, *notices_text(self._why())]

    def html(self, live: bool) -> Markup:
        self._read()
        counts = self._group.counts()
        now = time.monotonic()
        with self._lock:  # the end of a cell draws in another thread
            self._speed.add(now, counts.done)
            tally = self._states.counts(counts.total - counts.done)
        parts = [
            ("completed", counts.completed),
            ("failed", counts.failed),
            ("cancelled", counts.cancelled),
            ("gone", counts.gone),
        ]
        shown = [
            self._head(counts.total),
            h.stacked_bar(parts, counts.total, label=f"{self.title}: tasks ended", height=10),
            h.row(*self._facts(counts, tally, now)),
            *self._error_parts(counts.failed),
        ]
        shown += notices_html(self._why())
        if left := self._left_by_closing():
            shown.append(h.row(h.pale(_closed(left))))
        trouble = self._session.events.trouble
        if trouble and not self._group.done():
            shown.append(h.problem(trouble))
        if live:
            shown.append(self._buttons(counts.total - counts.done, counts.failed))
            tenth = 10 * (counts.done * 10 // max(counts.total, 1))
            shown.append(h.announcement(f"{self.title}: {tenth} percent done"))
        if not live or self._group.done():
            shown.append(self._foot())
        return h.card(*shown, label=f"task group {self.title}")

    def _why(self) -> Found:
        return () if self._group.done() else self._obstacles

    def _left_by_closing(self) -> int:
        """Return how many tasks had not ended when the client was closed."""
        counts = self._group.counts()
        return counts.total - counts.done if self._group.done() else 0

    def _state(self) -> str:
        counts = self._group.counts()
        if self._left_by_closing():
            return "closed"
        if counts.done < counts.total:
            return "running" if counts.done or self._states.has_begun else states.PENDING
        if counts.failed:
            return "failed"
        if counts.cancelled:
            return "cancelled"
        return "deleted" if counts.gone and not counts.completed else states.COMPLETED

    def _head(self, total: int) -> Markup:
        facts = [h.badge(self._state()), h.strong(self.title), fmt.count(total, "task")]
        if self._group.queue != "default":
            facts.append(h.fact("queue", self._group.queue))
        facts.append(h.fact("took" if self._group.done() else "for", fmt.span(self._elapsed())))
        return h.row(*facts)

    def _facts(self, counts: Any, tally: Counter[str], now: float) -> list[Markup]:
        share = 100 * counts.done // max(counts.total, 1)
        facts = [h.strong(f"{counts.done:,} of {counts.total:,} ({share}%)")]
        for count, word in (
            (counts.completed, "completed"),
            (counts.failed, "failed"),
            (counts.cancelled, "cancelled"),
            (counts.gone, "gone"),
            *((tally[state], state) for state in _LEFT),
        ):
            if count:
                facts.append(h.fact(word, f"{count:,}"))
        speed = self._speed.per_second(now)
        if speed and counts.done < counts.total:
            facts.append(h.pale(fmt.rate(speed)))
            facts.append(h.pale(f"{fmt.span((counts.total - counts.done) / speed)} left"))
        return facts

    def _error_parts(self, failed: int) -> list[Markup]:
        self._find_errors(failed)
        parts = [part for kind in self._errors for part in error_kind_parts(kind)]
        rest = failed - sum(kind.total for kind in self._errors)
        if rest > 0 and parts:
            parts.append(h.row(h.pale(f"and {rest:,} more that failed")))
        return parts

    def _foot(self) -> Markup:
        """Return how to get the group back, for a card that is saved."""
        is_done, parts = self._group.done(), []
        if not is_done:
            parts.append(h.pale(f"as of {fmt.zoned_time(self._session.clock.now_ms())} ·"))
        group_id = getattr(self._group, "id", None)
        if group_id is not None:  # others are waited for together by chance
            call = f"q.group({self._group.name or group_id!r})"
            parts.append(h.code(call) + h.pale(" finds it again" if is_done else " shows it live"))
        return h.row(*parts, gap=4)

    def _buttons(self, left: int, failed: int) -> Markup:
        buttons = []
        if left:
            label, ask = f"Cancel what has not ended of {self.title}", fmt.count(left, "task")
            buttons.append(
                controls.button("Cancel the rest", "cancel", label=label, ask=f"Cancel {ask}?")
            )
            buttons.append(controls.bell_button(f"Notify me when {self.title} has ended"))
        if failed and self._retry is not None:
            label = f"Run what failed of {self.title} again"
            buttons.append(controls.button("Retry failed", "retry", label=label))
        return h.row(*buttons, gap=6)

    def _elapsed(self) -> float:
        group = self._group
        end_ms = group._end_time_ms() if group.done() else self._session.clock.now_ms()
        return max(0, end_ms - group._begun_ms) / 1000

    def _find_errors(self, failed: int) -> None:
        if failed < self._errors_seen:  # they were run again
            self._errors, self._errors_seen = [], 0
        if self._errors_seen >= min(failed, _MOST_FAILURES):
            return
        tasks = self._group._failed_tasks(_MOST_FAILURES)
        self._errors_seen = len(tasks)
        self._errors = error_kinds(self._session, tasks, _MOST_ERRORS)

    # --- Following -----------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the states of all tasks that have not ended, once: then events change them."""
        if self._session.events.trouble:
            return  # a read would take long now, and every view waits for this one
        with self._lock:
            must_read, self._must_read = self._must_read, False
        if not must_read:
            return
        seen: dict[str, str] = {}
        try:
            for queue, left in self._group._unended_by_queue().items():
                found = self._session.broker.states(queue, left)
                seen.update((i, state) for i, state in zip(left, found, strict=True) if state)
        except StoreError:
            return
        with self._lock:
            self._states.read(seen)

    def began(self, shown: Shown) -> None:
        for queue in self._group._unended_by_queue():
            self._follow(shown, queue)
        if self._shown is None:
            self._group.on_progress(lambda group: shown.changed())
        self._shown = shown

        def on_obstacles(found: Found) -> None:
            self._obstacles = found
            shown.changed()

        self._stops.append(self._session.obstacles.follow(self._group._sample, on_obstacles))

    def _follow(self, shown: Shown, queue: str) -> None:
        holds = self._group._holds

        def on_event(happened: Happened) -> None:
            mine = [task_id for task_id in happened.ids if holds(queue, task_id)]
            if happened.event and not mine:
                return
            with self._lock:
                self._must_read = self._must_read or not happened.event
                self._states.note(happened.event, mine)
            shown.changed()

        self._stops.append(self._session.events.follow(queue, on_event))

    def ended(self, shown: Shown) -> None:
        for stop in self._stops:
            stop()
        self._stops.clear()

    def act(self, action: str, args: dict[str, Any]) -> None:
        if action == "cancel":
            self._group.cancel()
        elif action == "retry" and self._retry is not None:
            refused = self._retry().refused
            self._errors, self._errors_seen = [], 0
            self._must_read = True
            if refused:
                reason = next(iter(refused.values()))
                raise UsageError(f"{fmt.count(len(refused), 'task')} cannot run again: {reason}")
