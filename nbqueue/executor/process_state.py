"""State that tasks share in a process, restored after each: output, folder, signals, ...

Most tasks change nothing of it, so the check must cost next to nothing. Where comparing would be
slow, the functions that change the state are wrapped, and note that they were called.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from nbqueue.executor import signals

_OUTPUTS: Final = (1, 2)
_FIRST_KEPT: Final = 64
"""The lowest number for copies of descriptors, out of the way of tasks."""

_NOTED: Final = (
    (os, ("chdir", "fchdir", "dup2", "closerange")),
    (signal, ("signal", "alarm", "setitimer", "pthread_sigmask")),
    (logging, ("disable",)),
    (sys, ("setrecursionlimit",)),
)
"""Functions that may change state which must be restored."""

_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in (
        *("SIGINT", "SIGTERM", "SIGTSTP", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"),
        *("SIGALRM", "SIGVTALRM", "SIGPROF", "SIGCHLD", "SIGPIPE", "SIGCONT", "SIGWINCH"),
        *("SIGTTIN", "SIGTTOU", "SIGIO", "SIGURG", "SIGXCPU", "SIGXFSZ"),
    )
    if hasattr(signal, name)
)


_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class ProcessState:
    """The state of the process before its first task, and tasks' changes to it.

    Where several tasks run at once, a change is undone when all tasks have ended that ran when it
    was noticed: until then it may be in use.
    """

    def __init__(self) -> None:
        self._is_touched = False
        self._running: set[int] = set()
        self._suspects: set[int] | None = None
        """Tasks that may have made a change."""
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Record the state, after the owner's hooks have run."""
        self._stdout, self._stderr = sys.stdout, sys.stderr
        self._folder = os.getcwd()
        self._filter_list, self._filters = warnings.filters, list(warnings.filters)
        self._show_warning = warnings.showwarning
        self._disabled = logging.root.manager.disable
        self._recursion_limit = sys.getrecursionlimit()
        self._signal_mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        self._timers = [timer for timer in _TIMERS if signal.getitimer(timer)[0] == 0]
        """The timers that only a task can have set."""
        self._handlers = {signum: signal.getsignal(signum) for signum in _SIGNALS}
        self._outputs = {number: _identity(number) for number in _OUTPUTS}
        self._copies = {number: _copy(number) for number in _OUTPUTS}
        self._chdir = os.chdir
        for module, names in _NOTED:
            for name in names:
                self._note_calls(module, name)
        self._note_closing()

    def check(self, was_long: bool) -> None:
        """Restore the changes of the only task.

        After a long task, more is compared.
        """
        # Inline instead of `_is_changed`, as this runs after each task, however short.
        if (
            self._is_touched
            or sys.stdout is not self._stdout
            or sys.stderr is not self._stderr
            or warnings.filters != self._filters
            or (was_long and self._are_outputs_changed())
        ):
            self._restore()

    def begin(self, number: int) -> None:
        """Note that one of several tasks begins."""
        if self._is_changed():
            self._settle()
        self._running.add(number)

    def end(self, number: int, *, was_long: bool = False) -> None:
        """Note that one of several tasks has ended.

        Restores what can be restored, as `check` does.
        """
        self._running.discard(number)
        if self._is_changed() or (was_long and self._are_outputs_changed()):
            self._settle()
        elif self._suspects is not None:
            self._suspects = None

    def _is_changed(self) -> bool:
        return (
            self._is_touched
            or sys.stdout is not self._stdout
            or sys.stderr is not self._stderr
            or warnings.filters != self._filters
        )

    def _are_outputs_changed(self) -> bool:
        return any(_identity(number) != known for number, known in self._outputs.items())

    def _settle(self) -> None:
        with self._lock:
            if self._suspects is None:
                self._suspects = set(self._running)
            else:
                self._suspects &= self._running
            if self._suspects:
                return
            self._suspects = None
            self._restore()

    def _restore(self) -> None:
        self._restore_recursion_limit()
        sys.stdout, sys.stderr = self._stdout, self._stderr
        if warnings.filters != self._filters or warnings.filters is not self._filter_list:
            warnings.filters = self._filter_list
            warnings.filters[:] = self._filters  # type: ignore[index]
            with warnings.catch_warnings():
                pass  # this invalidates the warnings that Python remembers to have shown
        warnings.showwarning = self._show_warning
        if logging.root.manager.disable != self._disabled:
            logging.disable(self._disabled)
        try:
            self._chdir(self._folder)
        except OSError:
            pass  # it was removed
        for number, known in self._outputs.items():
            copy = self._copies[number]
            if copy is not None and _identity(number) != known:
                os.dup2(copy, number)
        if threading.current_thread() is threading.main_thread():
            self._restore_signals()
        self._is_touched = False  # the last, as functions called here set it

    def _restore_recursion_limit(self) -> None:
        try:
            sys.setrecursionlimit(self._recursion_limit)
        except RecursionError:
            pass  # the stack of a thread of the task is deeper than that

    def _restore_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._signal_mask)
        for timer in self._timers:
            signal.setitimer(timer, 0)
        for signum, handler in self._handlers.items():
            if signal.getsignal(signum) == handler or handler is None:
                continue
            signal.signal(signum, handler)
            if handler is signals.do_nothing:
                signal.siginterrupt(signum, False)
            if signum == getattr(signal, "SIGQUIT", None):
                signals.dump_stacks_on_quit()

    def _note_calls(self, module: ModuleType, name: str) -> None:
        function: Callable[..., Any] | None = getattr(module, name, None)
        if function is None:
            return

        @functools.wraps(function)
        def noted(*args: Any, **kwargs: Any) -> Any:
            self._is_touched = True
            return function(*args, **kwargs)

        _replace(module, name, noted)

    def _note_closing(self) -> None:
        close = os.close

        @functools.wraps(close)
        def noted(fd: int) -> None:
            if fd in _OUTPUTS:
                self._is_touched = True
            close(fd)

        _replace(os, "close", noted)


def _replace(module: ModuleType, name: str, function: Callable[..., Any]) -> None:
    if getattr(module, name) in os.supports_fd:
        os.supports_fd.add(function)
    setattr(module, name, function)


def _identity(number: int) -> tuple[int, int] | None:
    """Return which file a descriptor refers to; None if it is closed."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _copy(number: int) -> int | None:
    try:
        import fcntl

        return fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, _FIRST_KEPT)
    except (ImportError, OSError):
        return None
