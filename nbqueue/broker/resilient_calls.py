"""Repeat calls while the store is away."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

from nbqueue.broker.call_deadline import CallDeadline
from nbqueue.broker.large_values import Reads
from nbqueue.clock import Clock, steady_time
from nbqueue.errors import StoreDenied, StoreError, StoreUnreachable
from nbqueue.store.connection import Store
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.script_call import Arg, Command
from nbqueue.transport.topology import ANYWHERE, Key, Place
from nbqueue.wire.keys import CONFIRM_KEY, queue_keys

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for which a call is repeated while the store is away."""

MEASURE_SECONDS = 60.0
"""Seconds after which the store is asked for its time again."""


class ResilientCaller:
    """Runs scripts and commands, and repeats them while the store is away.

    Everything may be called again after a lost connection without doing harm. That is done here
    for up to ``patience`` seconds; then `StoreUnreachable` is raised. Threads may share it.

    Plain commands are given with the place that they concern, by which they are routed: the name
    of a queue, a `Key` that belongs to no queue, or `ANYWHERE`.
    """

    def __init__(
        self, store: Store, patience: float = PATIENCE, clock: Clock | None = None
    ) -> None:
        self.store = store
        self.clock = clock or Clock()
        self._router = store.new_router(self.clock.restart)
        self._patience = patience
        self._confirmation = store.confirmation
        self.measure_clock()

    def measure_clock(self) -> None:
        """Ask the store for its time.

        Calls and new tasks do so too, now and then.
        """
        self._patiently(lambda: self._timed_call(on=ANYWHERE))

    def _timed_call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """Run plain commands and measure the clock, mostly in the same round trip.

        A cluster's time is always asked of the same node.
        """
        connection, clock = self._router.connection(on), self._router.connection(ANYWHERE)
        before: list[Any] = []
        if clock is not connection and calls:
            before, calls = connection.call(*calls), ()
        clock.open()  # or the answer would seem late
        sent_at = steady_time()
        *replies, (seconds, micros) = clock.call(*calls, ("TIME",))
        self.clock.measured(sent_at, steady_time(), int(seconds) + int(micros) / 1e6)
        return before or replies

    def _check_rights(self, queue: str) -> None:
        """Raise `StoreDenied` unless the user may run scripts on the keys of ``queue``.

        The name of the queue is registered after this; otherwise it would stay where no task can
        follow.
        """
        keys = queue_keys(queue)
        try:
            # The server checks rights before it looks for the script, which does not exist.
            self._router.connection(queue).call(("EVALSHA", "none", 2, keys.pending, keys.events))
        except (StoreDenied, StoreUnreachable):
            raise
        except StoreError:
            pass

    def run(self, command: Command[T]) -> T:
        """Run one script; again after a lost connection."""
        return cast("T", self.run_all((command,))[0])

    def run_all(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Run scripts in one round trip, and repeat all after a lost connection.

        ``batch`` is then iterated over once more.
        """
        return self._patiently(lambda: self._router.run(batch))

    def try_run(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Like `run_all`, with `StoreDamaged` in place of a reply that cannot be read."""
        return self._patiently(lambda: self._router.try_run(batch))

    def call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """Run plain commands that concern one place, in one round trip.

        They may be repeated.
        """
        if self.clock.age() > MEASURE_SECONDS:
            return self._patiently(lambda: self._timed_call(*calls, on=on))
        return self._patiently(lambda: self._router.connection(on).call(*calls))

    def try_call(self, *calls: Sequence[Arg], on: Place) -> list[Any]:
        """Like `call`, with `StoreDamaged` in place of a reply that cannot be read."""
        return self._patiently(lambda: self._router.connection(on).try_call(*calls))

    def call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        """Run plain commands that concern several places, each given with its own.

        Replies are in the order of the calls.
        """
        calls = list(calls)
        return self._patiently(lambda: self._router.call_each(calls))

    def try_call_each(self, calls: Iterable[tuple[Place, Sequence[Arg]]]) -> list[Any]:
        """Like `call_each`, with `StoreDamaged` in place of a reply that cannot be read."""
        calls = list(calls)
        return self._patiently(lambda: self._router.try_call_each(calls))

    def publish(self, channel: str, text: str) -> None:
        """Publish a hint that nothing depends on.

        Has no effect if the user of the connection may not publish.
        """
        with contextlib.suppress(StoreDenied):
            self.call(("PUBLISH", channel, text), on=Key(channel))

    def run_confirmed(self, command: Command[T]) -> T:
        """Run a script like `run`, and wait until its writes are as safe as this client asked."""
        connection = self._router.connection(Key(command.keys[0]))

        def ask() -> T:
            number = connection.number
            [reply] = connection.run((command,))
            self._confirm(connection, number)
            return cast("T", reply)

        return self._patiently(ask)

    def _confirm(self, connection: BlockingConnection, number: int) -> None:
        """Wait until writes are on disk or on a replica, if this client asked for that.

        ``number`` is that of the connection before: over a later one, the data may have been
        written to another server.
        """
        if self._confirmation is not None:
            connection.confirm(number, self._patience, CONFIRM_KEY, self._confirmation)

    def _patiently(self, ask: Callable[[], T]) -> T:
        patience, was_sent = CallDeadline(self._patience), False
        while True:
            try:
                return ask()
            except StoreUnreachable as error:
                was_sent = error.was_sent = was_sent or error.was_sent
                if not patience.wait():
                    raise

    def gather(self, reads: Reads, *, on: Place) -> bytes | None:
        """Read pieces into one place; None if any is missing or unexpected."""
        return self._patiently(lambda: self._router.connection(on).gather(*reads))

    def close(self) -> None:
        self._router.close()
