"""`nbqueue.wait`: wait for any futures and groups together."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.futures.group_state import Counts
from nbqueue.client.futures.waits import seconds_of
from nbqueue.client.live.display import group_view, wait_shown
from nbqueue.client.results.failed_calls import FailedTask
from nbqueue.durations import Duration
from nbqueue.errors import UsageError
from nbqueue.moved_modules import pickled_as
from nbqueue.names import not_among

if TYPE_CHECKING:
    from nbqueue.client.obstacles.obstacle_watch import ObstacleWatch
    from nbqueue.client.obstacles.store_facts import Wanted

ALL_COMPLETED = concurrent.futures.ALL_COMPLETED
FIRST_COMPLETED = concurrent.futures.FIRST_COMPLETED
FIRST_EXCEPTION = concurrent.futures.FIRST_EXCEPTION

_SAMPLE = 20
"""The number of tasks of each queue that are looked at to find why a wait does not end."""


@pickled_as("nbqueue.client.together")
class Waited(NamedTuple):
    """The result of `wait`: the futures that are done, and those that are not."""

    done: set[TaskFuture[Any]]
    not_done: set[TaskFuture[Any]]


@pickled_as("nbqueue.client.together")
def wait(
    *handles: TaskFuture[Any] | TaskGroup[Any] | Iterable[Any],
    timeout: Duration | None = None,
    return_when: str = ALL_COMPLETED,
) -> Waited:
    """Wait for futures and groups, with one progress bar for all.

    They are given one by one or in lists. ``timeout``: how long at most, a duration; tasks that are
    not done then go on. ``return_when``: as in `concurrent.futures.wait`. Ending the wait ends no
    task.

    >>> done, not_done = nbqueue.wait(f, g, timeout="10m")

    Raises `UsageError` for what is neither a future nor a group of nbqueue.
    """
    if return_when not in (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION):
        raise not_among(
            "return_when", return_when, (ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION)
        )
    wait_set = WaitSet(list(_flat(handles)))
    seconds = seconds_of(timeout)
    wait_shown(wait_set, wait_set.changed, lambda: wait_set.is_enough(return_when), seconds)
    done = {future for future in wait_set.futures if future.done()}
    return Waited(done, set(wait_set.futures) - done)


def _flat(handles: Iterable[Any]) -> Iterable[TaskFuture[Any]]:
    for handle in handles:
        if isinstance(handle, TaskFuture):
            yield handle
        elif isinstance(handle, TaskGroup):
            yield from handle.futures
        elif isinstance(handle, Iterable) and not isinstance(handle, str | bytes):
            yield from _flat(handle)
        else:
            raise UsageError(f"{handle!r} is neither a future nor a group of nbqueue")


class WaitSet:
    """Futures that are waited for together, with the interface of a group for its card."""

    name: str | None = None

    def __init__(self, futures: list[TaskFuture[Any]]) -> None:
        self.futures = list(dict.fromkeys(futures))
        self.changed = threading.Condition()
        self._callbacks: list[Callable[[Any], object]] = []
        self._by_place = {(future.queue, future.id): future for future in self.futures}
        self._by_id = {future.id: future for future in self.futures}
        self._ended: list[TaskFuture[Any]] = []
        self._ended_ms: int | None = None
        if self.futures:
            self._session = self.futures[0]._attached()
            self._begun_ms = self._session.clock.now_ms()
        for future in self.futures:
            future.add_done_callback(self._on_done)

    @property
    def type(self) -> str:
        """The names of the functions."""
        return ", ".join(sorted({future.name or future.type for future in self.futures}))

    @property
    def queue(self) -> str:
        """The names of the queues."""
        return ", ".join(sorted({future.queue for future in self.futures}))

    def _on_done(self, future: TaskFuture[Any]) -> None:
        with self.changed:
            self._ended.append(future)
            if self.done():
                self._ended_ms = self._session.clock.now_ms()
            callbacks = list(self._callbacks)
            self.changed.notify_all()
        for callback in callbacks:
            callback(self)

    def done(self) -> bool:
        return len(self._ended) == len(self.futures)

    def is_enough(self, return_when: str) -> bool:
        """Return whether enough futures have ended."""
        if self.done():
            return True
        if return_when == FIRST_COMPLETED:
            return bool(self._ended)
        return return_when == FIRST_EXCEPTION and any(
            _is_failed(future) or _is_unfollowed(future) for future in self._ended
        )

    def counts(self) -> Counts:
        ended = list(self._ended)
        cancelled = sum(future.cancelled() for future in ended)
        left = sum(map(_is_unfollowed, ended))
        failed = sum(map(_is_failed, ended)) - cancelled
        completed = len(ended) - failed - cancelled - left
        return Counts(len(self.futures), completed, failed, cancelled)

    def on_progress(self, callback: Callable[[Any], object]) -> None:
        with self.changed:
            self._callbacks.append(callback)

    def cancel(self) -> int:
        return sum(future.cancel() for future in self.futures if not future.done())

    def _view(self) -> Any:
        return group_view(self)

    def _obstacle_watch(self) -> ObstacleWatch:
        return self._session.obstacles

    def _sample(self) -> Wanted:
        left: dict[str, list[str]] = {}
        for future in self.futures:
            if not future._is_over() and len(ids := left.setdefault(future.queue, [])) < _SAMPLE:
                ids.append(future.id)
        return left

    def _goes_on(self) -> str:
        left = len(self.futures) - len(self._ended)
        return f"{left:,} of {len(self.futures):,} tasks go on; cancel() of a future ends its task"

    def _end_time_ms(self) -> int:
        if self._ended_ms is None:  # it ended before this process followed it
            self._ended_ms = self._session.clock.now_ms()
        return self._ended_ms

    def _unended_by_queue(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for future in self.futures:
            if not future.done():
                found.setdefault(future.queue, []).append(future.id)
        return found

    def _holds(self, queue: str, task_id: str) -> bool:
        return (queue, task_id) in self._by_place

    def _has_ended(self, task_id: str) -> bool:
        future = self._by_id.get(task_id)
        return future is None or future.done()

    def _failed_tasks(self, most: int) -> list[FailedTask]:
        failed = [f for f in list(self._ended) if _is_failed(f) and not f.cancelled()][:most]
        return [
            FailedTask(f.name or f.type, f.queue, f.id, error)
            for f in failed
            if (error := f.exception(0)) is not None
        ]


def _is_failed(future: TaskFuture[Any]) -> bool:
    outcome = future._outcome
    return outcome is not None and outcome.is_failed and not outcome.is_unfollowed


def _is_unfollowed(future: TaskFuture[Any]) -> bool:
    outcome = future._outcome
    return outcome is not None and outcome.is_unfollowed
