"""Handles of tasks in a forked child process: it can wait for what its parent submitted.

The child has connections, a listening thread and locks of its own. It connects only once one of the
parent's handles is used there; most children never do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from nbqueue.client.completion.listener import CompletionListener
from nbqueue.client.futures.future import TaskFuture
from nbqueue.client.futures.group import TaskGroup
from nbqueue.client.futures.waits import AsyncWaiters, SelectiveCondition
from nbqueue.runtime.forks import InheritedLock

T = TypeVar("T")

_HOLD_SECONDS = 1.0
"""How long a fork waits for other threads to come to an end of what they do."""


def hold_while_forking(listeners: Callable[[], Iterable[CompletionListener]]) -> None:
    """Let other threads change nothing of these while this process forks."""
    if not hasattr(os, "register_at_fork"):
        return
    forking = threading.local()

    def before() -> None:
        found = [each for each in listeners() if isinstance(each, CompletionListener)]
        forking.held = [each for each in found if each._mutex.acquire(timeout=_HOLD_SECONDS)]

    def after() -> None:
        while forking.held:
            forking.held.pop()._mutex.release()

    os.register_at_fork(before=before, after_in_parent=after)


def inherit(listener: CompletionListener, own_prefix: str) -> None:
    """Make the listener of a parent one of this process, whose tasks have ids with this prefix."""
    if not isinstance(listener, CompletionListener):
        return
    tasks, untold = listener._tasks, listener._telling.untold
    tasks.inherit(own_prefix)
    sinks = {id(sink): sink for _, _, sink in tasks.all()}
    sinks.update((id(sink), sink) for sink, _ in untold)
    listener._reset()
    listener._telling.inherit(untold)

    def resume() -> None:
        if listener._thread is None and (tasks or listener._telling.untold):
            with listener._mutex:
                listener._start()

    is_awaited = False
    for sink in sinks.values():
        if isinstance(sink, TaskFuture):
            is_awaited |= _inherit_future(sink, resume)
        elif isinstance(sink, TaskGroup):
            is_awaited |= _inherit_group(sink, resume)
    if is_awaited:
        resume()


class InheritedFuture(TaskFuture[T]):
    """A `TaskFuture` of the parent process."""

    _resume: Callable[[], None]

    def done(self) -> bool:
        """True if the task is known to have ended."""
        if not self._is_over():
            self._resume()
        return self._is_over()


class InheritedGroup(TaskGroup[T]):
    """A `TaskGroup` of the parent process."""

    _resume: Callable[[], None]

    def done(self) -> bool:
        """True if all of its tasks are known to have ended."""
        if not super().done():
            self._resume()
        return super().done()


def _inherit_future(future: TaskFuture[Any], resume: Callable[[], None]) -> bool:
    """Let a future of the parent be used here. Returns whether something waits for it already.

    Its callbacks, and the coroutines that wait for it, are the parent's, which calls and wakes
    them.
    """
    future.__class__ = InheritedFuture
    assert isinstance(future, InheritedFuture)
    future._resume = resume
    future._condition = threading.Condition(InheritedLock(resume))  # type: ignore[arg-type]
    future._async_waiters = AsyncWaiters()
    callbacks: list[Any] = vars(future)["_done_callbacks"]
    owners = [getattr(callback, "__self__", None) for callback in callbacks]
    followers = [each for each in owners if isinstance(each, TaskFuture) and each is not future]
    callbacks[:] = [each._follow for each in followers]
    for follower in followers:
        _inherit_future(follower, resume)
    if not future._is_over():
        future._outcome = None  # a thread of the parent was about to take in its end
    return bool(vars(future)["_waiters"])


def _inherit_group(group: TaskGroup[Any], resume: Callable[[], None]) -> bool:
    """Let a group of the parent be used here; as `_inherit_future`."""
    group.__class__ = InheritedGroup
    assert isinstance(group, InheritedGroup)
    group._resume = resume
    group._changed = SelectiveCondition(InheritedLock(resume))
    group._async_waiters = AsyncWaiters()
    group._callbacks = []
    # A thread of the parent may have been about to take in ends.
    known = {i: outcome for i, outcome in enumerate(group._outcomes) if outcome is not None}
    group._ended += sorted({*known} - {*group._ended})
    group._cancelled = sum(outcome.is_cancelled for outcome in known.values())
    group._failed = sum(outcome.is_failed for outcome in known.values()) - group._cancelled
    is_awaited = False
    for index, future in group._futures.items():
        is_awaited |= _inherit_future(future, resume)
        if index in known and not future._is_over():
            future._settle(known[index])
    return is_awaited
