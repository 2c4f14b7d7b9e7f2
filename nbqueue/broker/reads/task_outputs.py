"""Append to the outputs of tasks, and read them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nbqueue.broker.broker import Broker
from nbqueue.broker.script_commands import PerTask, command, flat, positions
from nbqueue.transport.script_call import Command
from nbqueue.wire.keys import stored_keys

_length = struct.Struct(">I").pack

STDOUT: Final = "stdout"
STDERR: Final = "stderr"
DISPLAY: Final = "display"
CLEAR: Final = "clear"
"""Kinds of entries."""

MOST_READ: Final = 500
"""Entries in one reply."""


class Entry(NamedTuple):
    """One entry of a task's output.

    ``number`` is its position within the attempt, from 1. ``before`` and ``lines`` count the bytes
    and line ends of text that the attempt wrote before it, dropped entries included.
    """

    attempt: int
    number: int
    at_ms: int
    kind: str
    before: int
    lines: int
    data: bytes


class Appended(NamedTuple):
    """Entries to append to the output of a running task.

    ``drop`` are numbers of entries of this attempt to delete, ``progress`` is JSON or empty, and
    ``news`` is published for live views.
    """

    task_id: str
    fence: str
    attempt: int
    ttl_ms: int
    entries: Sequence[Entry] = ()
    drop: Sequence[int] = ()
    progress: bytes = b""
    news: bytes = b""


def display_owner(task_id: str, attempt: int) -> str:
    """Return the owner for whom a rich display of an attempt is signed."""
    return f"{task_id}\0{attempt}"


def append_output(queue: str, tasks: Sequence[Appended]) -> Command[list[int]]:
    """Append to outputs.

    Reads as the positions of tasks that the caller no longer holds.
    """
    keys = stored_keys(queue)
    return command(
        "append_output",
        keys,
        {"output_prefix": keys.output_prefix},
        positions,
        tasks=PerTask(
            [keys.task(task.task_id) for task in tasks],
            (
                *("id", "fence", "attempt", "ttl_ms", "entries"),
                *("drop", "progress", "channel", "news"),
            ),
            flat(
                (
                    task.task_id,
                    task.fence,
                    task.attempt,
                    task.ttl_ms,
                    b"".join(_packed(entry) for entry in task.entries),
                    " ".join(map(str, task.drop)),
                    task.progress,
                    keys.live_channel(task.task_id),
                    task.news,
                )
                for task in tasks
            ),
        ),
    )


def _packed(entry: Entry) -> bytes:
    numbers = (entry.number, entry.at_ms, entry.kind, entry.before, entry.lines)
    words = [*(str(number).encode() for number in numbers), entry.data]
    return b"".join(_length(len(word)) + word for word in words)


def read_output(
    broker: Broker, queue: str, task_id: str, after: tuple[int, int] = (0, 0)
) -> list[Entry]:
    """Return all entries after the one of this attempt and number, oldest first."""
    key, found = stored_keys(queue).output(task_id), []
    while True:
        start = f"{after[0]}-{after[1] + 1}"
        [rows] = broker.call(("XRANGE", key, start, "+", "COUNT", MOST_READ), on=queue)
        for entry_id, words in rows:
            entry = read_entry(entry_id, words)
            if entry is not None:
                found.append(entry)
        if len(rows) < MOST_READ:
            return found
        attempt, _, number = rows[-1][0].partition(b"-")
        after = int(attempt), int(number)


def read_entry(entry_id: bytes, words: Sequence[bytes]) -> Entry | None:
    """Return an entry of the store; None for one that cannot be read."""
    row: dict[bytes, Any] = dict(zip(words[::2], words[1::2], strict=False))
    try:
        attempt, number = map(int, entry_id.split(b"-"))
        return Entry(
            attempt,
            number,
            int(row[b"at"]),
            row[b"kind"].decode(),
            int(row[b"before"]),
            int(row[b"lines"]),
            row[b"data"],
        )
    except (KeyError, ValueError):
        return None  # any program may have written it
