"""Cards of a client, and of the queues, tasks and workers that its inspector returns."""

from __future__ import annotations

from functools import cache

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.models import QueueInfo, ServerInfo, TaskInfo, register_card
from nbqueue.broker.reads.store_reader import StoreReader
from nbqueue.client.session import Session
from nbqueue.errors import StoreError

_PATIENCE = 1.0
"""Seconds that a card waits for a store that does not answer."""


def client_html(session: Session) -> str:
    """Return the card of a client. It waits for the store a second at most."""
    from nbqueue.views import static_cards  # HTML is loaded only where something is shown

    url = session.store.url.place
    if not session.is_open:
        return static_cards.client_card(url, is_open=False)
    try:
        queues, count = _queues(session, static_cards.MOST_QUEUES)
    except StoreError as error:
        return static_cards.client_card(url, is_open=True, trouble=str(error))
    return static_cards.client_card(
        url,
        is_open=True,
        queues=queues,
        queue_count=count,
        notices=session.obstacles.look_at_store(),
    )


def _queues(session: Session, most: int) -> tuple[list[QueueInfo], int]:
    """Read the queues that the card shows, and how many there are."""
    broker = Broker(session.store, patience=_PATIENCE)
    try:
        names = broker.queues()
        return StoreReader(broker).queues(names[:most]), len(names)
    finally:
        broker.close()


@cache
def register_cards() -> None:
    """Give queues, tasks and workers their cards: the broker, which defines them, has no HTML."""
    from nbqueue.views import static_cards  # HTML is loaded only where something is shown

    register_card(QueueInfo, static_cards.queue_card)
    register_card(TaskInfo, static_cards.task_card)
    register_card(ServerInfo, static_cards.server_card)
