"""The binary envelopes of calls and results. No keys, no pickles, no I/O.

A call is the ``payload`` of Asynq's TaskMessage::

    bytes   content
    0:4     00 "nbq"
    4       version of this format, 1
    5       codec of the arguments: 1 = pickle; 2 = detached pickle; 3 and 4: like 1 and 2,
            with extensions
    6, 7    major and minor version of the Python that made it
    8       flags: 1 coroutine, 2 fail if the worker is lost, 4 code by reference,
            8 the result is JSON, 16 time-outs, 32 in a process of its own
    9:13    id of the signing key
    13:29   signature: HMAC-SHA256, its first 16 bytes
    29:45   fingerprint of the code
    45:     with flag 16 first the exact time-out and deadline in ms (u64 each, 0: none),
            which Asynq's message has in whole seconds; with codec 3 or 4 then the extensions
            (see `call_extensions`); then the arguments, or with codec 2 or 4 the description
            of the detached arguments (see `detached`)

The signature covers ``"nbqueue.call.1" 00``, then the task id, the queue and the type, each as
UTF-8 after its length (u32, big-endian), then the envelope without its bytes 9:29. With codec 2 or
4 the envelope is only the head, which has the SHA-256 of the arguments.

A result is in the field ``result`` of the task (a value) or ``nbq:error`` (an exception)::

    0:4     00 "nbr"
    4       version of this format, 1
    5       codec of the body: 1 = pickle; 2 = detached pickle, see `detached`
    6       kind: 0 value, 1 exception, 2 value reported before the end, 3 rich display (whose
            body is JSON, and which is signed for the id, a zero byte and the attempt), 4 preview
            of a value (JSON as well, and signed for the id, a zero byte and the queue)
    7:11    id of the signing key
    11:27   signature, as in a call
    27:     the body

The signature covers ``"nbqueue.result.1" 00``, then the task id after its length, then the envelope
without its bytes 7:27, or with codec 2 only its head.

The id of the key is not signed: it only selects the key to try.
"""

from __future__ import annotations

import struct
import sys
from functools import lru_cache
from typing import Final, NamedTuple

from nbqueue.calls.call_extensions import Seed, pack_extensions, read_extensions
from nbqueue.calls.detached import DESCRIPTION_SIZE, DetachedBody, read_description
from nbqueue.errors import SignatureError
from nbqueue.requirements import version_requirement
from nbqueue.runtime.buffers import Piece, rest_of

VERSION: Final = 1
PICKLE: Final = 1
PICKLE_DETACHED: Final = 2
EXTENDED: Final = 3
"""The codec of a call with extensions, which older workers refuse."""
EXTENDED_DETACHED: Final = 4

COROUTINE: Final = 1
FAIL_IF_LOST: Final = 2
BY_REFERENCE: Final = 4
JSON_RESULT: Final = 8
HAS_TIMEOUTS: Final = 16
FRESH: Final = 32

VALUE: Final = 0
EXCEPTION: Final = 1
REPORTED: Final = 2
DISPLAY: Final = 3
PREVIEW: Final = 4

_CALL_MAGIC: Final = b"\x00nbq"
_RESULT_MAGIC: Final = b"\x00nbr"
_CALL: Final = struct.Struct(">4sBBBBB4s16s16s")
_PAYLOAD_TAG: Final = 0x12
_CALL_BEGIN: Final = _CALL_MAGIC + bytes((VERSION,))
_RESULT: Final = struct.Struct(">4sBBB4s16s")
_TIMEOUTS: Final = struct.Struct(">QQ")
_CALL_HEAD: Final = _CALL_MAGIC + bytes((VERSION, PICKLE, *sys.version_info[:2]))
DETACHED_CALLS: Final = (
    _CALL_MAGIC + bytes((VERSION, PICKLE_DETACHED)),
    _CALL_MAGIC + bytes((VERSION, EXTENDED_DETACHED)),
)
"""The first bytes of a call whose arguments are detached."""
_DETACHED_CALL: Final = DETACHED_CALLS[0] + bytes(sys.version_info[:2])
_CALL_CODECS: Final = frozenset({PICKLE, PICKLE_DETACHED, EXTENDED, EXTENDED_DETACHED})
_DETACHED: Final = frozenset({PICKLE_DETACHED, EXTENDED_DETACHED})
_DETACHED_RESULT: Final = _RESULT_MAGIC + bytes((VERSION, PICKLE_DETACHED))
_RESULT_HEAD: Final = _RESULT_MAGIC + bytes((VERSION, PICKLE))
_UNSIGNED: Final = bytes(20)
_LONGEST_KEPT: Final = 1000

