"""Listening for the end of a task while it is on its way into the store."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

S = TypeVar("S")


class Sending(Generic[S]):
    """Within this one task is sent; at its end, while the store works, its sink is made.

    The lock of those that wait is held meanwhile, so that the end of the task cannot be told before
    its sink is there. It may be used again if the task has to be sent again.
    """

    __slots__ = ("_expect", "_heard_on", "_lock", "_make", "generation", "sink")

    def __init__(
        self,
        lock: threading.Condition,
        heard_on: Callable[[], int],
        expect: Callable[[S], None],
        make: Callable[[], S],
    ) -> None:
        """``heard_on`` is called before the task is sent, for the `generation`, and ``expect``
        afterwards, with the ``lock`` held and the sink that ``make`` makes."""
        self._lock = lock
        self._heard_on = heard_on
        self._expect = expect
        self._make = make
        self.sink: S | None = None
        self.generation = 0
        """The number of the connection on which its end will be heard; 0: of none so far."""

    def __enter__(self) -> None:
        self.generation = self._heard_on()
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            if kind is None:
                if self.sink is None:
                    self.sink = self._make()
                self._expect(self.sink)
        finally:
            self._lock.release()
