"""The protocol between supervisor and executors: frames over a socket, and permits.

A frame is its length (4 bytes, not counting these), its kind (1 byte) and a body. Numbers are
big-endian. For each task, a *sync* executor also gets a *permit*: the task's number, written to a
pipe whose reading end both processes hold. The process that reads a permit has the task: the
executor, just before it runs the task, or the supervisor, to take back tasks that wait behind a
slow one. The kernel decides between them, and the unread permits of a dead executor are those of
tasks that it never began.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from nbqueue.clock import steady_time
from nbqueue.runtime.buffers import (
    LARGE,
    Body,
    ChunkedBytes,
    Piece,
    ReceiveBuffer,
    cut,
    parts_of,
    rest_of,
)
from nbqueue.runtime.process_memory import note_large

if TYPE_CHECKING:
    import socket

    from nbqueue.runtime.busy_poll import BusyPoll

HELLO: Final = 1
"""Executor: ready. Body: process id (4 bytes)."""
CODE: Final = 2
"""Supervisor: a function's code. Body: fingerprint (16 bytes), blob."""
TASK: Final = 3
"""Supervisor: run this. Body: see `task_head`."""
DONE: Final = 4
"""Executor: a task has ended. Body: see `done_head`."""
STOP: Final = 5
"""Supervisor: end when the running tasks have ended. No body."""
SERVICE: Final = 6
"""Supervisor, first of all: the handlers and hooks of the worker's owner.

Body: 1 byte, 1 to make previews of results; then their code, or nothing. The executor answers
`HELLO` once its hooks have run.
"""

REPORT: Final = 7
"""Executor: a report of a running task.

Body: its number (4 bytes), the kind of report (1 byte, such as `RESULT_REPORT`; unknown kinds are
ignored), and the report.
"""

NOT_BEGUN: Final = 8
"""Executor: it did not begin this task, whose lease may have ended.

Body: its number (4 bytes).
"""

RESULT_REPORT: Final = 1
"""A partial result, in the form of the final one."""
OUTPUT_REPORT: Final = 2
"""Output or a display: see `pack_output`."""
PROGRESS_REPORT: Final = 3
"""Progress: JSON, see `nbqueue.executor.output.progress_values`."""

STDOUT: Final = 1
STDERR: Final = 2
DISPLAY: Final = 3
"""A rich display: JSON with ``data`` and ``metadata`` as in Jupyter's messages."""
CLEAR: Final = 4
"""Clear the output so far."""

VALUE: Final = 0
FAILED: Final = 1
FAILED_FOR_GOOD: Final = 2
REVOKED: Final = 3
LATER: Final = 4
TIMED_OUT: Final = 5
CANCELLED: Final = 6

_RECEIVE = 262_144
_HASHED_AT_ONCE = 262_144
_DIGEST_SIZE = 32
_HEAD = struct.Struct(">IB")
_TASK = struct.Struct(">I16sBqqqddIIII")
_TASK_FRAME = struct.Struct(">IBI16sBqqqddIIII")
"""The head of a frame, and that of a task."""
_SEEDED = 4
"""A bit of a task: it has a seed.

The seed stands between headers and arguments, with its length before it.
"""
_SEED_SIZE = struct.Struct(">H")
_REPORT = struct.Struct(">IB")
_OUTPUT = struct.Struct(">BQQ")
_DONE = struct.Struct(">IBQQdBI")
_PREVIEW_SIZE = struct.Struct(">I")
PERMIT: Final = struct.Struct(">I")
INTERRUPT: Final = struct.Struct(">IB")
"""In the control pipe: a task's number, and `TIMED_OUT` or `CANCELLED`."""
GIVE_BACK: Final = INTERRUPT.pack(0, 0)
"""In the control pipe: release the memory that large values took."""


NO_CODE: Final = bytes(16)
"""The fingerprint of a message whose handler is the service's."""

AGGREGATION: Final = b"\xff" * 16
"""The fingerprint of an aggregation: see `nbqueue.tasks.aggregation_group`."""


TaskHead = tuple[int, int, int, float, str, str, str, bytes]
"""The fields of a `TaskFrame` from ``attempt`` to ``headers``."""


