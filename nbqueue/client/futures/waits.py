"""Waits that can be interrupted, and whose end cancels nothing."""

from __future__ import annotations

import concurrent.futures
import inspect
import math
import numbers
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from types import FrameType
from typing import TYPE_CHECKING, Any

from nbqueue.durations import Duration, parse_duration

if TYPE_CHECKING:
    import asyncio

if sys.version_info >= (3, 11):
    WaitTimeout = TimeoutError
else:
    import asyncio

    class WaitTimeout(TimeoutError, concurrent.futures.TimeoutError, asyncio.TimeoutError):
        """The `TimeoutError` of Python, of `concurrent.futures` and of `asyncio` in one.

        These are three classes before Python 3.11.
        """


AWAKE_SECONDS = 0.2
"""Seconds between wake-ups of an ``await``.

An idle loop does not notice the stop button (ipykernel#881).
"""

# A signal that comes just before the main thread sleeps does not wake it, and on Windows none does.
# So that an interrupt is noticed, its waits are cut into slices.
_LONGEST_WAIT = 0.2

# The functions below the wrappers that convert to enumerations: they are called for each result.
_getsignal: Any = inspect.unwrap(signal.getsignal)
_signal: Any = inspect.unwrap(signal.signal)


def seconds_of(timeout: Duration | None) -> float | None:
    """Convert a time-out to seconds, or None. Raises `InvalidDuration`."""
    return None if timeout is None else parse_duration(timeout, "timeout")


def left_of(timeout: Duration | None) -> float | None:
    """Convert the time-out of a future to seconds, or None. Raises `InvalidDuration`.

    As with other futures, a negative number is what is left of a time that is over.
    """
    if isinstance(timeout, numbers.Real) and not isinstance(timeout, bool):
        timeout = max(float(timeout), 0.0) if -math.inf < timeout else timeout
    return seconds_of(timeout)


def until_of(timeout: Duration | None) -> float | None:
    """Return when a time-out that begins now is over, by the monotonic clock; None for never."""
    seconds = seconds_of(timeout)
    return None if seconds is None else time.monotonic() + seconds


class SelectiveCondition(threading.Condition):
    """A condition whose waits, with `wait_for`, are woken only when a predicate holds.

    A thread that is woken for each of a thousand ends, only to go on waiting, takes the
    interpreter's lock from the thread that receives them.
    """

    def __init__(self, lock: Any = None) -> None:
        super().__init__(lock)
        self.predicates: list[Callable[[], bool]] = []

    def wake(self) -> None:
        """Wake the waits if one of their predicates holds. Needs the condition held."""
        if any(predicate() for predicate in self.predicates):
            self.notify_all()


def wait_for(
    condition: threading.Condition, predicate: Callable[[], bool], seconds: float | None
) -> bool:
    """Wait, holding ``condition``, until ``predicate`` holds; return False if the time is up."""
    if not isinstance(condition, SelectiveCondition):
        return _wait_for(condition, predicate, seconds)
    condition.predicates.append(predicate)
    try:
        return _wait_for(condition, predicate, seconds)
    finally:
        condition.predicates.remove(predicate)


def _wait_for(
    condition: threading.Condition, predicate: Callable[[], bool], seconds: float | None
) -> bool:
    if threading.current_thread() is not threading.main_thread():
        return condition.wait_for(predicate, seconds)
    until = None if seconds is None else time.monotonic() + seconds
    while not predicate():
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return False
        condition.wait(_LONGEST_WAIT if left is None else min(left, _LONGEST_WAIT))
    return True


class Results(list[Any]):
    """The results of a group: a list that can also be awaited, which is deprecated."""

    def __await__(self) -> Generator[Any, None, list[Any]]:
        warnings.warn(
            "g.results() has blocked until here: write `await g`, which leaves the loop free",
            DeprecationWarning,
            stacklevel=2,
        )
        return list(self)
        yield  # makes this a generator, as __await__ must return an iterator

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (list(self),)


def is_asked_by_asyncio(caller: FrameType) -> bool:
    """Return whether asyncio calls ``cancel`` because the wait of ``wrap_future`` was cancelled.

    That is documented to leave the task running, and ``wrap_future`` and ``run_in_executor`` offer
    no other way to distinguish such a call from a user's. If asyncio renames the function, a
    cancelled wait cancels the task, as it does with the future of any other executor.
    """
    name: str = caller.f_code.co_name
    return name == "_call_check_cancel" and caller.f_globals.get("__name__") == "asyncio.futures"


class DeferredInterrupt:
    """A block in which Ctrl-C and the stop button are delayed until its end.

    It is for short steps that an interrupt would leave half done. It does nothing in other
    threads than the main one, which are not interrupted.
    """

    def __enter__(self) -> None:
        self._was_interrupted = False
        self._handler: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = _getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                _signal(signal.SIGINT, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._was_interrupted = True

    def __exit__(self, *error: object) -> None:
        if self._handler is not None:
            _signal(signal.SIGINT, self._handler)
            if self._was_interrupted:
                self._handler(signal.SIGINT, sys._getframe(1))


class AsyncWaiters:
    """Coroutines that wait for a change that another thread makes.

    All methods need the owner's condition held, except `wait`, which takes it.
    """

    def __init__(self) -> None:
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def wake(self) -> None:
        """Wake all coroutines, so that each evaluates its predicate again."""
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            try:
                loop.call_soon_threadsafe(_set, waiter)
            except RuntimeError:
                pass  # the loop was closed, so nothing waits there

    async def wait(self, condition: threading.Condition, predicate: Callable[[], bool]) -> None:
        """Wait until ``predicate`` holds. Being cancelled ends this wait and nothing else."""
        import asyncio

        loop = asyncio.get_running_loop()
        while True:
            with condition:
                if predicate():
                    return
                waiter: asyncio.Future[None] = loop.create_future()
                entry = (loop, waiter)
                self._waiters.append(entry)
            try:
                while not waiter.done():
                    await asyncio.wait((waiter,), timeout=AWAKE_SECONDS)
            finally:
                with condition:
                    if entry in self._waiters:
                        self._waiters.remove(entry)


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
