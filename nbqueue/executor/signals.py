"""Signals in an executor, most of which do nothing.

The supervisor decides when a task ends.

They get a handler that does nothing instead of ``SIG_IGN``, because programs that a task starts
inherit ignored signals, but not handlers. A child that a task forks gets the defaults back.
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
"""Signals to the whole process group: from a terminal, systemd, or a container."""

_handlers: Final[dict[int, Handler]] = {}
"""The handlers of nbqueue, by their signals."""

_set_mask: Final = signal.pthread_sigmask
"""The original function.

The one that tasks call notes that they changed the mask.
"""

_forking: Final = threading.local()
"""The signal mask of a thread that is about to fork."""


def do_nothing(signum: int, frame: FrameType | None) -> None:
    """Handle a signal that only the supervisor acts on."""


def install() -> None:
    """Install the handlers of an executor. Only in the main thread."""
    for signum in _numbers(_TO_SUPERVISOR):
        # Under nohup SIGHUP is ignored, here and in programs that tasks start.
        if signum == getattr(signal, "SIGHUP", None) and signal.getsignal(signum) == signal.SIG_IGN:
            continue
        handle(signum, do_nothing)
        signal.siginterrupt(signum, False)
    dump_stacks_on_quit()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _held())
    # A signal to a child waits until the child has its handlers.
    os.register_at_fork(before=_hold, after_in_parent=_let_go, after_in_child=_in_child)


def handle(signum: int, handler: Handler) -> None:
    """Install a handler that forked children do not keep."""
    signal.signal(signum, handler)
    _handlers[signum] = handler


def dump_stacks_on_quit(*, chain: bool = False) -> None:
    """On SIGQUIT, write the stacks of all threads to standard error."""
    if hasattr(signal, "SIGQUIT"):
        faulthandler.unregister(signal.SIGQUIT)
        faulthandler.register(signal.SIGQUIT, file=_STDERR, all_threads=True, chain=chain)


@contextmanager
def held_back() -> Iterator[None]:
    """Block signals for processes started in the block until they call `install`."""
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
    """Restore Python's default handlers, except where the task set its own."""
    for signum, handler in _handlers.items():
        if signal.getsignal(signum) is handler:
            is_interrupt = signum == signal.SIGINT
            signal.signal(signum, signal.default_int_handler if is_interrupt else signal.SIG_DFL)
    if hasattr(signal, "SIGQUIT") and signal.getsignal(signal.SIGQUIT) == signal.SIG_DFL:
        faulthandler.unregister(signal.SIGQUIT)
