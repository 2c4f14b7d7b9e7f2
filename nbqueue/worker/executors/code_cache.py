"""A cache of functions' code, read from the store and verified."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from nbqueue.calls.functions import fingerprint_of
from nbqueue.transport.resp import ReplyError, is_transient
from nbqueue.wire.keys import queue_keys
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused

_PAUSE = 0.2
MOST_BYTES = 256 * 1024 * 1024

OnCode = Callable[[bytes | None], None]


class CodeCache:
    """Code by fingerprint, a digest that was signed with the call.

    Code that does not match its fingerprint is not the caller's, and is never returned.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._reactor = context.reactor
        self._connections = context.connections
        self._blobs: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._asked: dict[bytes, tuple[str, list[OnCode]]] = {}
        context.connections.on_up.append(self._ask_again)

    def get(self, fingerprint: bytes) -> bytes | None:
        """Return the code if it is cached."""
        return self._blobs.get(fingerprint)

    def ask(self, queue: str, fingerprint: bytes, on_code: OnCode) -> None:
        """Call ``on_code`` with the code.

        It gets None if the store lacks the code, or has another under this fingerprint.
        """
        if fingerprint in self._asked:
            self._asked[fingerprint][1].append(on_code)
            return
        self._asked[fingerprint] = (queue, [on_code])
        self._send(queue, fingerprint)

    def _send(self, queue: str, fingerprint: bytes) -> None:
        key = queue_keys(queue).code(fingerprint)
        self._connections.tasks(queue).call(
            ("GET", key), lambda reply: self._on_reply(fingerprint, reply)
        )

    def _ask_again(self) -> None:
        for fingerprint, (queue, _) in self._asked.items():
            self._send(queue, fingerprint)

    def _on_reply(self, fingerprint: bytes, reply: object) -> None:
        if fingerprint not in self._asked:
            return  # asked twice, over two connections
        if isinstance(reply, ReplyError) and is_transient(reply):
            # A store that is busy or loading may still have it.
            queue = self._asked[fingerprint][0]
            self._reactor.after(_PAUSE, lambda: self._send(queue, fingerprint))
            return
        _, waiting = self._asked.pop(fingerprint)
        blob: bytes | None = None
        if isinstance(reply, bytes) and fingerprint_of(reply) == fingerprint:
            blob = reply
            self._keep(fingerprint, blob)
        elif isinstance(reply, ReplyError):
            refused("to give the code of a function", reply)
        for on_code in waiting:
            on_code(blob)

    def _keep(self, fingerprint: bytes, blob: bytes) -> None:
        self._blobs[fingerprint] = blob
        self._size += len(blob)
        while self._size > MOST_BYTES and len(self._blobs) > 1:
            _, dropped = self._blobs.popitem(last=False)
            self._size -= len(dropped)
