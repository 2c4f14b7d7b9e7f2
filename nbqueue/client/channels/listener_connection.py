"""The connections of a client's listener."""

from __future__ import annotations

from nbqueue.broker.broker import Broker
from nbqueue.client.channels.subscription import Subscription
from nbqueue.store.connection import Store


class ListenerConnection:
    """A subscription to the ends of tasks, and a broker that reads tasks from the store.

    The listener's thread opens and closes them. Any thread may read ``subscription`` and
    ``number``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._broker: Broker | None = None
        self.subscription: Subscription | None = None
        self.number = 0
        """Counts the subscriptions that were opened, and so identifies the current one."""

    def opened(self, subscription: Subscription) -> None:
        """Use this subscription from now on."""
        self.subscription = subscription
        self.number += 1

    def is_subscribed(self, channel: str) -> bool:
        """True if every message that is published on ``channel`` from now on comes here."""
        subscription = self.subscription
        return subscription is not None and channel in subscription.subscribed

    @property
    def is_denied(self) -> bool:
        """True if the store's user may not subscribe to the channels."""
        subscription = self.subscription
        return subscription is not None and subscription.is_denied

    def broker(self) -> Broker:
        """Return a broker of the listener's own, so that other threads need not wait for it.

        It does not try again while the store is away: the listener does, and can be stopped.
        """
        if self._broker is None:
            self._broker = Broker(self._store, patience=0.0)
        return self._broker

    def close(self) -> None:
        """Close both connections."""
        subscription, self.subscription = self.subscription, None
        broker, self._broker = self._broker, None
        if subscription is not None:
            subscription.close()
        if broker is not None:
            broker.close()