class TaskFrame(NamedTuple):
    """A task to run.

    ``deadline``: when it must end, in Unix seconds on the store's clock; 0: never. ``begin_by``:
    the time (seconds of `steady_time`, 0: none) after which it must not begin, as its lease may
    have ended. ``arguments``: those of a call, or the payload of a message. ``headers``: JSON.
    """

    number: int
    fingerprint: bytes
    is_message: bool
    attempt: int
    retried: int
    max_retry: int
    deadline: float
    task_id: str
    queue: str
    type: str
    headers: bytes
    arguments: bytes | memoryview
    json_result: bool = False
    seed: bytes = b""
    """The seed, packed by `nbqueue.calls.call_extensions.Seed.pack`, if it has one."""
    begin_by: float = 0.0

    @property
    def head(self) -> TaskHead:
        """The fields that describe the task, without its arguments.

        These may be large.
        """
        return self[3:11]

    @property
    def is_late(self) -> bool:
        """True if the task must not begin any more."""
        return bool(self.begin_by) and self.begin_by < steady_time()


class DoneFrame(NamedTuple):
    """The outcome of an attempt.

    ``outcome``: `VALUE` or another. ``body``: the result for `VALUE`, else the exception.
    ``micros``: how long it ran. ``peak_memory``: the most bytes that the process ever had.
    ``delay``: seconds before a retry; negative: the worker's default. ``counts``: whether it counts
    as a failure.
    """

    number: int
    outcome: int
    micros: int
    peak_memory: int
    delay: float
    counts: bool
    error_text: str
    body: bytes | memoryview | ChunkedBytes
    digest: bytes = b""
    """The SHA-256 of a large body, if computed while sending it."""
    preview: bytes = b""
    """The result's preview, packed by `nbqueue.tasks.result_preview`, if it has one."""


def frame(kind: int, body: bytes = b"") -> bytes:
    """Return a whole frame."""
    return _HEAD.pack(len(body) + 1, kind) + body


def task_head(task: TaskFrame) -> bytes:
    """Return the `TASK` frame of a task without its arguments, the last part."""
    # Unpacked at once, as access by name is slower.
    (
        number, fingerprint, is_message, attempt, retried, max_retry, deadline,
        id_text, queue_text, type_text, headers, arguments, json_result, seed, begin_by,
    ) = task  # fmt: skip
    task_id, queue, name = id_text.encode(), queue_text.encode(), type_text.encode()
    names = task_id + queue + name + headers
    bits = is_message | json_result << 1
    if seed:
        names += _SEED_SIZE.pack(len(seed)) + seed
        bits |= _SEEDED
    head = _TASK_FRAME.pack(
        1 + _TASK.size + len(names) + len(arguments),
        TASK,
        number,
        fingerprint,
        bits,
        attempt,
        retried,
        max_retry,
        deadline,
        begin_by,
        len(task_id),
        len(queue),
        len(name),
        len(headers),
    )
    return head + names


def unpack_task(body: bytes) -> TaskFrame:
    """Read the body of a `TASK` frame."""
    number, fingerprint, bits, attempt, retried, max_retry, deadline, begin_by, a, b, c, d = (
        _TASK.unpack_from(body)
    )
    at = _TASK.size
    b, c, d = a + b, a + b + c, a + b + c + d
    arguments_at, seed = at + d, b""
    if bits & _SEEDED:
        (size,) = _SEED_SIZE.unpack_from(body, arguments_at)
        begin = arguments_at + _SEED_SIZE.size
        arguments_at = begin + size
        seed = body[begin:arguments_at]
    # Made once for each task, so without the slower constructor of the named tuple.
    parts = (
        number,
        fingerprint,
        bool(bits & 1),
        attempt,
        retried,
        max_retry,
        deadline,
        body[at : at + a].decode(),
        body[at + a : at + b].decode(),
        body[at + b : at + c].decode(),
        body[at + c : at + d],
        rest_of(body, arguments_at),
        bool(bits & 2),
        seed,
        begin_by,
    )
    return tuple.__new__(TaskFrame, parts)


def pack_not_begun(number: int) -> bytes:
    """Return the `NOT_BEGUN` frame of a task."""
    return frame(NOT_BEGUN, PERMIT.pack(number))


def pack_report(number: int, kind: int, body: bytes) -> bytes:
    """Return the `REPORT` frame of a task."""
    return frame(REPORT, _REPORT.pack(number, kind) + body)


def unpack_report(body: bytes) -> tuple[int, int, bytes]:
    """Read a `REPORT` frame's body: the task's number, the report's kind, the report."""
    number, kind = _REPORT.unpack_from(body)
    return number, kind, body[_REPORT.size :]


class Output(NamedTuple):
    """A piece of the output of a task.

    ``before`` and ``lines`` are the numbers of bytes of text and of line ends before it in this
    attempt, including text that was left out: two pieces show how much is missing between them.
    """

    kind: int
    before: int
    lines: int
    data: bytes


