"""What is stored of a task that a person cancelled before a worker of nbqueue ended it."""

from __future__ import annotations

from functools import cache

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception
from nbqueue.errors import CANCELLED, TaskCancelled


@cache
def cancellation() -> tuple[str, bytes]:
    """Return the text of the error, and the exception as a result that is still to be signed."""
    body = payloads.pack_result(payloads.EXCEPTION, dump_exception(TaskCancelled(CANCELLED)))
    return CANCELLED, body
