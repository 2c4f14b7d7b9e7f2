"""Write the output, displays and progress of running tasks to the store.

They are written once a round, for all tasks of a queue together, over the connection of
acknowledgements: so the store has the last output of a task before its outcome. At most one write
of each task is under way; output that comes meanwhile waits, within the executor's bounds, so that
neither a flood of output nor an unreachable store fills this process. After a loss of the store,
output that it has not acknowledged is written again.

Rich displays can run scripts in the reader's browser, so they are signed like results.
"""

from __future__ import annotations

import json
import logging
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from nbqueue.broker.reads import task_outputs
from nbqueue.broker.reads.task_outputs import Appended, Entry
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.executor import pipe
from nbqueue.executor.output.outbox import HEAD, LARGEST_DISPLAY, MOST_DISPLAYED, TAIL
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

WEEK_MS: Final = 7 * 86_400_000
HOUR_MS: Final = 3_600_000
LARGEST_NEWS: Final = 16_000
"""The maximum bytes of output in a message to live views.

They read larger output from the store.
"""

_LARGEST_PROGRESS = 32_000
_MOST_ENTRIES = 20_000
_MOST_WAITING = 64_000_000
_MOST_TASKS = 100
_MOST_BYTES = 1_000_000

_KINDS = {
    pipe.STDOUT: task_outputs.STDOUT,
    pipe.STDERR: task_outputs.STDERR,
    pipe.DISPLAY: task_outputs.DISPLAY,
    pipe.CLEAR: task_outputs.CLEAR,
}
_TEXT = frozenset({task_outputs.STDOUT, task_outputs.STDERR})


@dataclass(slots=True, eq=False)
class _Written:
    """The output of one attempt: waiting, under way, and in the store."""

    attempt: Attempt
    ttl_ms: int
    number: int = 0
    waiting: deque[Entry] = field(default_factory=deque)
    waiting_size: int = 0
    progress: bytes = b""
    under_way: deque[Appended] = field(default_factory=deque)
    tail: deque[tuple[int, int]] = field(default_factory=deque)
    tail_size: int = 0
    drop: list[int] = field(default_factory=list)
    displayed: int = 0
    is_over: bool = False


