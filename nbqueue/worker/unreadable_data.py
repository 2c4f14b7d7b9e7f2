"""Log unreadable data of the store without filling the log."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from nbqueue.runtime.backoff import FaultLog
from nbqueue.transport.nonblocking import ConnectionLost
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


def handle_guarded(handle: Callable[[Any], object], value: Any) -> None:
    """Call ``handle`` with data of the store, and log its exceptions.

    The decoders should find bad data; this function catches the errors that they miss. Use it only
    for work that is repeated anyway, or that may be left out.
    """
    try:
        handle(value)
    except ConnectionLost:
        raise
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        key = f"{where.name} in {where.filename.rpartition('/')[2]}:{where.lineno}"
        set_aside("reply or message", key, f"{type(error).__name__}: {error}")
        log.debug("the exception was:", exc_info=True)
