"""What is stored of a task that a person cancelled before a worker of nbqueue ended it."""

from __future__ import annotations

from functools import cache

from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception, error_text
from nbqueue.errors import TaskCancelled


@cache
def cancellation() -> tuple[str, bytes]:
    """Return the text of the error, and the exception as a result that is still to be signed."""
    error = TaskCancelled("the task was cancelled")
    return error_text(error), payloads.pack_result(payloads.EXCEPTION, dump_exception(error))