class OutputWriter:
    """Takes reports of output and progress; others are ignored."""

    def __init__(self, context: ServiceContext) -> None:
        self._connections = context.connections
        self._keys = context.keys
        self._clock = context.clock
        self._tasks: dict[int, _Written] = {}
        self.changed: dict[int, _Written] = {}
        """Output that `flush` writes, by the numbers of its attempts."""
        self._waiting_size = 0
        context.connections.on_down.append(self._forget_under_way)

    def take(self, attempt: Attempt, kind: int, body: bytes) -> None:
        """Note a report, to be written at the end of the round."""
        if kind == pipe.OUTPUT_REPORT:
            self._add(self._of(attempt), pipe.unpack_output(body))
        elif kind == pipe.PROGRESS_REPORT and len(body) <= _LARGEST_PROGRESS and body[:1] == b"{":
            written = self._of(attempt)
            about = b'{"at":%d,"attempt":%d,' % (self._clock.now_ms(), attempt.ordinal)
            written.progress = about + body[1:]
            self.changed[attempt.number] = written

    def finish(self, attempt: Attempt, outcome: int | None) -> None:
        """Keep the output as long as the outcome, from the next write on."""
        written = self._tasks.get(attempt.number)
        if written is None:
            return
        retention_ms = attempt.message.retention * 1000
        # People look at the output of failures, which stay in the archive for longer.
        is_success = outcome in (pipe.VALUE, pipe.REVOKED)
        written.ttl_ms = max(retention_ms, HOUR_MS if is_success else WEEK_MS)
        written.is_over = True
        self.changed[attempt.number] = written

    def flush(self) -> None:
        """Write. Once a round, before outcomes are sent."""
        tasks = self._connections.tasks
        by_queue: dict[str, list[_Written]] = {}
        for number, written in list(self.changed.items()):
            is_free = not written.under_way or written.is_over
            if is_free and tasks(written.attempt.queue).is_up:
                del self.changed[number]
                by_queue.setdefault(written.attempt.queue, []).append(written)
        for queue, all_written in by_queue.items():
            while all_written:
                batch: list[_Written] = []
                size = 0
                while all_written and len(batch) < _MOST_TASKS and size < _MOST_BYTES:
                    written = all_written.pop()
                    size += written.waiting_size
                    batch.append(written)
                for each in batch:
                    each.under_way.append(self._appended(each))
                command = _command(queue, batch)
                tasks(queue).send(command, partial(self._on_reply, batch))

    def _of(self, attempt: Attempt) -> _Written:
        written = self._tasks.get(attempt.number)
        if written is None:
            written = self._tasks[attempt.number] = _Written(attempt, WEEK_MS)
        return written

    def _add(self, written: _Written, output: pipe.Output) -> None:
        kind, data = _KINDS.get(output.kind), output.data
        if kind is None:
            return
        attempt = written.attempt
        if kind == task_outputs.DISPLAY:
            written.displayed += len(data)
            # The executor warns the task before; here it is only enforced.
            if len(data) > LARGEST_DISPLAY or written.displayed > MOST_DISPLAYED:
                return
            data = display_envelope(self._keys, attempt, data)
        written.number += 1
        entry = Entry(
            attempt.ordinal,
            written.number,
            self._clock.now_ms(),
            kind,
            output.before,
            output.lines,
            data,
        )
        written.waiting.append(entry)
        written.waiting_size += len(data)
        self._waiting_size += len(data)
        self.changed[attempt.number] = written
        self._bound(written)

    def _bound(self, written: _Written) -> None:
        """Drop the oldest output beyond the bounds.

        Readers recognise the gap by the numbers.
        """
        most = HEAD + TAIL + written.displayed
        if self._waiting_size > _MOST_WAITING:
            most = HEAD
        while written.waiting_size > most or len(written.waiting) > _MOST_ENTRIES:
            entry = written.waiting.popleft()
            written.waiting_size -= len(entry.data)
            self._waiting_size -= len(entry.data)

    def _appended(self, written: _Written) -> Appended:
        entries = list(written.waiting)
        written.waiting.clear()
        self._waiting_size -= written.waiting_size
        written.waiting_size = 0
        for entry in entries:
            if entry.kind in _TEXT and entry.before >= HEAD:
                written.tail.append((entry.number, len(entry.data)))
                written.tail_size += len(entry.data)
        while written.tail_size > TAIL or len(written.tail) > _MOST_ENTRIES:
            number, size = written.tail.popleft()
            written.tail_size -= size
            written.drop.append(number)
        dropped = set(written.drop)
        attempt = written.attempt
        appended = Appended(
            attempt.task_id,
            attempt.fence,
            attempt.ordinal,
            written.ttl_ms,
            [entry for entry in entries if entry.number not in dropped],
            written.drop,
            written.progress,
            news(attempt.task_id, entries, written.progress),
        )
        written.drop, written.progress = [], b""
        return appended

    def _on_reply(self, batch: list[_Written], reply: Any) -> None:
        if isinstance(reply, ReplyError):
            refused("the output of tasks", reply)
        for written in batch:
            if written.under_way:
                written.under_way.popleft()
            self._settle(written)

    def _settle(self, written: _Written) -> None:
        number = written.attempt.number
        if written.is_over and not written.under_way and number not in self.changed:
            self._tasks.pop(number, None)

    def _forget_under_way(self) -> None:
        """Write unacknowledged output again, as the store may not have it."""
        for number, written in self._tasks.items():
            if not written.under_way:
                continue
            for appended in reversed(written.under_way):
                written.waiting.extendleft(reversed(appended.entries))
                size = sum(len(entry.data) for entry in appended.entries)
                written.waiting_size += size
                self._waiting_size += size
                written.drop = [*appended.drop, *written.drop]
                written.progress = written.progress or appended.progress
                known = {entry.number for entry in appended.entries}
                while written.tail and written.tail[-1][0] in known:
                    written.tail_size -= written.tail.pop()[1]
            written.under_way.clear()
            self.changed[number] = written


def _command(queue: str, batch: list[_Written]) -> Command[list[int]]:
    return task_outputs.append_output(queue, [written.under_way[-1] for written in batch])


def news(task_id: str, entries: list[Entry], progress: bytes) -> bytes:
    """Return the message for live views: small text, or a hint to read.

    JSON with the id, the pieces of text as lists and the progress; ``more``: the rest must
    be read from the store.
    """
    is_small = len(progress) + sum(len(entry.data) for entry in entries) < LARGEST_NEWS
    small = is_small and all(entry.kind != task_outputs.DISPLAY for entry in entries)
    said: dict[str, Any] = {"id": task_id, "more": not small}
    if small and entries:
        said["entries"] = [(*each[:-1], each.data.decode("utf-8", "replace")) for each in entries]
    head = json.dumps(said, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    if progress:
        head = head[:-1] + b',"progress":' + progress + b"}"
    return head


def display_envelope(keys: Keyring, attempt: Attempt, body: bytes) -> bytes:
    """Return a rich display as stored, signed for its task and attempt."""
    return keys.sign_result(
        payloads.pack_result(payloads.DISPLAY, body),
        task_outputs.display_owner(attempt.task_id, attempt.ordinal),
    )
