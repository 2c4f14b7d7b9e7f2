"""What the tabs of a panel have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbqueue.dashboard.paging import Paging
from nbqueue.views import html as h

if TYPE_CHECKING:
    from nbqueue.client.client import Client


@dataclass
class Context:
    """What all tabs of one panel share: whose store it is, and what may be done.

    ``queues`` are those that are shown, None for all. ``said`` is the line under the tabs that
    tells what an action did. ``changed`` has the panel drawn again.
    """

    client: Client
    read_only: bool = False
    queues: tuple[str, ...] | None = None
    said: str = ""
    changed: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def now_ms(self) -> int:
        return self.client._session.clock.now_ms()

    def queue_names(self) -> list[str]:
        """The queues that are shown, of those that exist."""
        names = self.client.inspector.queues()
        return [name for name in names if self.queues is None or name in self.queues]

    def is_shown(self, queue: str) -> bool:
        return self.queues is None or queue in self.queues


class Tab:
    """One tab. It reads the store when it is drawn, not more often than every ``rest`` seconds."""

    name = ""
    rest = 0.4

    def __init__(self, context: Context) -> None:
        self.context = context
        self._read_at = 0.0
        self._is_stale = True

    def stale(self) -> None:
        """Something happened; read anew when it is drawn next."""
        self._is_stale = True

    def html(self, live: bool) -> str:
        """What the tab shows."""
        now = time.monotonic()
        # What programs in Go do makes no event, so now and then it is read without one.
        if (self._is_stale and now - self._read_at >= self.rest) or now - self._read_at > 3.0:
            self._is_stale = False
            self.read()
            self._read_at = time.monotonic()
        shown = self.body(live and not self.context.read_only, live)
        # Names of bytes that are no UTF-8 cannot be sent to a browser as they are.
        return shown if shown.isascii() else shown.encode("utf-8", "backslashreplace").decode()

    def read(self) -> None:
        """Read from the store what `body` shows."""

    def body(self, acts: bool, live: bool) -> str:
        """The HTML. ``acts``: with buttons that change something; ``live``: with those that only
        change what is shown."""
        raise NotImplementedError

    def act(self, action: str, args: dict[str, Any]) -> None:
        """A button of the tab was pressed."""

    def _turn(self, action: str, args: dict[str, Any], paging: Paging) -> bool:
        """Turn the pages if that is what was asked for; returns whether it was."""
        if action != "page":
            return False
        paging.turn(int(args.get("by", 0)))
        self._read_at = 0.0
        return True


def pager(paging: Paging, shown: int, *, live: bool) -> str:
    """Buttons to the pages before and behind the one that is shown, with ``shown`` rows."""
    if not live or not paging.is_needed(shown):
        return ""
    is_first, is_last = paging.number == 0, not paging.has_more(shown)
    return h.row(
        h.button("‹ Before", "page", label="The page before", args={"by": -1}, disabled=is_first),
        h.button("Next ›", "page", label="The next page", args={"by": 1}, disabled=is_last),
        gap=6,
    )


def with_page(caption: str, paging: Paging, shown: int) -> str:
    """The caption of a table, which says which rows it shows unless it shows all."""
    said = paging.text(shown)
    return f"{caption}: {said}" if said else caption


def queue_choice(
    queue: str, names: Sequence[str], action: str, *, label: str, most: int = 100
) -> str:
    """A control to choose a queue: a list of ``names``, or a field if they are too many for one."""
    if len(names) <= most:
        return h.choice(queue, [(name, name) for name in names], action, label=label)
    return h.field(queue, action, label=label, placeholder="name of a queue")
