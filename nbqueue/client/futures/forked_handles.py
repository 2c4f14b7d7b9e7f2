"""Handles in a forked process, which can wait for the tasks of its parent.

The forked process has connections, a listening thread and locks of its own. It connects only when
one of the parent's handles is used in it, which most forked processes never do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable

from nbqueue.client.completion.listener import CompletionListener
from nbqueue.client.futures.handle import TaskHandle

_HOLD_SECONDS = 1.0
"""Seconds a fork waits for other threads to release the listeners' locks."""


def hold_while_forking(listeners: Callable[[], Iterable[CompletionListener]]) -> None:
    """Keep other threads from changing these listeners while the process forks."""
    if not hasattr(os, "register_at_fork"):
        return
    forking = threading.local()

    def before() -> None:
        found = [each for each in listeners() if isinstance(each, CompletionListener)]
        forking.held = [each for each in found if each.hold(_HOLD_SECONDS)]

    def after() -> None:
        while forking.held:
            forking.held.pop().release()

    os.register_at_fork(before=before, after_in_parent=after)


def inherit(listener: CompletionListener, own_prefix: str) -> None:
    """Make the listener of the parent usable in this process, whose ids have ``own_prefix``."""
    if not isinstance(listener, CompletionListener):
        return
    sinks, resume = listener.after_fork(own_prefix), listener.resume
    is_awaited = False
    for sink in sinks:
        if isinstance(sink, TaskHandle):
            is_awaited |= sink._inherit(resume)
    if is_awaited:
        resume()