CALL_CONTEXT: Final = b"nbqueue.call.1\0"
_RESULT_CONTEXT: Final = b"nbqueue.result.1\0"
packed_length: Final = struct.Struct(">I").pack
_FLAGS: Final = [bytes((flags,)) for flags in range(256)]


class Timeouts(NamedTuple):
    """The exact time-out and deadline of a task, in (Unix) ms; 0: none."""

    timeout_ms: int
    deadline_ms: int


class Call(NamedTuple):
    """The parts of a call's envelope.

    Do not trust them before they are verified.
    """

    version: int
    codec: int
    python: tuple[int, int]
    flags: int
    key_id: bytes
    signature: bytes
    fingerprint: bytes
    arguments: bytes | memoryview
    timeouts: Timeouts | None = None
    detached: DetachedBody | None = None
    """Describes detached arguments. In a head alone, ``arguments`` is empty then."""
    head: bytes | memoryview = b""
    """The signed part of an envelope with detached arguments."""
    seed: Seed | None = None
    """The seed of the task's random numbers."""


class Result(NamedTuple):
    """The parts of a result's envelope.

    Do not trust them before they are verified.
    """

    version: int
    codec: int
    kind: int
    key_id: bytes
    signature: bytes
    body: memoryview
    detached: DetachedBody | None = None
    head: bytes = b""


def finer_timeouts(timeout_ms: int, deadline_ms: int) -> Timeouts | None:
    """Return the exact time-outs if whole seconds cannot express them, else None."""
    if timeout_ms % 1000 or deadline_ms % 1000:
        return Timeouts(timeout_ms, max(deadline_ms, 0))
    return None


def is_call(payload: bytes | memoryview) -> bool:
    """Return whether ``payload`` is a call, not the payload of a message."""
    return payload[:4] == _CALL_MAGIC


def is_result(payload: bytes) -> bool:
    """Return whether ``payload`` is the result of a call, not of a handler."""
    return payload.startswith(_RESULT_MAGIC)


def pack_call(
    fingerprint: bytes, arguments: bytes, flags: int = 0, timeouts: Timeouts | None = None
) -> bytes:
    """Return the unsigned envelope of a call, for ``Keyring.sign_call``.

    Raises `ValueError` if ``fingerprint`` does not have 16 bytes.
    """
    return call_head(fingerprint, flags, timeouts) + arguments


def call_head(
    fingerprint: bytes,
    flags: int = 0,
    timeouts: Timeouts | None = None,
    detached: DetachedBody | None = None,
    seed: Seed | None = None,
) -> bytes:
    """Return the envelope of a call up to its arguments.

    With ``detached`` this is the complete unsigned envelope of a call with detached arguments.
    """
    if len(fingerprint) != 16:
        raise ValueError(f"a fingerprint has 16 bytes, not {len(fingerprint)}")
    exact = b""
    if timeouts is not None:
        flags |= HAS_TIMEOUTS
        exact = _TIMEOUTS.pack(*timeouts)
    begin = _CALL_HEAD if detached is None else _DETACHED_CALL
    if seed is not None:
        codec = EXTENDED if detached is None else EXTENDED_DETACHED
        begin = begin[:5] + bytes((codec,)) + begin[6:]
        exact += pack_extensions(seed)
    if detached is not None:
        exact += detached.pack()
    return b"".join((begin, _FLAGS[flags], _UNSIGNED, fingerprint, exact))


