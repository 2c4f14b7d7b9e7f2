"""The worker that tasks wait for, as their future or group shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.needed_workers import NeededWorkers
from nbqueue.errors import StoreError
from nbqueue.wire import fields
from nbqueue.wire.keys import queue_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session


_MOST_ASKED = 20
"""The most tasks of a group to look at. One function, one requirement."""


def needed_by(session: Session | None, queue: str, task_ids: Sequence[str]) -> str:
    """Return what the first parked one of these tasks needs of a worker; empty for nothing.

    Asks the store once, and does not wait for one that cannot be reached.

    >>> needed_by(session, "default", [task_id])  # doctest: +SKIP
    'needs a worker with Python 3.11; none is alive'
    """
    if session is None or not session.is_open or not task_ids:
        return ""
    try:
        broker = Broker(session.store, patience=0.0)
    except StoreError:
        return ""
    try:
        keys = queue_keys(queue)
        asked = [
            ("HMGET", keys.task(task_id), fields.STATE, fields.PARKED)
            for task_id in task_ids[:_MOST_ASKED]
        ]
        needs = NeededWorkers(broker)
        texts = (
            needs.text(queue, (state or b"").decode("utf-8", "replace"), parked)
            for state, parked in broker.call(*asked, on=queue)
        )
        return next(filter(None, texts), "")
    except StoreError:
        return ""
    finally:
        broker.close()
