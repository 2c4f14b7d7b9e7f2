"""Cards of a client and of what its inspector tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.models import QueueInfo, ServerInfo, TaskInfo
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.client.session import Session
from nbqueue.errors import StoreError
from nbqueue.views import static_cards

_PATIENCE = 1.0
"""Seconds for which a card waits for a store that does not answer."""


def client_html(session: Session) -> str:
    """The card of a client. It asks the store, and not for long."""
    url = session.store.url.redacted
    if not session.is_open:
        return static_cards.client_card(url, is_open=False)
    try:
        queues, count = _queues(session)
    except StoreError as error:
        return static_cards.client_card(url, is_open=True, trouble=str(error))
    return static_cards.client_card(url, is_open=True, queues=queues, queue_count=count)


def _queues(session: Session) -> tuple[list[QueueInfo], int]:
    """The queues that a card shows, and how many there are."""
    broker = Broker(session.store, patience=_PATIENCE)
    try:
        names = broker.queues()
        return StoreReader(broker).queues(names[: static_cards.MOST_QUEUES]), len(names)
    finally:
        broker.close()


def _give(kind: type, make: Callable[[Any], str]) -> None:
    # The broker knows nothing of HTML, and these are its classes.
    kind._repr_html_ = make  # type: ignore[attr-defined]


_give(QueueInfo, static_cards.queue_card)
_give(TaskInfo, static_cards.task_card)
_give(ServerInfo, static_cards.server_card)
