"""Route the messages that are published to a worker."""

from __future__ import annotations

from collections.abc import Callable

from nbqueue.wire.decoding import LAST_MS, whole_number
from nbqueue.worker.connections import WorkerConnections

OnMessage = Callable[[str, bytes], None]
"""A handler of a queue's name and a message without its first word."""


def at_time(set_timer: Callable[[str, int], None]) -> OnMessage:
    """Return a handler that passes a message's time (Unix ms) to ``set_timer``."""

    def on_message(queue: str, value: bytes) -> None:
        at_ms = whole_number(value, 0, LAST_MS)
        if at_ms is not None:
            set_timer(queue, at_ms)

    return on_message


class WorkerMessages:
    """Passes each message to its handler.

    On the channel of a queue, the first word selects one of the handlers ``by_word``; with any
    other word the queue may have a task: ``on_task(queue)``. On the other channel the message is
    the id of a task to cancel: ``on_cancel(task_id)``.
    """

    def __init__(
        self,
        connections: WorkerConnections,
        by_word: dict[bytes, OnMessage],
        on_task: Callable[[str], None],
        on_cancel: Callable[[str], None],
    ) -> None:
        self._by_word = by_word
        self._on_task = on_task
        self._on_cancel = on_cancel
        connections.on_message.append(self._on_message)

    def _on_message(self, channel: str, data: bytes) -> None:
        if channel.endswith(":wake"):
            word, _, value = data.partition(b" ")
            queue = channel[len("nbqueue:{") : -len("}:wake")]
            handler = self._by_word.get(word)
            if handler is not None:
                handler(queue, value)
            else:
                self._on_task(queue)
        else:
            self._on_cancel(data.decode("utf-8", "replace"))
