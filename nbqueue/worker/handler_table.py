"""Which handler serves a message: those of the worker's owner, and those that lie in the store."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import COROUTINE, requirement_of
from nbqueue.errors import SignatureError
from nbqueue.executor.pipe import NO_CODE
from nbqueue.tasks.message_handlers import HandlerPatterns
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.keys import HANDLER_TYPE, queue_keys
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.unreadable_data import set_aside

log = logging.getLogger("nbqueue.worker")


class Found(NamedTuple):
    """A handler: the fingerprint of its code (`NO_CODE`: the owner's), whether it is async, and
    what it needs of the worker that runs it (None: nothing)."""

    fingerprint: bytes
    is_async: bool
    requirement: str | None = None


class HandlerTable:
    """Handlers by queue and pattern; the supervisor loads none of them.

    ``patterns`` are the owner's, each with whether it is async. What lies in the store is read
    whenever the store comes up, ahead of any task, and when a change is announced. It counts only
    if a holder of the signing key put it there; for equal patterns it goes before the owner's.
    """

    def __init__(
        self,
        links: WorkerConnections,
        keys: Keyring,
        queues: Sequence[str],
        patterns: Sequence[tuple[str, bool]],
    ) -> None:
        self._links = links
        self._keys = keys
        self._queues = queues
        self._own = dict(patterns)
        self._by_queue = {queue: self._merged({}) for queue in queues}
        self._then: dict[str, list[Callable[[], None]]] = {}
        links.on_up.append(self.refresh)

    def find(self, queue: str, task_type: str) -> Found | None:
        """What serves messages of ``task_type`` in ``queue``."""
        table = self._by_queue.get(queue)
        return table.find(task_type) if table is not None else None

    def add(self, queue: str) -> None:
        """``queue`` is served from now on; what lies in the store for it is read ahead of tasks."""
        self._by_queue[queue] = self._merged({})
        self.ask(queue, lambda: None)

    def forget(self, queue: str) -> None:
        """``queue`` is not served any more."""
        self._by_queue.pop(queue, None)

    def ask(self, queue: str, then: Callable[[], None]) -> None:
        """Look whether the store has something newer; then call ``then``."""
        waiting = self._then.setdefault(queue, [])
        waiting.append(then)
        link = self._links.tasks
        if len(waiting) == 1 and link is not None:
            link.call(("HGETALL", queue_keys(queue).handlers), partial(self._on, queue))

    def refresh(self) -> None:
        """Read anew what lies in the store."""
        link = self._links.tasks
        if link is not None:
            # Over the connection of the tasks: the answer comes before theirs.
            for queue in self._queues:
                link.call(("HGETALL", queue_keys(queue).handlers), partial(self._on, queue))

    def _on(self, queue: str, reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused(f"to give handlers queue={queue}", reply)
        else:
            self._take(queue, reply)
        for then in self._then.pop(queue, ()):
            then()

    def _take(self, queue: str, reply: list[bytes]) -> None:
        served: dict[str, Found] = {}
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
            served[pattern] = Found(call.fingerprint, bool(call.flags & COROUTINE), needs)
        self._by_queue[queue] = self._merged(served)

    def _merged(self, served: dict[str, Found]) -> HandlerPatterns[Found]:
        table: HandlerPatterns[Found] = HandlerPatterns()
        own = {pattern: Found(NO_CODE, is_async) for pattern, is_async in self._own.items()}
        for pattern, found in {**own, **served}.items():
            table.add(pattern, found)
        return table
