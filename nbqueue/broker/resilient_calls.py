"""Calling the store again and again while it is away: what a `Broker` does everything with."""

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
from nbqueue.wire.keys import queue_keys

T = TypeVar("T")

PATIENCE = 10.0
"""Seconds for which a call goes on trying while the store is away."""

MEASURE_SECONDS = 60.0
"""After so long the store is asked again what time it is."""


class ResilientCaller:
    """Runs scripts and commands over one connection, which threads may share.

    All of them may be called again after a lost connection without doing harm; that is done here,
    for up to ``patience`` seconds, and then `StoreUnreachable` is raised.
    """

    def __init__(self, store: Store, patience: float = PATIENCE) -> None:
        self.store = store
        self.clock = Clock()
        self._channel = BlockingConnection(store)
        self._patience = patience
        self._confirms = store.waits_for_fsync
        self.measure_clock()

    def measure_clock(self) -> None:
        """Ask the store what time it is; so do calls and new tasks on their way, now and then."""
        self._patiently(self._timed_call)

    def _timed_call(self, *calls: Sequence[Arg]) -> list[Any]:
        sent_at = steady_time()
        *replies, (seconds, micros) = self._channel.call(*calls, ("TIME",))
        self.clock.measured(sent_at, steady_time(), int(seconds) + int(micros) / 1e6)
        return replies

    def _check_rights(self, queue: str) -> None:
        """Raise `StoreDenied` unless our user may run scripts on the keys of ``queue``: else its
        name would stay where no task can follow."""
        keys = queue_keys(queue)
        try:
            # The server looks at rights before it looks for the script, which there is not.
            self._channel.call(("EVALSHA", "none", 2, keys.pending, keys.events))
        except (StoreDenied, StoreUnreachable):
            raise
        except StoreError:
            pass

    def run(self, command: Command[T]) -> T:
        """Run one script; again after a lost connection."""
        return cast("T", self.run_all((command,))[0])

    def run_all(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """Run scripts in one round trip; again, all of them, after a lost connection: ``batch`` is
        then gone through once more."""
        return self._patiently(lambda: self._channel.run(batch))

    def call(self, *calls: Sequence[Arg]) -> list[Any]:
        """Run plain commands that may be repeated, in one round trip."""
        call = self._timed_call if self.clock.age() > MEASURE_SECONDS else self._channel.call
        return self._patiently(lambda: call(*calls))

    def publish(self, channel: str, text: str) -> None:
        """Tell whoever listens, if our user may: it is a hint that nobody has to wait for."""
        with contextlib.suppress(StoreDenied):
            self.call(("PUBLISH", channel, text))

    def try_run(self, batch: Iterable[Command[Any]]) -> list[Any]:
        """As `run_all`; see `BlockingConnection.try_run` for keys that hold something else."""
        return self._patiently(lambda: self._channel.try_run(batch))

    def try_call(self, *calls: Sequence[Arg]) -> list[Any]:
        """As `call`; see `BlockingConnection.try_call` for keys that hold something else."""
        return self._patiently(lambda: self._channel.try_call(*calls))

    def run_confirmed(self, command: Command[T]) -> T:
        """Run a script that writes something, as `run` does, and wait until that is confirmed."""

        def ask() -> T:
            number = self._sent_over()
            [reply] = self._channel.run((command,))
            self._confirm(number)
            return cast("T", reply)

        return self._patiently(ask)

    def _sent_over(self) -> int:
        """The number of the connection, if what is sent over it is to be confirmed."""
        return self._channel.number if self._confirms else 0

    def _confirm(self, number: int) -> None:
        """Wait until what was written is on disk, if this client asked for that. ``number`` is that
        of the connection before: over another one it may have been written to another server."""
        if self._confirms:
            self._channel.confirm(number, self._patience)

    def _patiently(self, ask: Callable[[], T]) -> T:
        patience, was_sent = CallDeadline(self._patience), False
        while True:
            try:
                return ask()
            except StoreUnreachable as error:
                was_sent = error.was_sent = was_sent or error.was_sent
                if not patience.wait():
                    raise

    def gather(self, reads: Reads) -> bytes | None:
        """Read pieces into one place; None if they are not there, or are others."""
        return self._patiently(lambda: self._channel.gather(*reads))

    def close(self) -> None:
        self._channel.close()
