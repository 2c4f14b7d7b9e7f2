"""What running tasks printed, displayed and reported of their progress, on its way to the store.

Written once a round, for all tasks of a queue together, over the connection of acknowledgements:
the last words of a task so lie in the store before its end does. Of each task one write is under
way at a time; what comes meanwhile waits, bounded as in the executor, so that neither a flood nor a
store that is away fills this process. What the store has not acknowledged is written again after a
loss.

Rich displays can run scripts in the reader's browser: they are signed, as results are.
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
from nbqueue.clock import Clock
from nbqueue.executor import pipe
from nbqueue.executor.output.outbox import HEAD, LARGEST_DISPLAY, MOST_DISPLAYED, TAIL
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks.attempt import Attempt

log = logging.getLogger("nbqueue.worker")

WEEK_MS: Final = 7 * 86_400_000
HOUR_MS: Final = 3_600_000
LARGEST_NEWS: Final = 16_000
"""Bytes of a message to live views; of what is larger they are told that it lies in the store."""

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
    """The output of one attempt: what waits, what is under way, what lies in the store."""

    run: Attempt
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
    """Takes reports of running tasks; those of kinds that it does not know are dropped."""

    def __init__(self, links: WorkerConnections, keys: Keyring, clock: Clock) -> None:
        self._links = links
        self._keys = keys
        self._clock = clock
        self._tasks: dict[int, _Written] = {}
        self._changed: dict[int, _Written] = {}
        self._waiting_size = 0
        links.on_down.append(self._forget_under_way)

    def take(self, run: Attempt, kind: int, body: bytes) -> None:
        """A running task reported."""
        if kind == pipe.OUTPUT_REPORT:
            self._add(self._of(run), pipe.unpack_output(body))
        elif kind == pipe.PROGRESS_REPORT and len(body) <= _LARGEST_PROGRESS and body[:1] == b"{":
            written = self._of(run)
            about = b'{"at":%d,"attempt":%d,' % (self._clock.now_ms(), run.attempt)
            written.progress = about + body[1:]
            self._changed[run.number] = written

    def finish(self, run: Attempt, *, is_success: bool) -> None:
        """The task ends next. From now on its output is kept for as long as its end is."""
        written = self._tasks.get(run.number)
        if written is None:
            return
        retention_ms = run.message.retention * 1000
        # A failure lies in the archive for longer, where people look for what it said.
        written.ttl_ms = max(retention_ms, HOUR_MS if is_success else WEEK_MS)
        written.is_over = True
        self._changed[run.number] = written

    def flush(self) -> None:
        """Write. Once a round, before ends are acknowledged."""
        link = self._links.tasks
        if link is None or not self._changed:
            return
        by_queue: dict[str, list[_Written]] = {}
        for number, written in list(self._changed.items()):
            if not written.under_way or written.is_over:
                del self._changed[number]
                by_queue.setdefault(written.run.queue, []).append(written)
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
                link.send(command, partial(self._on_reply, batch))

    def _of(self, run: Attempt) -> _Written:
        written = self._tasks.get(run.number)
        if written is None:
            written = self._tasks[run.number] = _Written(run, WEEK_MS)
        return written

    def _add(self, written: _Written, output: pipe.Output) -> None:
        kind, data = _KINDS.get(output.kind), output.data
        if kind is None:
            return
        run = written.run
        if kind == task_outputs.DISPLAY:
            written.displayed += len(data)
            # The executor says so to the task; one that does not keep to it gets no word.
            if len(data) > LARGEST_DISPLAY or written.displayed > MOST_DISPLAYED:
                return
            data = display_envelope(self._keys, run, data)
        written.number += 1
        entry = Entry(
            run.attempt,
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
        self._changed[run.number] = written
        self._bound(written)

    def _bound(self, written: _Written) -> None:
        """Drop what cannot be kept: readers see by the numbers that something is missing."""
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
        run = written.run
        appended = Appended(
            run.task_id,
            run.fence,
            run.attempt,
            written.ttl_ms,
            [entry for entry in entries if entry.number not in dropped],
            written.drop,
            written.progress,
            news(run.task_id, entries, written.progress),
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
        number = written.run.number
        if written.is_over and not written.under_way and number not in self._changed:
            self._tasks.pop(number, None)

    def _forget_under_way(self) -> None:
        """The store may have what was under way, or not: it is written again."""
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
            self._changed[number] = written


def _command(queue: str, batch: list[_Written]) -> Command[list[int]]:
    return task_outputs.append_output(queue, [written.under_way[-1] for written in batch])


def news(task_id: str, entries: list[Entry], progress: bytes) -> bytes:
    """What live views are told: all of it where it is small, else only that there is something.

    JSON with the id, the text pieces as lists and the progress; ``more`` says that the rest is to
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


def display_envelope(keys: Keyring, run: Attempt, body: bytes) -> bytes:
    """A rich display as it lies in the store: signed for this task and this attempt."""
    return keys.sign_result(
        payloads.pack_result(payloads.DISPLAY, body),
        task_outputs.display_owner(run.task_id, run.attempt),
    )
