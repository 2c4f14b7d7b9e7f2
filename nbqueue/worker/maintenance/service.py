"""Base classes of the services that maintain queues.

Each service is in a module of its own. Any number of workers may maintain one queue, so every
script of a service can be repeated without harm. `QueueWatcher` finds out what a queue needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbqueue.runtime.reactor import Timer
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused

ATTEMPT_DAYS = 7
"""Days for which the records of attempts are kept."""

_HORIZON = 60.0
"""Seconds. Later times get no timer: the queue is checked before."""


class Component:
    """A part of a worker that runs scripts over the maintenance connections."""

    def __init__(self, context: ServiceContext) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._clock = context.clock

    def _send(
        self, queue: str, command: Command[Any], on_reply: Callable[[Any], None] | None = None
    ) -> None:
        """Run a script of ``queue``.

        ``on_reply`` gets its decoded reply, or None after an error.
        """

        def read(reply: Any) -> None:
            value = checked(reply)
            if on_reply is not None:
                on_reply(value)

        self._connections.upkeep(queue).send(command, read)


class Service(Component):
    """Calls `run_once` every ``interval`` seconds while the store is connected."""

    def __init__(self, context: ServiceContext, interval: float) -> None:
        super().__init__(context)
        self._interval = interval
        self._timer: Timer | None = None
        context.connections.on_up.append(self._tick)
        context.connections.on_down.append(self.stop)

    def stop(self) -> None:
        """Pause until the store is connected again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        # Not by `stop`, which services override to drop state of the lost store.
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.after(self._interval, self._tick)
        self.run_once()

    def run_once(self) -> None:
        """Do the work of one turn."""
        raise NotImplementedError


class QueueTimers(Component):
    """One timer for each queue; calls ``action(queue)`` when it expires.

    The earliest of several times counts. Calls for one queue are at least ``gap`` seconds apart.
    """

    def __init__(
        self, context: ServiceContext, action: Callable[[str], None], gap: float = 0.0
    ) -> None:
        super().__init__(context)
        self._action = action
        self._gap = gap
        self._timers: dict[str, Timer] = {}
        self._ran_at: dict[str, float] = {}
        context.connections.on_down.append(self.clear)

    def clear(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._ran_at.clear()

    def is_set(self, queue: str) -> bool:
        """Return whether a timer is set for ``queue``."""
        return queue in self._timers

    def set(self, queue: str, due_ms: int) -> None:
        """Call the action at ``due_ms`` (Unix ms), or soon if that is past."""
        seconds = (due_ms - self._clock.now_ms()) / 1000
        if seconds > _HORIZON:
            return
        now = self._reactor.now()
        at = max(now, now + seconds, self._ran_at.get(queue, now - self._gap) + self._gap)
        timer = self._timers.get(queue)
        if timer is not None:
            if timer.at <= at:
                return
            timer.cancel()
        self._timers[queue] = self._reactor.after(at - now, lambda: self.run_now(queue))

    def run_now(self, queue: str) -> None:
        """Call the action at once, unless the store is away. Cancels the timer."""
        timer = self._timers.pop(queue, None)
        if timer is not None:
            timer.cancel()
        if self._connections.upkeep(queue).is_up:
            self._ran_at[queue] = self._reactor.now()
            self._action(queue)


def checked(reply: Any) -> Any:
    """Return ``reply``, or None after logging an error."""
    if isinstance(reply, ReplyError):
        refused("maintenance", reply)
        return None
    return reply
