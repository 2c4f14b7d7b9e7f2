"""Connect a starting worker, perhaps before its store has started."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Iterable

from nbqueue.durations import format_duration
from nbqueue.errors import StoreDenied, StoreUnreachable
from nbqueue.runtime.backoff import Backoff
from nbqueue.store.connection import Store, connect
from nbqueue.store.default_store import default_url, kept_store
from nbqueue.store.descriptors import ensure
from nbqueue.store.rights import is_about_keys, refused_queues
from nbqueue.store.url import parse_url
from nbqueue.worker.executors.spawn import first_executors
from nbqueue.worker.settings import WorkerSettings

log = logging.getLogger("nbqueue.worker")

_LONGEST_PAUSE = 2.0
_OTHER_DESCRIPTORS = 32
"""Descriptors for neither queues nor executors, with a few to spare."""
_PER_EXECUTOR = 5
"""Descriptors per executor.

A socket, three pipes, and one that shows the end of the process.
"""


def ensure_descriptors(settings: WorkerSettings) -> None:
    """Raise `UsageError` without enough descriptors for the queues' connections."""
    executors = first_executors(settings.executor, settings.concurrency)[2]
    needed = len(settings.queues) + _PER_EXECUTOR * executors + _OTHER_DESCRIPTORS
    count = len(settings.queues)
    ensure(needed, f"a worker of {count:,} {'queue' if count == 1 else 'queues'}")


def wait_for_store(url: str | None, seconds: float, queues: Iterable[str] = ()) -> Store:
    """Connect to the store at ``url``, with retries while it is away.

    A store is away if it does not answer, if its name cannot be resolved, or while it loads its
    data. Raises `StoreError`, at once where waiting is useless: after a wrong password, or if the
    user may not use the keys of one of ``queues``.
    """
    place = default_url() if url is None else parse_url(url)
    notice = kept_store(place) if url is None else ""
    if notice:
        log.warning("%s", notice)
    until = time.monotonic() + seconds
    backoff = Backoff(longest=_LONGEST_PAUSE)
    is_logged = False
    while True:
        try:
            with warnings.catch_warnings(record=True) as caught:
                store = connect(place, loading_seconds=0.0, is_worker=True)
        except StoreUnreachable as error:
            left = until - time.monotonic()
            if left <= 0:
                raise
            if not is_logged:
                is_logged = True
                log.warning(
                    "worker waits for its store url=%s for=%s error=%s",
                    place.redacted,
                    format_duration(seconds),
                    error,
                )
            threading.Event().wait(min(backoff.pause(), left))
            continue
        for each in caught:
            log.warning("%s", each.message)
        check_queues(store, queues)
        if is_logged:
            log.info("store is there url=%s", place.redacted)
        if store.is_schema_due:
            store.note_schema()
        return store


def check_queues(store: Store, queues: Iterable[str]) -> None:
    """Raise `StoreDenied` if keys of a queue are denied to the user.

    Tries commands on keys that do not exist, so nothing changes.
    """
    tried = [
        (queue, command, f"{program}:{{{queue}}}:rights")
        for queue in queues
        for command in ("EXISTS", "PERSIST")
        for program in ("asynq", "nbqueue")
    ]
    if not tried:
        return
    replies = store.ask(*((command, key) for _, command, key in tried))
    denied = {
        queue: str(reply)
        for (queue, _, _), reply in zip(tried, replies, strict=True)
        if isinstance(reply, Exception) and is_about_keys(str(reply))
    }
    if denied:
        store.close()
        raise StoreDenied(refused_queues(store.url, list(denied)))
