"""The event loop of supervisors and client threads: a selector and timers.

It was chosen over asyncio and over threads by measurement: see decision 2.
"""

from __future__ import annotations

import heapq
import itertools
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from nbqueue.runtime.busy_poll import BusyPoll, offer_cpu
from nbqueue.runtime.wakeup import Wakeup

Action = Callable[[], object]

_LONGEST_SELECT = 3600.0


class Timer:
    """A call that will be made once, unless `cancel` is called before."""

    __slots__ = ("action", "at")

    def __init__(self, at: float, action: Action) -> None:
        self.at = at
        self.action: Action | None = action

    def cancel(self) -> None:
        self.action = None


class Reactor:
    """Calls back for ready files, expired timers, and the end of each round.

    Everything runs in the thread that calls `run` or `run_until`; only `post` and `wake` may be
    called from another. Exceptions of callbacks end these calls: in a supervisor they are bugs, and
    one that went on with half of its parts would break its guarantees silently. The threads of
    clients call `run` again, after a pause.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        """``selector``: None is the system's best, which may take a file descriptor."""
        self._selector = selector or selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Action] = deque()
        self._after: list[Action] = []
        self._running = False
        self._forgotten: list[Any] = []
        """Files that callbacks of this round stopped watching."""
        self._busy_poll = BusyPoll()
        self._bell = Wakeup()
        self.watch(self._bell, self._bell.drain)

    now = staticmethod(time.monotonic)
    """Return the time on the clock of the timers, in seconds."""

    def watch(self, file: Any, on_ready: Action, *, on_writable: Action | None = None) -> None:
        """Call ``on_ready`` when ``file`` can be read, ``on_writable`` when it takes bytes."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if on_writable else 0)
        try:
            self._selector.modify(file, events, (on_ready, on_writable))
        except KeyError:
            self._selector.register(file, events, (on_ready, on_writable))

    def forget(self, file: Any) -> None:
        """Stop watching ``file``, before it is closed.

        A readiness of this round is ignored.
        """
        try:
            self._selector.unregister(file)
        except (KeyError, ValueError):
            return
        self._forgotten.append(file)

    def after(self, seconds: float, action: Action) -> Timer:
        """Call ``action`` once after ``seconds``."""
        timer = Timer(time.monotonic() + seconds, action)
        heapq.heappush(self._timers, (timer.at, next(self._order), timer))
        return timer

    def every_round(self, action: Action) -> None:
        """Call ``action`` at the end of each round, after all ready files."""
        self._after.append(action)

    def post(self, action: Action) -> None:
        """Call ``action`` in the loop's thread, soon. From any thread."""
        self._posted.append(action)
        self._bell.wake()

    def wake(self) -> None:
        """Begin a round soon. From any thread, even after `close`."""
        self._bell.wake()

    def in_thread(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run blocking ``work`` in a thread.

        ``done`` gets its result or exception in the loop.
        """

        def run() -> None:
            try:
                result: Any = work()
            except Exception as error:
                result = error
            self.post(lambda: done(result))

        threading.Thread(target=run, name="nbqueue-blocking", daemon=True).start()

    def on_signals(self, handlers: dict[int, Action]) -> None:
        """Handle signals in the loop. Only in the main thread."""
        signal.set_wakeup_fd(self._bell.signal_fileno(), warn_on_full_buffer=False)

        def handle(number: int, _frame: object) -> None:
            self.post(handlers[number])

        for number in handlers:
            signal.signal(number, handle)

    def run(
        self,
        is_reply_near: Callable[[], bool] = lambda: False,
        slack: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Run until `stop`.

        ``is_reply_near()``: something should be ready within microseconds, so poll for it instead
        of sleeping. ``slack()``: handle nothing for so many seconds, so that more events are
        handled together.
        """
        self._running = True
        while self._running:
            self._round(self._select(is_reply_near, slack))

    def run_until(self, is_over: Callable[[], bool], seconds: float) -> bool:
        """Run until ``is_over()``, for at most ``seconds``; return whether it is over.

        It is asked after each round, so `post` something where it may change outside of callbacks.
        """
        until = time.monotonic() + seconds
        timer = self.after(seconds, _nothing)
        try:
            while not is_over():
                if time.monotonic() >= until:
                    return False
                self._round(self._selector.select(self._timeout()))
            return True
        finally:
            timer.cancel()

    def stop(self) -> None:
        self._running = False

    def close(self) -> None:
        self._selector.close()
        self._bell.close()

    def _round(self, ready: list[tuple[selectors.SelectorKey, int]]) -> None:
        forgotten = self._forgotten
        forgotten.clear()
        for key, events in ready:
            if forgotten and any(key.fileobj is file for file in forgotten):
                # An earlier callback of this round closed it. Another file may have its number.
                continue
            on_ready, on_writable = key.data
            if events & selectors.EVENT_READ:
                on_ready()
            elif on_writable is not None:
                on_writable()
        timers = self._timers
        if timers:
            now = time.monotonic()
            while timers and timers[0][0] <= now:
                action = heapq.heappop(timers)[2].action
                if action is not None:
                    action()
        while self._posted:
            self._posted.popleft()()
        for action in self._after:
            action()

    def _select(
        self, is_reply_near: Callable[[], bool], slack: Callable[[], float]
    ) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for ready files and return them.

        It does not sleep if a reply is near.
        """
        timeout = self._timeout()
        if timeout != 0:
            rest = slack()
            if rest and (timeout is None or rest < timeout):
                # Not in the selector: a process that sends something then wakes no thread.
                time.sleep(rest)  # noqa: TID251 (nothing may end it early)
                return self._selector.select(timeout - rest if timeout is not None else None)
        until = self._busy_poll.begin() if timeout != 0 and is_reply_near() else 0
        while until:
            ready = self._selector.select(0)
            if ready:
                self._busy_poll.helped()
                return ready
            if time.monotonic_ns() > until:
                self._busy_poll.failed()
                break
            offer_cpu()
        return self._selector.select(timeout)

    def _timeout(self) -> float | None:
        if self._posted:
            return 0
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        if not timers:
            return None
        # epoll takes at most 24 days.
        return min(max(0.0, timers[0][0] - time.monotonic()), _LONGEST_SELECT)


def poll_selector() -> selectors.BaseSelector:
    """Make a selector for the threads of clients.

    It takes no file descriptor, which a forked child would share with its parent as it would an
    epoll, and takes file numbers above 1023 where there is poll.
    """
    return getattr(selectors, "PollSelector", selectors.SelectSelector)()


def _nothing() -> None:
    pass
