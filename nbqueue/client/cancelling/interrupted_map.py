"""Cancelling the tasks of a map that was interrupted or failed before it returned."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

from nbqueue.errors import StoreError

if TYPE_CHECKING:
    from nbqueue.client.futures.group import TaskGroup
    from nbqueue.client.session import Session

_log = logging.getLogger("nbqueue.client")

_INTERRUPT_SECONDS = 0.3
_ERROR_SECONDS = 5.0
"""Seconds for which an error of the map waits for its tasks to be cancelled.

An interrupt must be raised at once; after another error no task should be left.
"""

_LATE_SECONDS = 1.0


def take_back(session: Session, group: TaskGroup[Any], error: BaseException) -> None:
    """Cancel the tasks of ``group``, in a thread that the end of the process waits for.

    Returns soon, and logs a warning if the thread still runs then.
    """
    if not len(group):
        return
    thread = threading.Thread(
        target=_cancel, args=(session, group), name="nbqueue-taking-back", daemon=False
    )
    thread.start()
    thread.join(_ERROR_SECONDS if isinstance(error, Exception) else _INTERRUPT_SECONDS)
    if thread.is_alive():
        _log.warning(
            "nbqueue: up to %s tasks of %s, which map had enqueued already, are being cancelled in "
            "the background; Python's exit waits for that",
            *(f"{len(group):,}", group.type),
        )


def _cancel(session: Session, group: TaskGroup[Any]) -> None:
    try:
        answers = session.cancel(group.queue, group.ids)
        missing = [task_id for task_id, answer in answers.items() if answer == "MISSING"]
        if missing:
            # The interrupt may have broken the connection while they were sent over it.
            threading.Event().wait(_LATE_SECONDS)
            session.cancel(group.queue, missing)
    except StoreError as error:
        _log.warning(
            "nbqueue: tasks of %s that an interrupted map had enqueued could not all be "
            "cancelled: %s",
            *(group.type, error),
        )
    finally:
        session.listener.forget(group.queue, group.ids, group)
