"""What an executor does with signals: nothing, as its supervisor decides when a task ends.

A handler that does nothing, and not ``SIG_IGN``: a program that a task starts inherits what is
ignored, but never a handler. A child that a task forks gets the defaults back.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

Handler = Callable[[int, FrameType | None], object]

_STDERR: Final = 2
_TO_SUPERVISOR: Final = ("SIGINT", "SIGTERM", "SIGTSTP", "SIGHUP")
"""These reach the whole process group: from a terminal, from systemd, from a container."""

_handlers: Final[dict[int, Handler]] = {}
"""Handlers of nbqueue itself, by their signals."""

_set_mask: Final = signal.pthread_sigmask
"""The function itself: where tasks call it, it is noted that they changed the mask."""

_forking: Final = threading.local()
"""The signal mask of a thread that is about to fork."""


def do_nothing(signum: int, frame: FrameType | None) -> None:
    """Handle a signal that is the supervisor's concern."""


def install() -> None:
    """Handle signals from now on. Only in the main thread."""
    for signum in _numbers(_TO_SUPERVISOR):
        # Under nohup SIGHUP is ignored, by us and by what tasks start.
        if signum == getattr(signal, "SIGHUP", None) and signal.getsignal(signum) == signal.SIG_IGN:
            continue
        handle(signum, do_nothing)
        signal.siginterrupt(signum, False)
    dump_stacks_on_quit()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _held())
    # A child may be sent a signal before it has its handlers; until then that waits.
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_in_child)


def handle(signum: int, handler: Handler) -> None:
    """Install a handler that forked children do not keep."""
    signal.signal(signum, handler)
    _handlers[signum] = handler


def dump_stacks_on_quit(*, chain: bool = False) -> None:
    """Write the stacks of all threads to the standard error output on SIGQUIT, and go on."""
    if hasattr(signal, "SIGQUIT"):
        faulthandler.unregister(signal.SIGQUIT)
        faulthandler.register(signal.SIGQUIT, file=_STDERR, all_threads=True, chain=chain)


@contextmanager
def held_back() -> Iterator[None]:
    """Start an executor in here: until it has called `install`, signals wait for it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _held())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _held() -> list[int]:
    return _numbers((*_TO_SUPERVISOR, "SIGQUIT"))


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def _hold() -> None:
    _forking.mask = _set_mask(signal.SIG_BLOCK, _held())


def _let_go() -> None:
    _set_mask(signal.SIG_SETMASK, _forking.mask)


def _in_child() -> None:
    try:
        _restore_defaults()
    finally:
        _let_go()


def _restore_defaults() -> None:
    """Behave as a new Python process does, except where the task chose a handler of its own."""
    for signum, handler in _handlers.items():
        if signal.getsignal(signum) is handler:
            is_interrupt = signum == signal.SIGINT
            signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    if hasattr(signal, "SIGQUIT") and signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL:
        faulthandler.unregister(signal.SIGQUIT)
