"""Log unreadable data of the store without filling the log."""

from __future__ import annotations

import logging

from nbqueue.runtime.backoff import FaultLog
from nbqueue.wire.decoding import shortened

log = logging.getLogger("nbqueue.worker")

_faults = FaultLog(log)


def set_aside(what: str, key: str, why: object) -> None:
    """Log that ``what`` is unreadable and ignored.

    Once a minute for each ``key``.
    """
    _faults.occurred(
        (what, key),
        "%s refused key=%s error=%s",
        what,
        shortened(key, 200),
        shortened(str(why), 300),
        level=logging.ERROR,
    )
