"""Log the store's errors without filling the log."""

from __future__ import annotations

import logging

from nbqueue.runtime.backoff import FaultLog
from nbqueue.transport.resp import STORE_WIDE, ReplyError

log = logging.getLogger("nbqueue.worker")

faults = FaultLog(log)


def refused(what: str, error: ReplyError) -> None:
    """Log that the store refused ``what``, then once a minute while it lasts.

    An error that concerns many commands, such as a full memory, is logged once for all of them.
    """
    reason = error.reason
    if reason in STORE_WIDE:
        key: tuple[str, ...] = (reason,)
    elif reason == "NOPERM":
        key = (reason, what)
    else:
        key = (reason, what, str(error)[:100])
    faults.occurred(key, "store refused %s error=%s", what, error)


def accepted() -> None:
    """Log that the store accepts commands again, after it refused many."""
    for reason in STORE_WIDE:
        faults.over((reason,), "store no longer refuses commands with %s", reason)
