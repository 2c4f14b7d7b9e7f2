"""The stored error of a task that was cancelled from outside its worker."""

from __future__ import annotations

from functools import cache

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception
from nbqueue.errors import CANCELLED, TaskCancelled


@cache
def cancellation() -> tuple[str, bytes]:
    """Return the error text and the exception as an unsigned result."""
    body = payloads.pack_result(payloads.EXCEPTION, dump_exception(TaskCancelled(CANCELLED)))
    return CANCELLED, body
