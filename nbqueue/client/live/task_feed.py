"""What tasks print, display and report, as it comes: no polling, and nothing is missed or told
twice, whatever happens to the connection."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.task_outputs import DISPLAY, Entry, read_output
from nbqueue.client.futures.reported_progress import Progress, progress_of, read_progress
from nbqueue.client.session import Session
from nbqueue.wire.decoding import json_value
from nbqueue.wire.keys import LISTENER_LENGTH, stored_keys

_log = logging.getLogger("nbqueue.client")


class News(NamedTuple):
    """What came of one task: new entries of its output, oldest first, and how far it is now, if
    that has changed."""

    task_id: str
    entries: list[Entry]
    progress: Progress | None


def follow(
    session: Session, queue: str, task_id: str, callback: Callable[[News], object]
) -> Callable[[], None]:
    """Call ``callback`` with all that a task put out until now, and then with what comes.

    ``task_id``: an id; or its first `LISTENER_LENGTH` characters, for all tasks of one client, and
    then only with what comes. Returns what ends it. The callback runs in the thread that receives
    results, and must not wait there.
    """
    keys = stored_keys(queue)
    feed = _Feed(queue, task_id, callback)
    channel = keys.live_channel(task_id)
    session.listener.hear(channel, feed.tell)
    return lambda: session.listener.unhear(channel, feed.tell)


class _Feed:
    def __init__(self, queue: str, wanted: str, callback: Callable[[News], object]) -> None:
        self._queue = queue
        self._wanted = wanted
        self._is_one = len(wanted) > LISTENER_LENGTH
        self._callback = callback
        self._seen: dict[str, tuple[int, int]] = {wanted: (0, 0)} if self._is_one else {}
        """The attempt and the number of the last entry that was told of each task."""

    def tell(self, broker: Broker, data: bytes | None) -> None:
        if data is None:
            for task_id in list(self._seen):
                progress = read_progress(broker, self._queue, task_id)
                self._pass_on(task_id, self._read(broker, task_id), progress)
            return
        try:
            said: Any = json_value(data)
            task_id = str(said["id"])
            entries = [_entry(row) for row in said.get("entries", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            _log.warning("news of the queue %s could not be read", self._queue)
            return
        if self._is_one and task_id != self._wanted:
            return
        seen = self._seen.setdefault(task_id, (0, 0))
        if said.get("more") or not _follows(seen, entries):
            entries = self._read(broker, task_id)
        progress = progress_of(said["progress"]) if "progress" in said else None
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
    """Whether nothing lies between what was seen and these."""
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
