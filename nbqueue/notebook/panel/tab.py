"""`Tab`: the base class of the tabs of a panel, and what they share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.paging import Paging
from nbqueue.dashboard.scope import Scope
from nbqueue.views import controls
from nbqueue.views import html as h


@dataclass
class Context(Scope):
    """The store of a panel, its options, and its line of messages.

    ``redraw`` has the panel drawn again, and ``message`` is the result of the last action.
    """

    read_only: bool = False
    redraw: Callable[[], None] = lambda: None
    message: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)


class Tab:
    """One tab. It reads the store when it is drawn, at most every ``rest`` seconds."""

    name = ""
    rest = 0.4

    def __init__(self, context: Context) -> None:
        self.context = context
        self._read_at = 0.0
        self._is_stale = True

    def stale(self) -> None:
        """Read again when it is next drawn, after the rest."""
        self._is_stale = True

    def refresh(self) -> None:
        """Read again when it is next drawn, whenever that is."""
        self._is_stale = True
        self._read_at = 0.0

    def html(self, live: bool) -> Markup:
        """Return the tab, with data that is as fresh as the rest allows."""
        now = time.monotonic()
        # Programs in Go write no events, so it is read now and then without one.
        if (self._is_stale and now - self._read_at >= self.rest) or now - self._read_at > 3.0:
            self._is_stale = False
            self.read()
            self._read_at = time.monotonic()
        return self.body(live and not self.context.read_only, live)

    def read(self) -> None:
        """Read what `body` shows from the store."""

    def body(self, acts: bool, live: bool) -> Markup:
        """Return the HTML of what was read.

        ``acts``: with buttons that change tasks. ``live``: with buttons that change the view.
        """
        raise NotImplementedError

    def act(self, action: str, args: dict[str, Any]) -> None:
        """Do what a button of the tab asks for."""

    def _turn(self, action: str, args: dict[str, Any], paging: Paging) -> bool:
        """Turn the page if that is the action, and return whether it is."""
        if action != "page":
            return False
        paging.turn(int(args.get("by", 0)))
        self.refresh()
        return True


def pager(paging: Paging, shown: int, *, live: bool) -> Markup:
    """Return buttons to the pages around the current one, which has ``shown`` rows."""
    if not live or not paging.is_needed(shown):
        return h.NOTHING
    is_first, is_last = paging.number == 0, not paging.has_more(shown)
    back = controls.button(
        "‹ Before", "page", label="The page before", args={"by": -1}, disabled=is_first
    )
    forward = controls.button(
        "Next ›", "page", label="The next page", args={"by": 1}, disabled=is_last
    )
    return h.row(back, forward, gap=6)


def with_page(caption: str, paging: Paging, shown: int) -> str:
    """Return the caption of a table, with the range of rows unless all are shown."""
    rows = paging.text(shown)
    return f"{caption}: {rows}" if rows else caption


def queue_choice(
    queue: str, names: Sequence[str], action: str, *, label: str, most: int = 100
) -> Markup:
    """Return a control to choose a queue.

    A list, or a field if there are too many names.
    """
    if len(names) <= most:
        return controls.choice(queue, [(name, name) for name in names], action, label=label)
    return controls.field(queue, action, label=label, placeholder="name of a queue")


def task_name(queue: str, task_id: str, *, live: bool) -> Markup:
    """Return the id of a task: a link to the task in a live panel."""
    if not live:
        return h.code(task_id)
    place = {"queue": queue, "id": task_id}
    return controls.link(task_id, "task", label=f"Show the task {task_id}", args=place)
