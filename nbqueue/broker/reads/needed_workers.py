"""Describe which worker a parked task needs, and whether one is alive."""

from __future__ import annotations

from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands.requirements import ask_capabilities, is_alive
from nbqueue.requirements import NEED, needed_worker
from nbqueue.transport.topology import Key
from nbqueue.wire.keys import SERVERS


class NeededWorkers:
    """Describes what parked tasks wait for; reads the store once for each queue."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._known: dict[str, tuple[Any, Any]] = {}

    def text(self, queue: str, state: str, parked: bytes | str | None) -> str:
        """Return what a task needs, in words; empty if it needs nothing.

        ``parked`` is that field of the task.

        >>> needs.text("default", "scheduled", "need:python=3.11")  # doctest: +SKIP
        'needs a worker with Python 3.11; none is alive'
        """
        if isinstance(parked, bytes):
            parked = parked.decode("utf-8", "replace")
        if state != "scheduled" or not parked or not parked.startswith(NEED):
            return ""
        requirement = parked[len(NEED) :]
        text = f"needs {needed_worker(requirement)}"
        return text if self._is_alive(queue, requirement) else f"{text}; none is alive"

    def _is_alive(self, queue: str, requirement: str) -> bool:
        if queue not in self._known:
            now_s = self._broker.clock.now_ms() // 1000
            members, servers = self._broker.try_call_each(
                zip((queue, Key(SERVERS)), ask_capabilities(queue, now_s), strict=True)
            )
            self._known[queue] = members, servers
        return is_alive(requirement, *self._known[queue])
