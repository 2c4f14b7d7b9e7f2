"""Encode values that tasks return or report, for the store."""

from __future__ import annotations

import json
from typing import Any

from nbqueue.calls import functions
from nbqueue.errors import UsageError
from nbqueue.executor.pipe import TaskFrame
from nbqueue.runtime.buffers import Body
from nbqueue.tasks.message_handlers import encode_result


def encode_value(frame: TaskFrame, value: object) -> Body:
    """Encode a value of a task for the store.

    As a pickle, as JSON if the call asks for that, or as the result of a message.

    Raises `CannotPickle`, `TypeError` or `ValueError` if the value cannot be encoded.
    """
    if frame.is_message:
        return encode_result(value)
    if frame.json_result:
        return _json(value, frame.type)
    return functions.dump_returned(value, callee=frame.type)


def _json(value: Any, callee: str) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"the result of {callee} cannot be written as JSON ({error}): return what JSON can "
            "hold, or leave out codec='json'"
        ) from None
