"""Where the pieces of large arguments and results lie: in fields of the hash of their task.

So whoever deletes a task deletes them with it, also a program that knows nothing of them.
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
"""64 GB: no client takes in more."""


def argument_fields(pieces: Sequence[Body]) -> list[tuple[str, Body]]:
    """The pieces of the arguments of a task, each with its field."""
    return [(f"{fields.ARGUMENTS}{number}", piece) for number, piece in enumerate(pieces)]


def result_fields(beside: DetachedBody, pieces: Sequence[Body]) -> list[tuple[str, Body]]:
    """The same of its result."""
    return list(zip(_names(_result_prefix(beside), beside), pieces, strict=True))


def _result_prefix(beside: DetachedBody) -> str:
    """Named after what they hold: so who writes them can overwrite nothing else, should the task be
    his no longer."""
    return f"{fields.RESULT_PIECES}{beside.digest[:8].hex()}:"


def _names(prefix: str, beside: DetachedBody) -> list[str]:
    return [f"{prefix}{number}" for number in range(beside.number)]


Reads = tuple[list[Sequence[Arg]], Gathering]
"""The commands that read pieces, and where these go."""


def read_arguments(
    queue: str, task_id: str, envelope: Piece, beside: DetachedBody, digest: Any = None
) -> Reads:
    """What reads the arguments of a call behind the head of its ``envelope``; ``digest`` is told of
    them, see `Gathering`."""
    return _read(queue, task_id, envelope, beside, fields.ARGUMENTS, digest)


def read_result(queue: str, task_id: str, envelope: Piece, beside: DetachedBody) -> Reads:
    """The same of its result."""
    return _read(queue, task_id, envelope, beside, _result_prefix(beside))


def whole_result(broker: Broker, queue: str, task_id: str, result: bytes) -> bytes:
    """The result of a task with what lies beside it, if that is there. Nothing is verified."""
    beside = payloads.detached_result(result)
    if beside is None:
        return result
    if not _are_there(broker, queue, task_id, beside, _result_prefix(beside)):
        return result
    return broker.gather(read_result(queue, task_id, result, beside), on=queue) or result


def whole_payload(broker: Broker, queue: str, task_id: str, payload: bytes) -> bytes:
    """The same of the payload of a task. Raises `SignatureError` for a call that cannot be read."""
    beside = payloads.detached_arguments(payload)
    if beside is None or len(payload) > beside.size:  # whole, as where there is no store
        return payload
    if not _are_there(broker, queue, task_id, beside, fields.ARGUMENTS):
        return payload
    return broker.gather(read_arguments(queue, task_id, payload, beside), on=queue) or payload


def _are_there(broker: Broker, queue: str, task_id: str, beside: DetachedBody, prefix: str) -> bool:
    """Whether the pieces are there of which a head speaks that nobody has verified, each as long as
    it should be: so nobody is made to hold more memory than the store holds."""
    if beside.number > _MOST_PIECES:
        return False
    key = stored_keys(queue).task(task_id)
    found = broker.call(*(("HSTRLEN", key, name) for name in _names(prefix, beside)), on=queue)
    return found == beside.sizes


def _read(
    queue: str, task_id: str, envelope: Piece, beside: DetachedBody, prefix: str, digest: Any = None
) -> Reads:
    key = stored_keys(queue).task(task_id)
    calls: list[Sequence[Arg]] = [("HGET", key, name) for name in _names(prefix, beside)]
    return calls, Gathering(envelope, beside.sizes, END, digest)
