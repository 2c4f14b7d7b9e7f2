"""Delete the code of functions that no task uses any more.

Code has no time to live, as a task may be scheduled for next year, or be archived until a person
runs it again. So code that was not read for a while is searched for in all tasks of its queue, and
deleted only if none refers to it. SCAN returns each key that exists throughout, wherever its task
moves meanwhile; code that is read meanwhile is kept by the script that deletes.
"""

from __future__ import annotations

import logging
from typing import Any

from nbqueue.broker.commands import enqueue
from nbqueue.calls import payloads
from nbqueue.errors import SignatureError
from nbqueue.transport.resp import ReplyError
from nbqueue.wire import fields
from nbqueue.wire.keys import queue_keys
from nbqueue.wire.messages import read_message
from nbqueue.wire.schedule_record import decode_entry
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused

log = logging.getLogger("nbqueue.worker")

IDLE_SECONDS = 86_400
_SLICE = 500


class CodeCollector(Service):
    """Looks every hour for code that was not read for ``idle`` seconds."""

    def __init__(
        self, context: ServiceContext, interval: float = 3600.0, idle: float = IDLE_SECONDS
    ) -> None:
        self._queues = context.queues.names
        self._idle_ms = int(idle * 1000)
        super().__init__(context, interval)

    def run_once(self) -> None:
        for queue in self._queues:
            _Search(self._connections, queue).start(self._clock.now_ms() - self._idle_ms)


class _Search:
    """A search through the tasks of a queue, in slices.

    Ends if the store is lost.
    """

    def __init__(self, connections: WorkerConnections, queue: str) -> None:
        self._connections = connections
        self._queue = queue
        self._unused: dict[bytes, str] = {}

    def start(self, before_ms: int) -> None:
        index = queue_keys(self._queue).code_index
        self._call(("ZRANGEBYSCORE", index, "-inf", before_ms, "WITHSCORES"), self._on_candidates)

    def _call(self, words: tuple[Any, ...], on_reply: Any) -> None:
        self._connections.upkeep(self._queue).call(
            words, lambda reply: self._unless_refused(reply, on_reply)
        )

    @staticmethod
    def _unless_refused(reply: Any, on_reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused("a search for unused code", reply)
        else:
            on_reply(reply)

    def _on_candidates(self, reply: list[bytes]) -> None:
        self._unused = {
            fingerprint: score.decode()
            for name, score in zip(reply[::2], reply[1::2], strict=True)
            if (fingerprint := _fingerprint(name)) is not None
        }
        if self._unused:
            self._call(("HVALS", queue_keys(self._queue).handlers), self._on_handlers)

    def _on_handlers(self, envelopes: list[bytes]) -> None:
        for envelope in envelopes:
            self._keep(envelope)
        self._call(("HVALS", queue_keys(self._queue).schedules), self._on_schedules)

    def _on_schedules(self, entries: list[bytes]) -> None:
        for raw in entries:
            try:
                entry = decode_entry(raw)
            except ValueError:
                # A schedule that this version cannot read may use anything.
                self._unused.clear()
                continue
            self._on_message(entry.message)
        self._scan(b"0")

    def _scan(self, cursor: bytes) -> None:
        pattern = _glob(queue_keys(self._queue).task_prefix) + "*"
        self._call(("SCAN", cursor, "MATCH", pattern, "COUNT", _SLICE), self._on_keys)

    def _on_keys(self, reply: list[Any]) -> None:
        cursor, keys = reply
        for key in keys:
            self._call(("HGET", key, fields.MSG), self._on_message)
        # Replies come in order, so this one follows those of the slice.
        self._call(("ECHO", cursor), self._on_slice)

    def _on_message(self, msg: bytes | None) -> None:
        message = read_message(msg) if msg else None
        payload = message.payload if message is not None else b""
        if payloads.is_call(payload):
            self._keep(payload)

    def _keep(self, envelope: bytes) -> None:
        try:
            self._unused.pop(payloads.parse_call(envelope).fingerprint, None)
        except SignatureError:
            # A call that this version cannot read may use anything.
            self._unused.clear()

    def _on_slice(self, cursor: bytes) -> None:
        if not self._unused:
            return
        if cursor != b"0":
            self._scan(cursor)
            return
        connection = self._connections.upkeep(self._queue)
        for fingerprint, seen_at in self._unused.items():
            command = enqueue.drop_code(self._queue, fingerprint, seen_at)
            connection.send(command, lambda reply: None)
        log.info("unused code forgotten queue=%s functions=%d", self._queue, len(self._unused))


def _fingerprint(name: bytes) -> bytes | None:
    try:
        return bytes.fromhex(name.decode())
    except ValueError:
        return None


def _glob(text: str) -> str:
    """``text`` as a pattern that matches only itself."""
    return "".join("\\" + c if c in "*?[]\\^-" else c for c in text)
