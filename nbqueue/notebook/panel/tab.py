"""What the tabs of a panel have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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


def pager(first: int, shown: int, total: int | None, *, size: int, live: bool) -> str:
    """Buttons to the pages before and behind this one."""
    if not live or (first == 0 and (total is None or total <= size) and shown < size):
        return ""
    has_more = shown == size if total is None else first + shown < total
    return h.row(
        h.button("‹ Before", "page", label="The page before", args={"by": -1}, disabled=first == 0),
        h.button("Next ›", "page", label="The next page", args={"by": 1}, disabled=not has_more),
        gap=6,
    )
