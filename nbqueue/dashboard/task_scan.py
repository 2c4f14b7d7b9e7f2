"""`TaskScan`: looks through many tasks in a thread, and keeps those that match a filter."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nbqueue.broker.reads.list_tasks import Listing, Wanted
from nbqueue.broker.reads.task_table import TaskRow
from nbqueue.dashboard.task_line import TaskLine, line_of_row
from nbqueue.errors import StoreError

if TYPE_CHECKING:
    from nbqueue.broker.broker import Broker

MOST_KEPT = 10_000
"""The greatest number of matching tasks that are kept; others are only counted."""

_REST_FACTOR = 30
"""A scan is repeated after this many times the time it took: 3% of a core at most."""

_IDLE_FACTOR = 60
_IDLE_SECONDS = 3.0
"""The rests of a scan if no event said that a task changed. Programs in Go write no events."""


class Place(NamedTuple):
    """The tasks of a queue in one state."""

    queue: str
    state: str


class Found(NamedTuple):
    """The result of a scan so far."""

    lines: list[TaskLine]
    """The first matching tasks, in the order in which they were read."""
    matching: int
    looked_at: int
    total: int
    """The number of tasks to look at, as of the beginning."""
    is_done: bool
    at_ms: int
    """The time, in Unix milliseconds, when the scan began."""
    is_partial: bool
    """True if it ended before all tasks were looked at."""
    fault: str

    @property
    def is_cut(self) -> bool:
        """True if more tasks match than were kept, or if not all were looked at."""
        return self.matching > len(self.lines) or self.is_partial


class TaskScan:
    """Repeated scans of the same places with the same filter, at a bounded cost.

    The first scan runs at full speed in a thread, and shows its progress. Its result is kept;
    scans that repeat it rest so long that they take about 3% of a core.
    """

    def __init__(
        self,
        broker: Broker,
        places: Sequence[Place],
        wanted: Wanted,
        *,
        takes: Callable[[TaskRow], bool] | None = None,
        on_change: Callable[[], None],
    ) -> None:
        self._broker = broker
        self._places = places
        self._wanted = wanted
        self._takes = takes
        self._on_change = on_change
        self._thread: threading.Thread | None = None
        self._is_stopped = threading.Event()
        self._is_stale = False
        self._total = 0
        self._ended_at = 0.0
        self._took = 0.0
        self.found = Found([], 0, 0, 0, False, 0, False, "")
        """The last complete result; during the first scan what was found so far."""

    def refresh(self, total: int, *, is_changed: bool) -> None:
        """Begin the first scan, or repeat it if that is due. Returns at once."""
        self._total = total
        self._is_stale = self._is_stale or is_changed
        if self._thread is not None and self._thread.is_alive():
            return
        rest = self._took * _REST_FACTOR
        if not self._is_stale:
            rest = max(_IDLE_SECONDS, self._took * _IDLE_FACTOR)
        if self.found.is_done and time.monotonic() - self._ended_at < rest:
            return
        self._is_stale = False
        self._thread = threading.Thread(target=self._run, name="nbqueue-scan", daemon=True)
        self._thread.start()

    def wait(self, seconds: float) -> None:
        """Wait for the scan that runs, at most so long: most are short."""
        if self._thread is not None:
            self._thread.join(seconds)

    def stop(self) -> None:
        """Give up the scan that runs."""
        self._is_stopped.set()

    def drop(self, keys: Collection[str]) -> None:
        """Leave out tasks that are known to match no longer."""
        found = self.found
        if not keys or not found.is_done:
            return
        left = [line for line in found.lines if line.key not in keys]
        gone = len(found.lines) - len(left)
        self.found = found._replace(lines=left, matching=found.matching - gone)

    def _run(self) -> None:
        began = time.monotonic()
        shows = not self.found.is_done
        found = Found([], 0, 0, self._total, False, self._broker.clock.now_ms(), False, "")
        seen: set[str] = set()
        try:
            for place in self._places:
                for size, table in Listing(self._broker).slices(*place, self._wanted):
                    if self._is_stopped.is_set():
                        return
                    rows = table if self._takes is None else filter(self._takes, table)
                    found = _with_slice(found, size, rows, seen)
                    if shows:
                        self.found = found
                        self._on_change()
                    if self._is_enough(found):
                        break
                if self._is_enough(found):
                    found = found._replace(is_partial=found.looked_at < found.total)
                    break
        except StoreError as error:
            found = found._replace(fault=str(error))
        self._ended_at = time.monotonic()
        self._took = self._ended_at - began
        self.found = found._replace(is_done=True)
        self._on_change()

    def _is_enough(self, found: Found) -> bool:
        is_selective = self._wanted.is_selective or self._takes is not None
        return not is_selective and len(found.lines) >= MOST_KEPT


def _with_slice(found: Found, size: int, rows: Iterable[TaskRow], seen: set[str]) -> Found:
    """Return ``found`` with the tasks of one more slice, in which ``size`` were looked at."""
    matching = found.matching
    for row in rows:
        line = line_of_row(row)
        # A task that moved on meanwhile is read twice.
        if line.key in seen:
            continue
        seen.add(line.key)
        matching += 1
        if len(found.lines) < MOST_KEPT:
            found.lines.append(line)
    return found._replace(matching=matching, looked_at=found.looked_at + size)
