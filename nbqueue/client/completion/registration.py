"""Listening for the end of a task while it is on its way into the store."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

S = TypeVar("S")


class Registration(Generic[S]):
    """What is to be done around the sending of one task: at its end, while the store works, its
    sink is made.

    The ``lock`` of those that wait is held from `begin` to `end`, so that the end of the task
    cannot be told before its sink is there. If it has to be sent again, it is for the same sink.
    """

    __slots__ = ("_expect", "_heard_on", "_make", "generation", "lock", "sink")

    def __init__(
        self,
        lock: AbstractContextManager[Any],
        heard_on: Callable[[], int],
        expect: Callable[[S], None],
        make: Callable[[], S],
    ) -> None:
        """``heard_on`` is called before the task is sent, for the `generation`, and ``expect``
        afterwards, with the sink that ``make`` makes."""
        self.lock = lock
        self._heard_on = heard_on
        self._expect = expect
        self._make = make
        self.sink: S | None = None
        self.generation = 0
        """The number of the connection on which its end will be heard; 0: of none so far."""

    def begin(self) -> None:
        """It is about to be sent."""
        if self.sink is None:
            self.generation = self._heard_on()

    def end(self) -> None:
        """It was sent, or there is nobody to hear it now: it may be sent later."""
        if self.sink is None:
            sink = self._make()
            self._expect(sink)
            self.sink = sink
