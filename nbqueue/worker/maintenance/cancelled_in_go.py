"""Sees to it that tasks which were cancelled while they ran in a program in Go end cancelled."""

from __future__ import annotations

from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.calls.cancellation import cancellation
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.wire import fields, states
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.service import Alarms, Part, checked

_SLICE = 200
_LOOK_MS = 1_000


class CancelFollower(Part):
    """Follows tasks that a client cancelled while they ran in Go, which retries them.

    The client lists them, with the time until which they are to be followed. One that waits for its
    next attempt is archived as cancelled; one that ended in whatever way is no longer followed. Any
    number of workers may do this.
    """

    def __init__(
        self, reactor: Reactor, links: WorkerConnections, clock: Clock, keys: Keyring
    ) -> None:
        super().__init__(reactor, links, clock)
        self._keys = keys
        self._alarms = Alarms(reactor, links, clock, self._look, gap=_LOOK_MS / 1000)

    def follow(self, queue: str) -> None:
        """There are such tasks in this queue."""
        self._alarms.set(queue, self._clock.now_ms())

    def _look(self, queue: str) -> None:
        words = ("ZRANGE", queue_keys(queue).cancels, 0, _SLICE - 1, "WITHSCORES")
        self._ask(words, partial(self._on_listed, queue))

    def _ask(self, words: tuple[Any, ...], on_reply: Any = checked) -> None:
        link = self._links.upkeep
        if link is not None:
            link.call(words, on_reply)

    def _on_listed(self, queue: str, reply: list[bytes] | ReplyError) -> None:
        found = iter(checked(reply) or ())
        listed = list(zip(found, found, strict=True))
        for name, until in listed:
            task_id = name.decode("utf-8", "replace")
            if float(until) * 1000 < self._clock.now_ms():
                self._forget(queue, task_id)
            else:
                words = ("HMGET", queue_keys(queue).task(task_id), fields.MSG, fields.STATE)
                self._ask(words, partial(self._on_task, queue, task_id))
        if listed:
            self._alarms.set(queue, self._clock.now_ms() + _LOOK_MS)

    def _on_task(self, queue: str, task_id: str, reply: list[bytes | None] | ReplyError) -> None:
        if isinstance(reply, ReplyError):
            self._forget(queue, task_id)  # the key holds no task
            return
        msg, state = reply
        word = (state or b"").decode("utf-8", "replace")
        if msg is None or not word or word in states.FINAL:
            self._forget(queue, task_id)
        elif word != states.ACTIVE:
            text, unsigned = cancellation()
            now_ms = self._clock.now_ms()
            body = self._keys.sign_result(unsigned, task_id)
            new = lifecycle.failed_message(msg, text, now_ms, counts=False)
            command = lifecycle.cancel(queue, task_id, msg, new, body, now_ms)
            self._send(command, partial(self._on_cancelled, queue, task_id))
        else:
            # Go forgets what it is told of a task that it has fetched and not yet begun.
            self._ask(("PUBLISH", CANCEL_CHANNEL, task_id))

    def _on_cancelled(self, queue: str, task_id: str, word: str | None) -> None:
        if word not in ("CHANGED", states.ACTIVE, None):
            self._forget(queue, task_id)

    def _forget(self, queue: str, task_id: str) -> None:
        self._ask(("ZREM", queue_keys(queue).cancels, task_id))