def parse_call(payload: bytes | memoryview) -> Call:
    """Parse a call. Large ``arguments`` are a view into ``payload``.

    Raises `SignatureError` if it is not a call, is truncated, or has a format that only a newer
    nbqueue can read.
    """
    if len(payload) < _CALL.size or payload[:4] != _CALL_MAGIC or payload[4] != VERSION:
        raise _unreadable(payload, _CALL_MAGIC, "call", "upgrade this worker")
    _, version, codec, major, minor, flags, key_id, signature, fingerprint = _CALL.unpack_from(
        payload
    )
    if codec not in _CALL_CODECS:
        raise _unknown_codec(codec, "call", "upgrade this worker")
    timeouts, begin = None, _CALL.size
    if flags & HAS_TIMEOUTS:
        begin += _TIMEOUTS.size
        if len(payload) < begin:
            raise _cut_short(payload, "call")
        timeouts = Timeouts(*_TIMEOUTS.unpack_from(payload, _CALL.size))
    seed = None
    if codec >= EXTENDED:
        seed, begin = read_extensions(payload, begin)
    detached = None
    head: bytes | memoryview = payload
    if codec in _DETACHED:
        detached = _read_description(payload, begin, "call")
        begin += DESCRIPTION_SIZE
        head = memoryview(payload)[:begin]
    # Called for each task: tuple.__new__ skips the slower generated constructor.
    parts = (
        version,
        codec,
        (major, minor),
        flags,
        key_id,
        signature,
        fingerprint,
        rest_of(payload, begin),
        timeouts,
        detached,
        head,
        seed,
    )
    return tuple.__new__(Call, parts)


def requirement_of(call: Call) -> str | None:
    """Return the requirement of a call's code on a worker, or None.

    See `nbqueue.requirements`.
    """
    if call.flags & BY_REFERENCE:
        return None
    return version_requirement(call.python)


def unverified_call(message: bytes) -> tuple[bytes, bytes]:
    """Return the fingerprint of the call in an encoded message, and what follows in its envelope.

    Nothing is verified. Both are empty if there is no call, or if its arguments are not in the
    message.
    """
    at = message.find(_CALL_BEGIN)
    if at < 4 or len(message) < at + _CALL.size or message[at + 5] in _DETACHED:
        return b"", b""
    # Before the payload are the tag of its field, and its size in groups of seven bits.
    if message[at - 2] == _PAYLOAD_TAG:
        size = message[at - 1]
    elif message[at - 3] == _PAYLOAD_TAG:
        size = message[at - 2] & 127 | message[at - 1] << 7
    elif message[at - 4] == _PAYLOAD_TAG:
        size = message[at - 3] & 127 | (message[at - 2] & 127) << 7 | message[at - 1] << 14
    else:
        return b"", b""
    begin = at + _CALL.size
    return message[begin - 16 : begin], message[begin : at + size]


def detached_arguments(payload: bytes | memoryview) -> DetachedBody | None:
    """Return the description of a call's detached arguments, or None.

    It is not verified.

    Raises `SignatureError` for a call that cannot be parsed.
    """
    is_detached = is_call(payload) and len(payload) > 5 and payload[5] in _DETACHED
    return parse_call(payload).detached if is_detached else None


def payload_size(payload: bytes) -> int:
    """Return the size of a payload in bytes, with its detached arguments."""
    try:
        detached = detached_arguments(payload)
    except SignatureError:
        detached = None
    return len(payload) + (0 if detached is None else detached.size)


def call_text(task_id: str, queue: str, type: str, payload: bytes | memoryview) -> bytes:
    """Return the bytes that the signature of a call covers."""
    return b"".join(call_texts(task_id, queue, type, payload))


def call_texts(
    task_id: str, queue: str, type: str, payload: bytes | memoryview
) -> tuple[bytes, Piece]:
    """Return the bytes that the signature of a call covers in two parts.

    The second one is not copied.
    """
    # Long type names are not cached, to bound the memory.
    place = place_text if len(type) <= _LONGEST_KEPT else place_text.__wrapped__
    task = task_id.encode()
    parts = (CALL_CONTEXT, packed_length(len(task)), task, place(queue, type), payload[:9])
    return b"".join(parts), rest_of(payload, 29)


@lru_cache(maxsize=256)
def place_text(queue: str, type: str) -> bytes:
    """Encode the next signed fields: queue and type. Cached, as they rarely change."""
    name, kind = queue.encode(), type.encode()
    return b"".join((packed_length(len(name)), name, packed_length(len(kind)), kind))


def put_call_signature(payload: bytes, key_id: bytes, signature: bytes) -> bytes:
    """Return ``payload`` with its signature replaced."""
    begin, end = around_call_signature(payload)
    return b"".join((begin, key_id, signature, end))


def around_call_signature(payload: bytes) -> tuple[bytes, bytes]:
    """Return the bytes before the key id and signature, and those after."""
    return payload[:9], payload[29:]


