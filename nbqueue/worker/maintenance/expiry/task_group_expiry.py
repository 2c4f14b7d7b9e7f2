"""Delete the records of task groups whose members are all gone from the store.

Members are deleted by scripts in other slots, and by programs in Go. So each group has a time at
which any worker looks for a member that still exists, from where the last look found one. The next
look is at the end of that member's retention.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import Any

from nbqueue.broker.commands.task_groups import (
    COMPLETED,
    GONE,
    MOST_READ,
    claim_task_group,
    forget_task_group,
    member_states,
    record_task_group,
    unname_task_group,
)
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.wire.decoding import pairs, text, time_ms
from nbqueue.wire.keys import stored_keys
from nbqueue.wire.task_groups.task_group_keys import TaskGroupKeys, index_keys
from nbqueue.wire.task_groups.task_group_record import TaskGroupRecord, read_record
from nbqueue.worker.maintenance.service import Component, Service, checked
from nbqueue.worker.service_context import ServiceContext

log = logging.getLogger("nbqueue.worker")

_MOST_DUE = 100
"""Groups of one index that one turn takes."""

_CLAIM_MS = 600_000
_SOONEST_MS, _LATEST_MS = 60_000, 86_400_000
"""Milliseconds from one look at a group to the next, at least and at most."""

_UNENDED_MS = 3_600_000
"""Milliseconds to the next look if the member that exists has not ended."""


class TaskGroupExpiry(Service):
    """Looks every ten minutes for groups whose look is due, and then at one after the other."""

    def __init__(self, context: ServiceContext, interval: float = 600.0) -> None:
        self._context = context
        self._due: deque[tuple[str, bytes]] = deque()
        self._look: _Look | None = None
        super().__init__(context, interval)

    def stop(self) -> None:
        super().stop()
        self._due.clear()
        self._look = None

    def run_once(self) -> None:
        now_ms, registry = self._clock.now_ms(), self._connections.registry()
        for key in index_keys():
            registry.call(
                ("ZRANGEBYSCORE", key, "-inf", now_ms, "WITHSCORES", "LIMIT", 0, _MOST_DUE),
                self._on_due,
            )

    def _on_due(self, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            return  # this user may have the keys of some queues only
        self._due += [(text(group_id), score) for group_id, score in pairs(reply)]
        if self._look is None:
            self._next()

    def _next(self) -> None:
        self._look = None
        if self._due:
            self._look = _Look(self._context, *self._due.popleft(), self._next)
            self._look.begin()


class _Look(Component):
    """One look at a group, by the worker that claims it.

    Ends if the store is lost; the group is due again when the claim runs out.
    """

    def __init__(
        self, context: ServiceContext, group_id: str, score: bytes, then: Callable[[], None]
    ) -> None:
        super().__init__(context)
        self._group_id = group_id
        self._score = score
        self._then = then
        self._claim_ms = self._clock.now_ms() + _CLAIM_MS

    def begin(self) -> None:
        self._run(claim_task_group(self._group_id, self._score, self._claim_ms), self._on_claimed)

    def _run(self, command: Command[Any], on_reply: Callable[[Any], None]) -> None:
        self._connections.registry().send(command, lambda reply: on_reply(checked(reply)))

    def _on_claimed(self, is_claimed: bool | None) -> None:
        if not is_claimed:
            self._then()
            return
        keys, registry = TaskGroupKeys(self._group_id), self._connections.registry()
        replies: list[Any] = []
        registry.call(("HGETALL", keys.record), replies.append)
        registry.call(
            ("LRANGE", keys.members, 0, -1), lambda entries: self._on_record(replies[0], entries)
        )

    def _on_record(self, fields: Any, entries: Any) -> None:
        if isinstance(fields, ReplyError) or isinstance(entries, ReplyError):
            self._then()  # another program keeps something there
            return
        record = read_record(self._group_id, dict(pairs(fields)), entries)
        if record is None:
            self._forget()
        else:
            self._search(record, record.check_from)

    def _search(self, record: TaskGroupRecord, start: int) -> None:
        """Look at the next members, from ``start`` on."""
        part = record.members.part(start, start + MOST_READ)
        if not part:
            self._on_none(record)
            return

        def on_letters(letters: str | None) -> None:
            if letters is None:
                self._then()
                return
            gone = len(letters) - len(letters.lstrip(GONE))
            if gone == len(letters):
                self._search(record, start + MOST_READ)
            else:
                self._on_found(record, start + gone, letters[gone])

        self._send(record.queue, member_states(record.queue, part), on_letters)

    def _on_found(self, record: TaskGroupRecord, position: int, letter: str) -> None:
        if letter != COMPLETED:
            self._keep(position, self._clock.now_ms() + _UNENDED_MS)
            return
        keys, task_id = stored_keys(record.queue), record.members.id_at(position)

        def on_score(score: Any) -> None:
            until_ms = None if isinstance(score, ReplyError) else time_ms(score, 1000)
            self._keep(position, until_ms or 0)

        self._connections.upkeep(record.queue).call(("ZSCORE", keys.completed, task_id), on_score)

    def _keep(self, position: int, check_ms: int) -> None:
        """Look again at ``check_ms``, at this member first."""
        now_ms = self._clock.now_ms()
        soonest = max(check_ms, now_ms + _SOONEST_MS, self._claim_ms + 1)
        check_ms = min(soonest, now_ms + _LATEST_MS)
        fields = {"check_from": str(position)}
        self._run(
            record_task_group(self._group_id, fields, check_ms=check_ms), lambda _: self._then()
        )

    def _on_none(self, record: TaskGroupRecord) -> None:
        # The name goes first: if this worker is killed here, the record is looked at again.
        if record.name is None:
            self._forget()
        else:
            command = unname_task_group(self._group_id, record.name)
            self._run(command, lambda _: self._forget())

    def _forget(self) -> None:
        def on_reply(is_forgotten: bool | None) -> None:
            if is_forgotten:
                log.debug("task group forgotten group=%s", self._group_id)
            self._then()

        self._run(forget_task_group(self._group_id, self._claim_ms), on_reply)
