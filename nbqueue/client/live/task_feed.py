"""`follow`: the output and progress of tasks, as they come.

Nothing is polled, and nothing is missed or passed on twice, whatever happens to the connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.task_outputs import DISPLAY, Entry, read_output
from nbqueue.client.results.reported_progress import Progress, progress_of, read_progress
from nbqueue.wire.decoding import json_value
from nbqueue.wire.keys import LISTENER_LENGTH, stored_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session

_log = logging.getLogger("nbqueue.client")


class News(NamedTuple):
    """New output entries of a task, oldest first, and its progress if that changed."""

    task_id: str
    entries: list[Entry]
    progress: Progress | None


def follow(
    session: Session, queue: str, task_id: str, callback: Callable[[News], object]
) -> Callable[[], None]:
    """Call ``callback`` with the output of a task so far, and then with all that follows.

    ``task_id``: an id; or its first `LISTENER_LENGTH` characters, for all tasks of one client, but
    then without the output so far. Returns a function that stops it. The callback runs in the
    thread that receives results, and must not block.
    """
    keys = stored_keys(queue)
    follower = _Follower(queue, task_id, callback)
    channel = keys.live_channel(task_id)
    session.listener.subscribe(channel, follower.receive)
    return lambda: session.listener.unsubscribe(channel, follower.receive)


class _Follower:
    def __init__(self, queue: str, wanted: str, callback: Callable[[News], object]) -> None:
        self._queue = queue
        self._wanted = wanted
        self._is_one = len(wanted) > LISTENER_LENGTH
        self._callback = callback
        self._seen: dict[str, tuple[int, int]] = {wanted: (0, 0)} if self._is_one else {}
        """Attempt and number of the last entry of each task that was passed on."""

    def receive(self, broker: Broker, data: bytes | None) -> None:
        if data is None:
            for task_id in list(self._seen):
                progress = read_progress(broker, self._queue, task_id)
                self._pass_on(task_id, self._read(broker, task_id), progress)
            return
        try:
            message: Any = json_value(data)
            task_id = str(message["id"])
            entries = [_entry(row) for row in message.get("entries", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.warning("output of a task in queue %s could not be read", self._queue)
            return
        if self._is_one and task_id != self._wanted:
            return
        seen = self._seen.setdefault(task_id, (0, 0))
        if message.get("more") or not _follows(seen, entries):
            entries = self._read(broker, task_id)
        progress = progress_of(message["progress"]) if "progress" in message else None
        self._pass_on(task_id, entries, progress)

    def _read(self, broker: Broker, task_id: str) -> list[Entry]:
        return read_output(broker, self._queue, task_id, self._seen[task_id])

    def _pass_on(self, task_id: str, entries: list[Entry], progress: Progress | None) -> None:
        seen = self._seen[task_id]
        new = [entry for entry in entries if (entry.attempt, entry.number) > seen]
        if new:
            self._seen[task_id] = new[-1].attempt, new[-1].number
        if new or progress is not None:
            self._callback(News(task_id, new, progress))


def _follows(seen: tuple[int, int], entries: list[Entry]) -> bool:
    """Return whether these entries come directly after the last one seen."""
    if not entries:
        return True
    first = entries[0]
    attempt, number = seen
    return first.number <= (number + 1 if first.attempt == attempt else 1)


def _entry(row: Any) -> Entry:
    attempt, number, at, kind, before, lines, text = row
    if kind == DISPLAY or not isinstance(text, str):
        raise ValueError("no text")
    return Entry(
        int(attempt), int(number), int(at), str(kind), int(before), int(lines), text.encode()
    )
