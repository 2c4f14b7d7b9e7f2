"""Park tasks that need certain workers, and find those for this worker.

A worker parks a task that it cannot run, because another version of Python pickled its code, under
the requirement of the task. The store announces it to all workers, and those that meet the
requirement fetch it from there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import partial
from typing import Any

from nbqueue.broker.commands import requirements
from nbqueue.requirements import is_met, needed_worker
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")


class RequiredTasks:
    """The requirements that this worker meets and for which tasks are parked."""

    def __init__(self, context: ServiceContext, offered: frozenset[str]) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._queues = context.queues.weights
        self._offered = offered
        self.known: dict[str, set[str]] = {}
        """These requirements, by queue."""
        self._asked = 0
        context.connections.on_up.append(self._ask_all)
        context.connections.on_down.append(self._forget_all)

    @property
    def is_asking(self) -> bool:
        """True if a reply about parked tasks is expected."""
        return self._asked > 0

    def note(self, queue: str, requirements: Iterable[bytes]) -> None:
        """Note that tasks of ``queue`` are parked for these requirements."""
        if queue not in self._queues:
            return
        for raw in requirements:
            requirement = raw.decode("utf-8", "replace")
            if is_met(requirement, self._offered):
                self.known.setdefault(queue, set()).add(requirement)

    def on_announced(self, queue: str, requirement: bytes) -> None:
        """Handle the announcement that a task was parked."""
        self.note(queue, (requirement,))

    def discard(self, queue: str, requirement: str) -> None:
        """Forget a requirement whose parked tasks are all being fetched."""
        known = self.known.get(queue, set())
        known.discard(requirement)
        if not known:
            self.known.pop(queue, None)

    def look_later(self, queue: str, requirement: str, seconds: float) -> None:
        """Note the requirement again after some seconds.

        The queue gives no tasks now.
        """
        self._reactor.after(seconds, lambda: self.note(queue, (requirement.encode(),)))

    def look(self, queue: str) -> None:
        """Ask the store for which requirements tasks of ``queue`` are parked."""
        connection = self._connections.tasks(queue)
        if connection.is_up:
            self._asked += 1
            connection.call(("SMEMBERS", queue_keys(queue).requirements), partial(self._on, queue))

    def _ask_all(self) -> None:
        for queue in self._queues:
            self.look(queue)

    def _forget_all(self) -> None:
        self.known.clear()
        self._asked = 0

    def _on(self, queue: str, reply: Any) -> None:
        self._asked -= 1
        if isinstance(reply, ReplyError):
            refused(f"to say what tasks need queue={queue}", reply)
        else:
            self.note(queue, reply)


class Parking:
    """Parks tasks that this worker cannot run.

    Logs that once for each requirement.
    """

    def __init__(self, context: ServiceContext, acknowledger: Acknowledger) -> None:
        self._connections = context.connections
        self._clock = context.clock
        self._acknowledger = acknowledger
        self._logged: set[tuple[str, str]] = set()

    def park(self, attempt: Attempt, requirement: str) -> None:
        """Give up ``attempt`` to a worker that meets ``requirement``.

        The attempt has not begun.
        """
        self._acknowledger.ended(
            attempt,
            lambda now_ms, _: requirements.park_required(
                attempt.queue, attempt.task_id, attempt.fence, requirement, now_ms
            ),
            lambda parked: self._on_parked(attempt, requirement, parked),
        )

    def _on_parked(self, attempt: Attempt, requirement: str, parked: bool) -> None:
        connection = self._connections.upkeep(attempt.queue)
        place = (attempt.queue, requirement)
        if not parked or not connection.is_up or place in self._logged:
            return
        self._logged.add(place)
        members: list[Any] = []
        ask_members, ask_servers = requirements.ask_capabilities(
            attempt.queue, self._clock.now_ms() // 1000
        )
        connection.call(ask_members, members.append)
        self._connections.registry().call(
            ask_servers, lambda servers: self._log(attempt, requirement, members, servers)
        )

    @staticmethod
    def _log(attempt: Attempt, requirement: str, members: list[Any], servers: Any) -> None:
        if not members or isinstance(members[0], ReplyError) or isinstance(servers, ReplyError):
            return
        is_alive = requirements.is_alive(requirement, members[0], servers)
        log.log(
            logging.INFO if is_alive else logging.WARNING,
            "task parked: it needs %s%s id=%s type=%s queue=%s (said once for all such tasks)",
            needed_worker(requirement),
            "" if is_alive else "; none is alive",
            attempt.task_id,
            attempt.message.type,
            attempt.queue,
        )
