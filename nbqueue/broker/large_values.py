"""Read and write the pieces of large arguments and results.

The pieces are fields of the task's hash, so they are deleted with the task, even by programs that
do not know them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nbqueue.calls import payloads
from nbqueue.calls.detached import DetachedBody
from nbqueue.runtime.buffers import Body, Gathering, Piece
from nbqueue.transport.resp import END
from nbqueue.transport.script_call import Arg
from nbqueue.wire import fields
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.broker.broker import Broker


_MOST_PIECES = 16_384
"""The maximum number of pieces, 64 GB: no client receives more."""


def argument_fields(pieces: Sequence[Body]) -> list[tuple[str, Body]]:
    """Return the pieces of a task's arguments with their fields."""
    return [(f"{fields.ARGUMENTS}{number}", piece) for number, piece in enumerate(pieces)]


def result_fields(detached: DetachedBody, pieces: Sequence[Body]) -> list[tuple[str, Body]]:
    """Return the pieces of a task's result with their fields."""
    return list(zip(_names(_result_prefix(detached), detached), pieces, strict=True))


def _result_prefix(detached: DetachedBody) -> str:
    """Return the prefix of the fields of a result's pieces.

    It contains the digest of the result, so a worker that has lost the task overwrites no other
    result.
    """
    return f"{fields.RESULT_PIECES}{detached.digest[:8].hex()}:"


def _names(prefix: str, detached: DetachedBody) -> list[str]:
    return [f"{prefix}{number}" for number in range(detached.number)]


Reads = tuple[list[Sequence[Arg]], Gathering]
"""The commands that read pieces, and the buffer for them."""


def read_arguments(
    queue: str, task_id: str, envelope: Piece, detached: DetachedBody, digest: Any = None
) -> Reads:
    """Return the commands that read a call's arguments into a whole ``envelope``.

    ``digest`` is updated with them as they arrive, see `Gathering`.
    """
    return _read(queue, task_id, envelope, detached, fields.ARGUMENTS, digest)


def read_result(queue: str, task_id: str, envelope: Piece, detached: DetachedBody) -> Reads:
    """Return the commands that read a task's result into a whole ``envelope``."""
    return _read(queue, task_id, envelope, detached, _result_prefix(detached))


def whole_result(broker: Broker, queue: str, task_id: str, result: bytes) -> bytes:
    """Return a task's result with its detached body, if that exists. Not verified."""
    detached = payloads.detached_result(result)
    if detached is None:
        return result
    if not _are_there(broker, queue, task_id, detached, _result_prefix(detached)):
        return result
    return broker.gather(read_result(queue, task_id, result, detached), on=queue) or result


def whole_payload(broker: Broker, queue: str, task_id: str, payload: bytes) -> bytes:
    """Return a task's payload with its detached arguments, if these exist.

    Raises `SignatureError` for a call that cannot be read.
    """
    detached = payloads.detached_arguments(payload)
    if detached is None or len(payload) > detached.size:  # already whole, without a store
        return payload
    if not _are_there(broker, queue, task_id, detached, fields.ARGUMENTS):
        return payload
    return broker.gather(read_arguments(queue, task_id, payload, detached), on=queue) or payload


def _are_there(
    broker: Broker, queue: str, task_id: str, detached: DetachedBody, prefix: str
) -> bool:
    """Return whether all pieces exist, with the sizes in the unverified head.

    A forged head cannot make a client allocate more memory than the store holds.
    """
    if detached.number > _MOST_PIECES:
        return False
    key = stored_keys(queue).task(task_id)
    found = broker.call(*(("HSTRLEN", key, name) for name in _names(prefix, detached)), on=queue)
    return found == detached.sizes


def _read(
    queue: str,
    task_id: str,
    envelope: Piece,
    detached: DetachedBody,
    prefix: str,
    digest: Any = None,
) -> Reads:
    key = stored_keys(queue).task(task_id)
    calls: list[Sequence[Arg]] = [("HGET", key, name) for name in _names(prefix, detached)]
    return calls, Gathering(envelope, detached.sizes, END, digest)
