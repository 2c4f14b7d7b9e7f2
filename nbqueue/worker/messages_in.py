"""What a worker is told while it runs, and whom it concerns."""

from __future__ import annotations

from collections.abc import Callable

from nbqueue.wire.decoding import LAST_MS, whole_number
from nbqueue.worker.connections import WorkerConnections

Told = Callable[[str, bytes], None]
"""Gets the name of a queue, and what was said beside the word."""


def at_time(set_alarm: Callable[[str, int], None]) -> Told:
    """What is said is a time, in Unix ms."""

    def told(queue: str, value: bytes) -> None:
        at_ms = whole_number(value, 0, LAST_MS)
        if at_ms is not None:
            set_alarm(queue, at_ms)

    return told


class WorkerMessages:
    """Passes on each message that comes.

    On the channel of a queue it is a word with something behind it, for which there are ``words``;
    any other word says that there may be a task: ``on_task(queue)``. Else it is the id of a
    task to cancel: ``on_cancel(id)``.
    """

    def __init__(
        self,
        links: WorkerConnections,
        words: dict[bytes, Told],
        on_task: Callable[[str], None],
        on_cancel: Callable[[str], None],
    ) -> None:
        self._words = words
        self._on_task = on_task
        self._on_cancel = on_cancel
        links.on_message = self._on_message

    def _on_message(self, channel: str, data: bytes) -> None:
        if channel.endswith(":wake"):
            word, _, value = data.partition(b" ")
            queue = channel[len("nbqueue:{") : -len("}:wake")]
            told = self._words.get(word)
            if told is not None:
                told(queue, value)
            else:
                self._on_task(queue)
        else:
            self._on_cancel(data.decode("utf-8", "replace"))
