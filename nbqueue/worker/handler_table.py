"""Find the handler of a message: the worker's own, or one in the store.

The supervisor loads none of them; executors do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import COROUTINE, requirement_of
from nbqueue.errors import SignatureError
from nbqueue.executor.pipe import NO_CODE
from nbqueue.tasks.message_handlers import HandlerPatterns
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import HANDLER_TYPE, queue_keys
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")


class FoundHandler(NamedTuple):
    """A handler of messages.

    ``fingerprint``: of its code; `NO_CODE` for one of the worker's own. ``requirement``: what it
    needs of the worker that runs it, or None.
    """

    fingerprint: bytes
    is_async: bool
    requirement: str | None = None


class HandlerTable:
    """Handlers by queue and pattern.

    ``patterns`` are those of the worker's own handlers, each with whether it is async. For equal
    patterns a handler from the store goes first; it counts only with a valid signature.
    """

    def __init__(
        self, keys: Keyring, queues: Iterable[str], patterns: Sequence[tuple[str, bool]]
    ) -> None:
        self._keys = keys
        self._own = {pattern: FoundHandler(NO_CODE, is_async) for pattern, is_async in patterns}
        self._by_queue = {queue: self._merged({}) for queue in queues}

    def find(self, queue: str, task_type: str) -> FoundHandler | None:
        """Return the handler of messages of ``task_type`` in ``queue``, or None."""
        table = self._by_queue.get(queue)
        return table.find(task_type) if table is not None else None

    def add(self, queue: str) -> None:
        """Add a queue, with the worker's own handlers."""
        self._by_queue[queue] = self._merged({})

    def forget(self, queue: str) -> None:
        """Remove a queue."""
        self._by_queue.pop(queue, None)

    def update(self, queue: str, reply: list[bytes]) -> None:
        """Update the handlers of ``queue`` from a reply: patterns and envelopes."""
        served: dict[str, FoundHandler] = {}
        for raw, envelope in zip(reply[::2], reply[1::2], strict=True):
            pattern = raw.decode("utf-8", "replace")
            try:
                call = self._keys.verify_call(envelope, pattern, queue, HANDLER_TYPE)
            except SignatureError as error:
                log.error("handler refused queue=%s pattern=%r error=%s", queue, pattern, error)
                continue
            except Exception as error:
                set_aside("handler", f"{queue} {pattern}", error)
                continue
            needs = requirement_of(call)
            served[pattern] = FoundHandler(call.fingerprint, bool(call.flags & COROUTINE), needs)
        self._by_queue[queue] = self._merged(served)

    def _merged(self, served: dict[str, FoundHandler]) -> HandlerPatterns[FoundHandler]:
        table: HandlerPatterns[FoundHandler] = HandlerPatterns()
        for pattern, found in {**self._own, **served}.items():
            table.add(pattern, found)
        return table


class StoredHandlers:
    """Keeps ``table`` equal to the store.

    Reads it when the store is connected, and after each change.
    """

    def __init__(self, context: ServiceContext, table: HandlerTable) -> None:
        self._connections = context.connections
        self._queues = context.queues.names
        self.table = table
        self._then: dict[str, list[Callable[[], None]]] = {}
        context.connections.on_up.append(self.refresh)

    def add(self, queue: str) -> None:
        """Add a queue; its handlers are read before its tasks are fetched."""
        self.table.add(queue)
        self.ask(queue, lambda: None)

    def forget(self, queue: str) -> None:
        """Remove a queue."""
        self.table.forget(queue)

    def ask(self, queue: str, then: Callable[[], None]) -> None:
        """Read the handlers of ``queue`` again; then call ``then``."""
        waiting = self._then.setdefault(queue, [])
        waiting.append(then)
        if len(waiting) == 1:
            self._read(queue)

    def refresh(self) -> None:
        """Read the handlers of all queues again."""
        for queue in self._queues:
            self._read(queue)

    def _read(self, queue: str) -> None:
        # Over the connection of the tasks, so that the reply comes before theirs.
        words = ("HGETALL", queue_keys(queue).handlers)
        self._connections.tasks(queue).call(words, partial(self._on_reply, queue))

    def _on_reply(self, queue: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give handlers queue={queue}", reply)
        else:
            self.table.update(queue, reply)
        for then in self._then.pop(queue, ()):
            then()
