"""How handles show themselves. The one place where the client knows of the notebook, and only when
something is shown."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from nbqueue.client.futures.waits import wait_for
from nbqueue.runtime.forks import in_children

SHOW_AFTER_SECONDS = 0.5
"""A wait that takes longer shows what it waits for."""

VARIABLE = "NBQUEUE_PROGRESS"
"""Set to ``0`` in the environment, it keeps waits from showing anything."""


_is_forked = False


def _note_fork() -> None:
    global _is_forked
    _is_forked = True


in_children(_note_fork)


def view_of(handle: Any) -> Any:
    """The card of a future, or of anything that is many."""
    from nbqueue.client.futures.future import TaskFuture

    if isinstance(handle, TaskFuture):
        from nbqueue.notebook.task_card import FutureCard

        return FutureCard(handle)
    from nbqueue.notebook.group_card import GroupCard

    return GroupCard(handle)


def show_live(handle: Any) -> None:
    """Show the card of a handle here, live until its work ends."""
    from nbqueue.notebook.live_views import show

    show(view_of(handle))


def panel(client: Any, **options: Any) -> Any:
    """See `Client.panel`."""
    from nbqueue.notebook.panel.panel import Panel

    return Panel(client, **options)


def bundle_of(handle: Any) -> dict[str, str]:
    """A handle as it is now, in the forms that need no kernel."""
    view = view_of(handle)
    return {"text/plain": view.text(), "text/html": view.html(live=False)}


def wait_shown(
    handle: Any,
    condition: threading.Condition,
    predicate: Callable[[], bool],
    seconds: float | None,
    since: float | None = None,
) -> bool:
    """Wait until ``predicate`` holds; False if the time is up. One that takes long is shown.

    ``since``: when the first of several waits in a row began, by the monotonic clock: they may take
    long together.
    """
    patience = _patience(since)
    first = patience if seconds is None else min(seconds, patience)
    shows = _may_show()
    with condition:
        if wait_for(condition, predicate, first if shows else seconds):
            return True
    if not shows or (seconds is not None and seconds <= first):
        return False
    with _shown(handle), condition:
        return wait_for(condition, predicate, None if seconds is None else seconds - first)


def _patience(since: float | None) -> float:
    """How long a wait may still be before it is shown."""
    if since is None:
        return SHOW_AFTER_SECONDS
    return max(0.0, since + SHOW_AFTER_SECONDS - time.monotonic())


async def awaited_shown(handle: Any, waiting: Awaitable[None], since: float | None = None) -> None:
    """The same for a coroutine that waits."""
    if not _may_show():
        await waiting
        return
    import asyncio

    line: list[Any] = []
    timer = asyncio.get_running_loop().call_later(
        _patience(since), lambda: line.append(_begin(handle))
    )
    try:
        await waiting
    finally:
        timer.cancel()
        if line:
            _end(line[0])


@contextmanager
def _shown(handle: Any) -> Iterator[None]:
    shown = _begin(handle)
    try:
        yield
    finally:
        _end(shown)


def _begin(handle: Any) -> Any:
    """Show a handle, unless it is shown already; returns what shows it, or None."""
    from nbqueue.notebook import live_views, terminal_line

    if live_views.kernel_shell() is not None:
        return None if live_views.is_shown(handle) else live_views.show(view_of(handle))
    line = terminal_line.TerminalLine(view_of(handle))
    line.first()
    return line


def _end(shown: Any) -> None:
    """The wait is over: what is shown is settled with it, or goes on if its work does."""
    if shown is not None and (shown.view.is_final or not hasattr(shown, "is_open")):
        shown.settle()


def _may_show() -> bool:
    # A notebook, or a line of a terminal, is the parent's.
    if _is_forked or threading.current_thread() is not threading.main_thread():
        return False
    if os.environ.get(VARIABLE) == "0":
        return False
    ipython = sys.modules.get("IPython")
    if ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None:
        return True
    return sys.stderr is not None and sys.stderr.isatty()
