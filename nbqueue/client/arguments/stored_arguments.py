"""Arguments of stored tasks by name: for frames, filters, cards and the panel.

A call is verified, then its arguments are unpickled, and named by the parameters of its function,
which are read once for each function. A message has the keys of its JSON payload.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nbqueue.broker.large_values import whole_payload
from nbqueue.calls import payloads
from nbqueue.calls.functions import fingerprint_of, load_arguments
from nbqueue.client.arguments.code_parameters import parameters_of
from nbqueue.client.arguments.function_parameters import UNKNOWN, Parameters
from nbqueue.errors import StoreDamaged, StoreError
from nbqueue.sizes import format_size
from nbqueue.views.call_text import LONGEST_CALL, call_text
from nbqueue.wire.decoding import json_object
from nbqueue.wire.keys import stored_keys

if TYPE_CHECKING:
    from nbqueue.broker.reads.models import TaskInfo
    from nbqueue.client.session import Session
    from nbqueue.wire.messages import TaskMessage

LARGEST_ARGUMENTS: Final = 1 << 20
"""The most bytes of a task's arguments that are read; there may be many tasks."""
_LARGEST_CODE: Final = 32 << 20
_MOST_FUNCTIONS: Final = 10_000

_parameters: dict[bytes, Parameters] = {}
"""The parameters of functions by fingerprint, which is a digest of their code."""


def known_parameters(fingerprint: bytes) -> Parameters | None:
    """Return the parameters of a function that this process has read, by its fingerprint."""
    return _parameters.get(fingerprint)


class NamedArguments(NamedTuple):
    """The arguments of a task by name, or the reason why they cannot be read."""

    values: dict[str, Any]
    fault: str | None = None


class StoredCall(NamedTuple):
    """The call of a stored task, to be shown."""

    text: str
    """The call as Python would write it, long values cut: ``load(path='s3://…', rows=100)``.

    Printable, by default at most 200 characters. The arguments are ``…`` if they cannot be read.
    """
    values: dict[str, Any]
    """The arguments by name, with the defaults of parameters without one."""
    fault: str | None
    """The reason why the arguments cannot be read, or None."""


class ArgumentReader:
    """Reads the arguments of tasks. Only verified calls are loaded."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._missing: set[bytes] = set()

    def read(
        self, queue: str, message: TaskMessage | TaskInfo, *, fill: bool = True
    ) -> NamedArguments:
        """Return the arguments of a task by name; with ``fill``, with defaults.

        Raises `StoreUnreachable`, and nothing for arguments that cannot be read.
        """
        payload = message.payload
        try:
            if not payloads.is_call(payload):
                return NamedArguments(json_object(payload) if payload else {})
            detached = payloads.detached_arguments(payload)
            if detached is not None:
                if detached.size > LARGEST_ARGUMENTS:
                    return _too_large(detached.size)
                payload = whole_payload(self._session.broker, queue, message.id, payload)
            call = self._session.keyring.verify_call(payload, message.id, queue, message.type)
            if len(call.arguments) > LARGEST_ARGUMENTS:
                return _too_large(len(call.arguments))
            args, kwargs = load_arguments(call.arguments)
            parameters = _parameters.get(call.fingerprint) or self._load(queue, call.fingerprint)
            return NamedArguments(parameters.bind(args, kwargs, fill=fill))
        except StoreDamaged as error:
            return NamedArguments({}, str(error))
        except StoreError:
            raise
        except Exception as error:  # loading may raise anything
            return NamedArguments({}, f"its arguments cannot be read: {_text(error)}")

    def call(
        self, queue: str, message: TaskMessage | TaskInfo, most: int = LONGEST_CALL
    ) -> StoredCall:
        """Return the call of a task in at most ``most`` characters. Raises as `read` does."""
        given = self.read(queue, message, fill=False)
        is_call = payloads.is_call(message.payload)
        name = message.type.rpartition(".")[2] if is_call else message.type
        if given.fault is not None:
            return StoredCall(call_text(name, {"0": ...}).replace("Ellipsis", "…"), *given)
        values = self.read(queue, message).values if is_call else given.values
        return StoredCall(call_text(name, given.values, most), values, None)

    def _load(self, queue: str, fingerprint: bytes) -> Parameters:
        """Read the parameters of a function whose fingerprint is verified."""
        if fingerprint in self._missing:
            return UNKNOWN
        key = stored_keys(queue).code(fingerprint)
        broker = self._session.broker
        size, *_ = broker.try_call(("STRLEN", key), on=queue)
        if isinstance(size, int) and 0 < size <= _LARGEST_CODE:
            blob, *_ = broker.try_call(("GET", key), on=queue)
            if isinstance(blob, bytes) and fingerprint_of(blob) == fingerprint:
                if len(_parameters) >= _MOST_FUNCTIONS:
                    _parameters.clear()
                found = _parameters[fingerprint] = parameters_of(blob)
                return found
        self._missing.add(fingerprint)
        return UNKNOWN


def stored_calls(session: Session, queue: str, task_ids: Sequence[str]) -> dict[str, StoredCall]:
    """Return the calls of tasks of a queue, to be shown, without those that no longer exist.

    For cards and lists: it raises nothing, returns an empty dict if the store does not answer, and
    runs no code of users but what unpickling verified arguments takes.
    """
    reader = ArgumentReader(session)
    try:
        records = session.broker.read(queue, task_ids)
        return {
            record.message.id: reader.call(queue, record.message)
            for record in records
            if record is not None
        }
    except StoreError:
        return {}


def _too_large(size: int) -> NamedArguments:
    return NamedArguments(
        {}, f"its arguments are large ({format_size(size)}): the column 'arguments' has them"
    )


def _text(error: Exception) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:
        return type(error).__name__
