"""Waiting that can be interrupted, and that ends nothing but itself."""

from __future__ import annotations

import concurrent.futures
import inspect
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
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
        """The tasks have not ended in time: the `TimeoutError` of Python, of `concurrent.futures`
        and of `asyncio`, which are three classes before Python 3.11."""


AWAKE_SECONDS = 0.2
"""How often an ``await`` wakes: a quiet loop does not notice the stop button (ipykernel#881)."""

# Windows does not interrupt a wait without end; there it is cut into slices.
_LONGEST_WAIT = 0.2 if sys.platform == "win32" else None

# Without what makes members of enumerations of everything, or tries to: these lie on the way of
# each result.
_getsignal: Any = inspect.unwrap(signal.getsignal)
_signal: Any = inspect.unwrap(signal.signal)


def seconds_of(timeout: Duration | None) -> float | None:
    """A time-out in seconds; None is none. As elsewhere in Python, a negative one is over."""
    if timeout is None:
        return None
    if isinstance(timeout, int | float) and timeout <= 0:
        return 0.0
    return parse_duration(timeout, "timeout")


def until_of(timeout: Duration | None) -> float | None:
    """When a time-out that begins now is over, by the monotonic clock."""
    seconds = seconds_of(timeout)
    return None if seconds is None else time.monotonic() + seconds


class SelectiveCondition(threading.Condition):
    """A condition that wakes who waits, with `wait_for`, only when what he waits for may hold.

    A thread that is woken for each of a thousand ends, to find that it must go on waiting, takes
    the interpreter's lock from the one that takes them in.
    """

    def __init__(self, lock: Any = None) -> None:
        super().__init__(lock)
        self.predicates: list[Callable[[], bool]] = []

    def tell(self) -> None:
        """Something changed. Call it with the condition held."""
        if any(predicate() for predicate in self.predicates):
            self.notify_all()


def wait_for(
    condition: threading.Condition, predicate: Callable[[], bool], seconds: float | None
) -> bool:
    """Wait, holding ``condition``, until ``predicate`` holds. False if the time is up."""
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
    if _LONGEST_WAIT is None:
        return condition.wait_for(predicate, seconds)
    until = None if seconds is None else time.monotonic() + seconds
    while not predicate():
        left = None if until is None else until - time.monotonic()
        if left is not None and left <= 0:
            return False
        condition.wait(_LONGEST_WAIT if left is None else min(left, _LONGEST_WAIT))
    return True


async def in_time(
    waiting: Awaitable[None], seconds: float | None, late: Callable[[], WaitTimeout]
) -> None:
    """Await ``waiting``; raise what ``late`` returns if that takes longer than ``seconds``."""
    import asyncio

    try:
        await asyncio.wait_for(waiting, seconds)
    except asyncio.TimeoutError:
        raise late() from None


def is_awaited(caller: FrameType) -> bool:
    """Whether the call that ``caller`` is making stands behind an ``await``.

    What returns a plain value elsewhere can so be awaited where waiting must not block. It is
    asked of the code itself, because in a notebook a loop runs whether or not the cell awaits.
    """
    code = caller.f_code
    if not code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        return False
    import dis

    behind = (each for each in dis.get_instructions(code) if each.offset > caller.f_lasti)
    following = next(behind, None)
    return following is not None and following.opname == "GET_AWAITABLE"


def is_asked_by_asyncio(caller: FrameType) -> bool:
    """Say whether ``caller`` is asyncio, passing on that the wait of ``wrap_future`` was cancelled.

    There is no other way to tell it from a person who calls ``cancel``. Should asyncio rename
    that function, such a cancellation would cancel the task, as for any other executor's future.
    """
    name: str = caller.f_code.co_name
    return name == "_call_check_cancel" and caller.f_globals.get("__name__") == "asyncio.futures"


class DeferredInterrupt:
    """Within this, Ctrl-C and the stop button wait until its end, and then interrupt.

    For a moment only, in which something must not be left half done. In other threads than the
    main one there is nothing to do.
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
    """Coroutines that wait for something that another thread will say.

    All is called with the owner's condition held, but for `wait`, which takes it.
    """

    def __init__(self) -> None:
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiters)

    def wake(self) -> None:
        """Let each look again at what it waits for."""
        waiters, self._waiters = self._waiters, []
        for loop, waiter in waiters:
            try:
                loop.call_soon_threadsafe(_set, waiter)
            except RuntimeError:
                pass  # that loop was closed: nobody waits there

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
