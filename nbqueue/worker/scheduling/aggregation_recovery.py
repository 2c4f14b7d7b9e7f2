"""Return members of abandoned aggregation sets, and find unlisted groups.

Every worker does this, with or without an aggregator. Otherwise the members of a dead worker's set
would wait forever, and so would a group that programs in Go fill without listing its name.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from nbqueue.broker.commands import aggregation
from nbqueue.broker.commands.aggregation import Set
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused

log = logging.getLogger("nbqueue.worker")

_SETS = 200
_LOOK_FOR_NAMES = 60.0
_NOTE_AGAIN = 3600.0
_SLICE = 200


class AggregationRecovery(Service):
    """Looks for expired aggregation sets and for unlisted groups.

    For sets every few seconds, in queues that have some; for groups once a minute.
    """

    def __init__(self, context: ServiceContext, interval: float = 5.0) -> None:
        self._queues = context.queues.names
        self._noted: dict[tuple[str, str], float] = {}
        self._looked_at = -_LOOK_FOR_NAMES
        self._with_sets: set[str] = set()
        super().__init__(context, interval)

    def note(self, queue: str, has_sets: bool) -> None:
        """Note whether ``queue`` has sets."""
        if not has_sets:
            self._with_sets.discard(queue)
        elif queue not in self._with_sets:
            self._with_sets.add(queue)
            self._look(queue)

    def run_once(self) -> None:
        is_time = self._reactor.now() - self._looked_at >= _LOOK_FOR_NAMES
        if is_time:
            self._looked_at = self._reactor.now()
            self._forget_notes()
        for queue in self._queues:
            if queue in self._with_sets:
                self._look(queue)
            if is_time:
                key = queue_keys(queue).groups
                self._call(queue, ("SMEMBERS", key), partial(self._on_groups, queue))
                self._restore(queue, 0)

    def _look(self, queue: str) -> None:
        self._call(
            queue,
            ("ZRANGE", queue_keys(queue).aggregation_sets, 0, _SETS - 1, "WITHSCORES"),
            partial(self._on_sets, queue),
        )

    def _call(self, queue: str, words: tuple[Any, ...], on_reply: Any) -> None:
        def read(reply: Any) -> None:
            if isinstance(reply, ReplyError):
                refused("to give aggregation sets", reply)
            else:
                on_reply(reply)

        self._connections.upkeep(queue).call(words, read)

    def _on_sets(self, queue: str, reply: list[bytes]) -> None:
        """Return the members of expired sets, and note the groups of other sets."""
        now_s = self._clock.now_ms() // 1000
        others = []
        for key, score in zip(reply[::2], reply[1::2], strict=True):
            chosen = aggregation.set_of(queue, key)
            if chosen is None:
                log.error("aggregation set without a group dropped queue=%s key=%r", queue, key)
                words = ("ZREM", queue_keys(queue).aggregation_sets, key)
                self._call(queue, words, lambda reply: None)
            elif float(score) <= now_s:
                log.info("members of a lost set go back queue=%s group=%s", queue, chosen.group)
                self._reclaim(queue, chosen, now_s)
            else:
                others.append(chosen.group)
        self._note(queue, others)

    def _reclaim(self, queue: str, chosen: Set, now_s: int) -> None:
        self._send(
            queue,
            aggregation.reclaim_set(queue, chosen, now_s),
            lambda left: self._reclaim(queue, chosen, now_s) if left else None,
        )

    def _on_groups(self, queue: str, reply: list[bytes]) -> None:
        self._note(queue, [name.decode("utf-8", "replace") for name in reply])

    def _note(self, queue: str, groups: list[str]) -> None:
        """List the names of groups that were not listed recently."""
        new = [group for group in dict.fromkeys(groups) if (queue, group) not in self._noted]
        now = self._reactor.now()
        for start in range(0, len(new), _SLICE):
            part = new[start : start + _SLICE]
            self._noted.update(((queue, group), now) for group in part)
            command = aggregation.note_groups(queue, part, self._clock.now_ms())
            self._send(queue, command)

    def _forget_notes(self) -> None:
        oldest = self._reactor.now() - _NOTE_AGAIN
        self._noted = {key: at for key, at in self._noted.items() if at > oldest}

    def _restore(self, queue: str, start: int) -> None:
        self._send(
            queue,
            aggregation.restore_groups(queue, start, self._clock.now_ms()),
            lambda more: self._restore(queue, more) if more is not None else None,
        )
