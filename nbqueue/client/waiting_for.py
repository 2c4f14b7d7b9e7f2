"""What a task waits for, as its future shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbqueue.broker.broker import Broker
from nbqueue.broker.needs import Needs
from nbqueue.errors import StoreError
from nbqueue.wire import fields
from nbqueue.wire.keys import queue_keys

if TYPE_CHECKING:
    from nbqueue.client.session import Session


def needed_by(session: Session | None, queue: str, task_id: str) -> str:
    """``: needs a worker with Python 3.11`` if that is what a scheduled task waits for, else empty.

    It asks the store, once: a store that is away is not waited for.
    """
    if session is None or not session.is_open:
        return ""
    try:
        broker = Broker(session.store, patience=0.0)
    except StoreError:
        return ""
    try:
        key = queue_keys(queue).task(task_id)
        [(state, parked)] = broker.call(("HMGET", key, fields.STATE, fields.PARKED))
        text = Needs(broker).text(queue, (state or b"").decode("utf-8", "replace"), parked)
    except StoreError:
        return ""
    finally:
        broker.close()
    return f": {text};" if text else ""
