"""Attempts of a task, from nbqueue's fields and Asynq's message.

Programs in Go record an attempt only in the message: they count failures there, and write the text
of the last error.
"""

from __future__ import annotations

import hashlib

from nbqueue.wire import states
from nbqueue.wire.messages import TaskMessage


def failure_mark(message: TaskMessage) -> str:
    """Identify the last failure that ``message`` notes.

    The mark is stored together with the exception of an attempt. Programs in Go note their failures
    in the message alone, so an exception whose mark differs from the message's is older than the
    last failure.
    """
    digest = hashlib.sha1(message.error_msg.encode(), usedforsecurity=False).hexdigest()[:16]
    return f"{message.retried} {message.last_failed_at} {digest}"


def is_last_failure(message: TaskMessage, mark: bytes | None) -> bool:
    """Return whether the exception stored with ``mark`` is that of the last failure.

    True without a mark, which earlier versions did not write.
    """
    return not mark or mark == failure_mark(message).encode()


def attempt_number(message: TaskMessage, fetched: int, lost: int) -> int:
    """Return the number of the attempt that is running, from 1.

    ``fetched``: how often workers of nbqueue fetched the task, this time included. ``lost``: how
    many attempts ended with the process that made them, which uses up no retry.
    """
    counted = message.retried + lost + 1
    return counted if counted > fetched else fetched  # many times faster than max()


def attempts_made(
    message: TaskMessage, state: str, fetched: int, lost: int = 0, mark: bytes | None = None
) -> int:
    """Return how many attempts at the task began, wherever they ran.

    ``mark``: of the exception that is stored, if any; see `failure_mark`.
    """
    if state in (states.ACTIVE, states.COMPLETED):
        return attempt_number(message, fetched, lost)
    counted = message.retried + lost
    if counted >= fetched and state == states.ARCHIVED and message.last_failed_at:
        # The attempt that ends in the archive is not counted as retried.
        counted += not mark or not is_last_failure(message, mark)
    return max(fetched, counted)
