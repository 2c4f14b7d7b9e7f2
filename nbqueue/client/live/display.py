"""Cards of handles, and of waits that take long.

The notebook is imported only when something is shown: it is heavy, and most programs have none.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from nbqueue.client.futures.waits import wait_for
from nbqueue.client.live.interrupted_waits import Interruptible, explain_interrupt
from nbqueue.client.obstacles.wait_notices import NOTICE_SECONDS, Awaited, say_why
from nbqueue.errors import UsageError
from nbqueue.runtime.forks import in_children
from nbqueue.runtime.notebook_kernel import is_kernel

if TYPE_CHECKING:
    from nbqueue.client.futures.future import TaskFuture
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.futures.wait import WaitSet

SHOW_AFTER_SECONDS = 0.5
"""A wait that takes longer shows what it waits for."""

VARIABLE = "NBQUEUE_PROGRESS"
"""Set to ``0`` in the environment, it keeps waits from showing and writing anything."""


_is_forked = False


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


in_children(_note_fork)


class Showable(Awaited, Interruptible, Protocol):
    """Something that can be waited for, and that has a card."""

    def _view(self) -> Any:
        """Make the card, a `nbqueue.notebook.live_views.View`."""


def task_view(future: TaskFuture[Any]) -> Any:
    """Make the card of a task."""
    from nbqueue.notebook.task_card import FutureCard  # heavy: only where something is shown

    return FutureCard(future)


def group_view(handle: TaskGroup[Any] | WaitSet) -> Any:
    """Make the card of many tasks."""
    from nbqueue.notebook.group_card import GroupCard  # heavy: only where something is shown

    return GroupCard(handle)


def show_live(handle: Showable) -> None:
    """Show the card of a handle, live until its work ends.

    ``g.wait(); g`` in one cell is one card.
    """
    from nbqueue.notebook.live_views import show_once  # heavy: only where something is shown

    show_once(handle._view())


def notify_of_end(handle: Showable) -> None:
    """Have the browser notify of the end of a handle's work, from its card.

    Raises `UsageError` outside a notebook.
    """
    from nbqueue.notebook.live_views import notify  # heavy: only where something is shown

    if not notify(handle._view()):
        raise UsageError(
            "notify() needs a notebook, whose page shows the notification; "
            "in a program use add_done_callback or on_progress"
        )


def bundle_of(handle: Showable) -> dict[str, str]:
    """Return a handle as it is now, in the MIME types that need no kernel."""
    view = handle._view()
    return {"text/plain": view.text(), "text/html": str(view.html(live=False))}


def wait_shown(
    handle: Showable,
    condition: threading.Condition,
    predicate: Callable[[], bool],
    seconds: float | None,
    since: float | None = None,
) -> bool:
    """Wait until ``predicate`` holds, and show ``handle`` if that takes long.

    Returns False if the time is up. ``since``: when the first of several waits in a row began, by
    the monotonic clock, as they may take long together. An interrupt is raised as it is, and says
    that the tasks go on.
    """
    try:
        return _wait_shown(handle, condition, predicate, seconds, since)
    except KeyboardInterrupt as interrupt:
        explain_interrupt(interrupt, handle, is_quiet=not _may_say())
        raise


@contextmanager
def interrupt_explained(handle: Interruptible) -> Iterator[None]:
    """Have an interrupt of this wait say that the tasks go on, as that of `wait_shown` does."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        explain_interrupt(interrupt, handle, is_quiet=not _may_say())
        raise


def _wait_shown(
    handle: Showable,
    condition: threading.Condition,
    predicate: Callable[[], bool],
    seconds: float | None,
    since: float | None,
) -> bool:
    shows = _may_show()
    patience = _patience(since) if shows else NOTICE_SECONDS
    first = patience if seconds is None else min(seconds, patience)
    with condition:
        if wait_for(condition, predicate, first):
            return True
    if seconds is not None and seconds <= first:
        return False
    with _shown(handle) if shows else _explained(handle), condition:
        return wait_for(condition, predicate, None if seconds is None else seconds - first)


def _patience(since: float | None) -> float:
    """Return how many seconds a wait may still take before it is shown."""
    if since is None:
        return SHOW_AFTER_SECONDS
    return max(0.0, since + SHOW_AFTER_SECONDS - time.monotonic())


async def awaited_shown(
    handle: Showable, waiting: Awaitable[None], since: float | None = None
) -> None:
    """Await ``waiting``, and show ``handle`` if that takes long; see `wait_shown`."""
    shows = _may_show()
    patience = _patience(since) if shows else NOTICE_SECONDS
    ends: list[Callable[[], object]] = []

    def begin() -> None:
        if shows:
            ends.append(partial(_end, _begin(handle)))
        elif _may_say():
            ends.append(say_why(handle))

    import asyncio

    timer = asyncio.get_running_loop().call_later(patience, begin)
    try:
        await waiting
    except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
        # Whether it was the stop button that cancelled this, only the notebook knows.
        explain_interrupt(interrupt, handle, is_quiet=True)
        raise
    finally:
        timer.cancel()
        for end in ends:
            end()


@contextmanager
def _shown(handle: Showable) -> Iterator[None]:
    shown = _begin(handle)
    try:
        yield
    finally:
        _end(shown)


@contextmanager
def _explained(handle: Showable) -> Iterator[None]:
    """Write the reasons why nothing happens to standard error, where nothing is shown."""
    stop = say_why(handle) if _may_say() else None
    try:
        yield
    finally:
        if stop is not None:
            stop()


def _begin(handle: Showable) -> Any:
    """Show a handle, unless it is shown already; returns the display, or None."""
    from nbqueue.notebook import live_views, terminal_line  # heavy: only where something is shown

    if live_views.kernel_shell() is not None:
        return None if live_views.is_shown(handle) else live_views.show_wait(handle._view())
    line = terminal_line.TerminalLine(handle._view())
    line.first()
    return line


def _end(shown: Any) -> None:
    """End a wait. Its display is settled, unless that follows the work further."""
    if shown is not None and (shown.view.is_final or not hasattr(shown, "is_open")):
        shown.settle()


def _may_show() -> bool:
    if not _may_say(in_kernel=True) or threading.current_thread() is not threading.main_thread():
        return False
    return is_kernel() or sys.stderr.isatty()


def _may_say(*, in_kernel: bool = False) -> bool:
    # The notebook, or the line of the terminal, belongs to the parent process.
    if _is_forked or os.environ.get(VARIABLE) == "0":
        return False
    if is_kernel():
        return in_kernel
    return sys.stderr is not None and not sys.stderr.closed