def pack_output(number: int, output: Output) -> bytes:
    """Return the `REPORT` frame of a piece of output."""
    head = _OUTPUT.pack(output.kind, output.before, output.lines)
    return pack_report(number, OUTPUT_REPORT, head + output.data)


def unpack_output(body: bytes) -> Output:
    """Read a report of output."""
    kind, before, lines = _OUTPUT.unpack_from(body)
    return Output(kind, before, lines, body[_OUTPUT.size :])


def value_frame(
    number: int, micros: int, peak_memory: int, body: Body, preview: bytes = b""
) -> DoneFrame:
    """Return the `DoneFrame` of a returned value, the fast way."""
    parts = (number, VALUE, micros, peak_memory, -1.0, True, "", body, b"", preview)
    return tuple.__new__(DoneFrame, parts)


def done_parts(done: DoneFrame) -> Iterator[Piece]:
    """Yield the `DONE` frame in parts.

    A body in pieces is followed by its SHA-256, computed while the supervisor receives the parts.
    """
    yield done_head(done)
    if not isinstance(done.body, ChunkedBytes):
        yield done.body
        return
    digest = sha256()
    for body in cut(done.body.parts, _HASHED_AT_ONCE):
        for part in parts_of(body):
            digest.update(part)
            yield part
    yield digest.digest()


def done_head(done: DoneFrame) -> bytes:
    """Return the `DONE` frame without its body and the digest behind that.

    The preview, after its length, is between the error's text and the body.
    """
    has_digest = isinstance(done.body, ChunkedBytes)
    preview = done.preview
    text = done.error_text.encode("utf-8", "replace") if done.error_text else b""
    head = _DONE.pack(
        done.number,
        done.outcome,
        done.micros,
        done.peak_memory,
        done.delay,
        done.counts | has_digest << 1 | bool(preview) << 2,
        len(text),
    )
    if preview:
        text += _PREVIEW_SIZE.pack(len(preview)) + preview
    size = _DONE.size + len(text) + len(done.body) + _DIGEST_SIZE * has_digest
    return _HEAD.pack(size + 1, DONE) + head + text


def unpack_done(body: bytes) -> DoneFrame:
    """Read the body of a `DONE` frame."""
    number, outcome, micros, peak, delay, bits, length = _DONE.unpack_from(body)
    at = _DONE.size
    text = body[at : at + length].decode() if length else ""
    at, preview = at + length, b""
    if bits & 4:
        (size,) = _PREVIEW_SIZE.unpack_from(body, at)
        begin = at + _PREVIEW_SIZE.size
        at = begin + size
        preview = bytes(body[begin:at])
    rest, digest = rest_of(body, at), b""
    if bits & 2:
        rest, digest = rest[:-_DIGEST_SIZE], bytes(rest[-_DIGEST_SIZE:])
    # Made once for each task, so without the slower constructor of the named tuple.
    parts = (number, outcome, micros, peak, delay, bool(bits & 1), text, rest, digest, preview)
    return tuple.__new__(DoneFrame, parts)


class Frames:
    """Puts frames together from received bytes.

    Large frames are received without copies.
    """

    def __init__(self) -> None:
        self._begun = b""
        """The beginning of an incomplete frame."""
        self._large: ReceiveBuffer | None = None
        self._kind = 0

    def receive(
        self, connection: socket.socket, spin: BusyPoll | None = None
    ) -> Sequence[tuple[int, bytes]] | None:
        """Receive once; return (kind, body) of each whole frame, None at the end.

        Raises what the socket raises.
        """
        large = self._large
        if large is None:
            data = None if spin is None else spin.receive(connection, _RECEIVE)
            if data is None:
                data = connection.recv(_RECEIVE)
            return self.feed(data) if data else None
        count = connection.recv_into(large.room)
        if not count:
            return None
        if not large.came(count):
            return ()
        self._large = None
        return ((self._kind, large.whole()),)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add ``data``; return (kind, body) of each frame that is now whole."""
        if self._begun:
            data = self._begun + data
        frames: list[tuple[int, bytes]] = []
        at, size = 0, len(data)
        while size - at >= _HEAD.size:
            length, kind = _HEAD.unpack_from(data, at)
            begin, end = at + _HEAD.size, at + 4 + length
            if end > size:
                if length > LARGE:
                    note_large()
                    self._large = ReceiveBuffer(length - 1, memoryview(data)[begin:])
                    self._kind = kind
                    at = size
                break
            frames.append((kind, data[begin:end]))
            at = end
        self._begun = data[at:]
        return frames
