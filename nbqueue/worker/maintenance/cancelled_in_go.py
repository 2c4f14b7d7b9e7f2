"""End tasks that were cancelled while a Go program ran them."""

from __future__ import annotations

from functools import partial

from nbqueue.broker.commands import failure, maintenance
from nbqueue.calls.cancellation import cancellation
from nbqueue.transport.resp import ReplyError
from nbqueue.wire import fields, states
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.worker.maintenance.service import Component, QueueTimers, checked
from nbqueue.worker.service_context import ServiceContext

_SLICE = 200
_LOOK_MS = 1_000


class CancelFollower(Component):
    """Follows tasks that were cancelled while a Go program ran them.

    Go would retry them.

    The client lists them, each with the time until which it is followed. A task that waits for its
    next attempt is archived as cancelled; one that has ended is no longer followed. Any number of
    workers may do this.
    """

    def __init__(self, context: ServiceContext) -> None:
        super().__init__(context)
        self._keys = context.keys
        self._timers = QueueTimers(context, self._look, gap=_LOOK_MS / 1000)

    def follow(self, queue: str) -> None:
        """Look at the cancelled tasks of ``queue``, until none is left."""
        self._timers.set(queue, self._clock.now_ms())

    def _look(self, queue: str) -> None:
        words = ("ZRANGE", queue_keys(queue).cancels, 0, _SLICE - 1, "WITHSCORES")
        self._connections.upkeep(queue).call(words, partial(self._on_listed, queue))

    def _on_listed(self, queue: str, reply: list[bytes] | ReplyError) -> None:
        found = iter(checked(reply) or ())
        listed = list(zip(found, found, strict=True))
        for name, until in listed:
            task_id = name.decode("utf-8", "replace")
            if float(until) * 1000 < self._clock.now_ms():
                self._forget(queue, task_id)
            else:
                words = ("HMGET", queue_keys(queue).task(task_id), fields.MSG, fields.STATE)
                self._connections.upkeep(queue).call(words, partial(self._on_task, queue, task_id))
        if listed:
            self._timers.set(queue, self._clock.now_ms() + _LOOK_MS)

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
            new = failure.failed_message(msg, text, now_ms, counts=False)
            command = maintenance.cancel(queue, task_id, msg, new, body, now_ms)
            self._send(queue, command, partial(self._on_cancelled, queue, task_id))
        else:
            # Go ignores a cancellation between fetching a task and beginning it: repeat it.
            self._connections.registry().call(("PUBLISH", CANCEL_CHANNEL, task_id), checked)

    def _on_cancelled(self, queue: str, task_id: str, word: str | None) -> None:
        if word not in ("CHANGED", states.ACTIVE, None):
            self._forget(queue, task_id)

    def _forget(self, queue: str, task_id: str) -> None:
        words = ("ZREM", queue_keys(queue).cancels, task_id)
        self._connections.upkeep(queue).call(words, checked)
