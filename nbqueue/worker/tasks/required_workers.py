"""Tasks that need a certain worker: those that this one parks, and those that it may take.

A worker that fetched a task that it cannot run, as another version of Python pickled its code,
parks it under what it needs. Workers that meet this are told, and take it from there: it does not
come by here again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from nbqueue.broker.commands import requirements
from nbqueue.clock import Clock
from nbqueue.requirements import is_met, needed_worker
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")


class RequiredTasks:
    """Knows the requirements that this worker meets, and that tasks are parked for."""

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        queues: Sequence[str],
        offered: frozenset[str],
    ) -> None:
        self._reactor = reactor
        self._links = links
        self._queues = queues
        self._offered = offered
        self._known: dict[str, set[str]] = {}
        self._asked = 0
        links.on_up.append(self._ask_all)
        links.on_down.append(self._forget_all)

    def __bool__(self) -> bool:
        return bool(self._known)

    @property
    def is_asking(self) -> bool:
        """Whether the store has not said yet what tasks are parked for."""
        return self._asked > 0

    def of(self, queue: str) -> str | None:
        """A requirement for which tasks of ``queue`` are parked that may come here."""
        known = self._known.get(queue)
        return next(iter(known)) if known else None

    def note(self, queue: str, requirements: Iterable[bytes]) -> None:
        """Tasks of ``queue`` are parked for these requirements."""
        if queue not in self._queues:
            return
        for raw in requirements:
            requirement = raw.decode("utf-8", "replace")
            if is_met(requirement, self._offered):
                self._known.setdefault(queue, set()).add(requirement)

    def told(self, queue: str, requirement: bytes) -> None:
        """A worker parked a task for this one."""
        self.note(queue, (requirement,))

    def discard(self, queue: str, requirement: str) -> None:
        """All that is parked for it is fetched."""
        known = self._known.get(queue, set())
        known.discard(requirement)
        if not known:
            self._known.pop(queue, None)

    def look_later(self, queue: str, requirement: str, seconds: float) -> None:
        """Look again at what is parked for it: the queue gives nothing just now."""
        self._reactor.after(seconds, lambda: self.note(queue, (requirement.encode(),)))

    def look(self, queue: str) -> None:
        """Ask what tasks of ``queue`` are parked for."""
        link = self._links.tasks
        if link is not None:
            self._asked += 1
            link.call(("SMEMBERS", queue_keys(queue).requirements), partial(self._on, queue))

    def _ask_all(self) -> None:
        for queue in self._queues:
            self.look(queue)

    def _forget_all(self) -> None:
        self._known.clear()
        self._asked = 0

    def _on(self, queue: str, reply: Any) -> None:
        self._asked -= 1
        if isinstance(reply, ReplyError):
            refused(f"to say what tasks need queue={queue}", reply)
        else:
            self.note(queue, reply)


class Parking:
    """Parks tasks that this worker cannot run, and says so once for each requirement."""

    def __init__(self, links: WorkerConnections, clock: Clock, finisher: Acknowledger) -> None:
        self._links = links
        self._clock = clock
        self._finisher = finisher
        self._said: set[tuple[str, str]] = set()

    def park(self, run: Attempt, requirement: str) -> None:
        """Give up ``run``, which has not begun, to a worker that meets ``requirement``."""
        self._finisher.otherwise(
            run,
            lambda now_ms, _: requirements.park_required(
                run.queue, run.task_id, run.fence, requirement, now_ms
            ),
            lambda parked: self._on_parked(run, requirement, parked),
        )

    def _on_parked(self, run: Attempt, requirement: str, parked: bool) -> None:
        link = self._links.upkeep
        place = (run.queue, requirement)
        if not parked or link is None or place in self._said:
            return
        self._said.add(place)
        members: list[Any] = []
        ask_members, ask_servers = requirements.ask_capabilities(
            run.queue, self._clock.now_ms() // 1000
        )
        link.call(ask_members, members.append)
        link.call(ask_servers, lambda servers: self._say(run, requirement, members, servers))

    @staticmethod
    def _say(run: Attempt, requirement: str, members: list[Any], servers: Any) -> None:
        if not members or isinstance(members[0], ReplyError) or isinstance(servers, ReplyError):
            return
        is_alive = requirements.is_alive(requirement, members[0], servers)
        log.log(
            logging.INFO if is_alive else logging.WARNING,
            "task parked: it needs %s%s id=%s type=%s queue=%s (said once for all such tasks)",
            needed_worker(requirement),
            "" if is_alive else "; none is alive",
            run.task_id,
            run.message.type,
            run.queue,
        )