def pack_result(kind: int, body: Piece) -> bytes:
    """Return the unsigned envelope of a result, for ``Keyring.sign_result``."""
    return b"".join((_RESULT_HEAD, _FLAGS[kind], _UNSIGNED, body))


def result_head(kind: int, detached: DetachedBody | None = None) -> bytes:
    """Return the envelope of a result up to its body.

    With ``detached`` this is the complete unsigned envelope of a result with a detached body.
    """
    if detached is not None:
        return b"".join((_DETACHED_RESULT, _FLAGS[kind], _UNSIGNED, detached.pack()))
    return pack_result(kind, b"")


def parse_result(payload: bytes) -> Result:
    """Parse a result. ``body`` is a view into ``payload``.

    Raises `SignatureError` if it is not a result, is truncated, or has a format that only a newer
    nbqueue can read.
    """
    if len(payload) < _RESULT.size or payload[:4] != _RESULT_MAGIC or payload[4] != VERSION:
        raise _unreadable(payload, _RESULT_MAGIC, "result", "upgrade nbqueue here")
    _, version, codec, kind, key_id, signature = _RESULT.unpack_from(payload)
    if codec not in (PICKLE, PICKLE_DETACHED) or kind > PREVIEW:
        raise _unknown_codec(codec, "result", "upgrade nbqueue here")
    begin, detached, head = _RESULT.size, None, payload
    if codec == PICKLE_DETACHED:
        detached = _read_description(payload, begin, "result")
        begin += DESCRIPTION_SIZE
        head = payload[:begin]
    body = memoryview(payload)[begin:]
    # Called for each task, see `parse_call`.
    parts = (version, codec, kind, key_id, signature, body, detached, head)
    return tuple.__new__(Result, parts)


def detached_result(payload: bytes) -> DetachedBody | None:
    """Return the description of a result's detached body, or None.

    None also for a result that cannot be parsed.
    """
    if not is_result(payload) or len(payload) <= 5 or payload[5] != PICKLE_DETACHED:
        return None
    try:
        return parse_result(payload).detached
    except SignatureError:
        return None


def result_size(payload: bytes) -> int:
    """Return the size of a result in bytes, with its detached body."""
    detached = detached_result(payload)
    return len(payload) + (0 if detached is None else detached.size)


def _read_description(envelope: bytes | memoryview, at: int, what: str) -> DetachedBody:
    if len(envelope) < at + DESCRIPTION_SIZE:
        raise _cut_short(envelope, what)
    try:
        return read_description(envelope, at)
    except ValueError as error:
        raise SignatureError(f"this {what} was not made by nbqueue: {error}") from None


def result_text(task_id: str, payload: bytes) -> bytes:
    """Return the bytes that the signature of a result covers."""
    task = task_id.encode()
    return b"".join((_RESULT_CONTEXT, packed_length(len(task)), task, payload[:7], payload[27:]))


def result_texts(task_id: str, payload: bytes) -> tuple[bytes, Piece]:
    """Return the bytes that the signature of a result covers in two parts.

    The second one is not copied.
    """
    task = task_id.encode()
    head = b"".join((_RESULT_CONTEXT, packed_length(len(task)), task, payload[:7]))
    return head, rest_of(payload, 27)


def put_result_signature(payload: bytes, key_id: bytes, signature: bytes) -> bytes:
    """Return ``payload`` with its signature replaced."""
    return b"".join((payload[:7], key_id, signature, payload[27:]))


def _unreadable(
    payload: bytes | memoryview, magic: bytes, what: str, advice: str
) -> SignatureError:
    if payload[:4] != magic:
        return SignatureError(f"this is no {what} of nbqueue: it is not signed")
    if len(payload) > 4 and payload[4] > VERSION:
        return SignatureError(
            f"this {what} has format {payload[4]} and was made by a newer nbqueue: {advice}"
        )
    if len(payload) > 4 and payload[4] < VERSION:
        return SignatureError(f"this {what} has format {payload[4]}, which never was")
    return _cut_short(payload, what)


def _cut_short(payload: bytes | memoryview, what: str) -> SignatureError:
    return SignatureError(f"this {what} is cut short: it has {len(payload)} bytes only")


def _unknown_codec(codec: int, what: str, advice: str) -> SignatureError:
    return SignatureError(
        f"this {what} is written in a way (codec {codec}) that only a newer nbqueue knows: {advice}"
    )
