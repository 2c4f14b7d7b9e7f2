"""The connections of a client's listener."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.client.channels.cluster_subscription import AnySubscription, ClusterSubscription
from nbqueue.client.channels.subscription import Subscription
from nbqueue.errors import StoreUnreachable
from nbqueue.store.connection import Store
from nbqueue.transport.script_call import Command


class ListenerConnection:
    """A subscription to the ends of tasks, and a broker that reads tasks from the store.

    The listener's thread opens and closes them. Any thread may read ``subscription`` and
    ``number``.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._broker: Broker | None = None
        self.subscription: AnySubscription | None = None
        self.number = 0
        """Counts the subscriptions that were opened, and so identifies the current one."""

    def new_subscription(
        self, on_message: Callable[[str, bytes], None], on_confirmed: Callable[[], None]
    ) -> AnySubscription:
        """Return a new subscription to the store. Raises `StoreError`."""
        if self._store.nodes is None:
            return Subscription(self._store, on_message, on_confirmed)
        self._store.nodes.topology.read_map()
        return ClusterSubscription(self._store.nodes.topology, on_message, on_confirmed)

    def opened(self, subscription: AnySubscription) -> None:
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

    def run_each(self, commands: Iterable[Command[Any]]) -> list[Any]:
        """Run scripts of several queues, and return their results.

        Those of nodes of a cluster that are away are left out.
        """
        broker = self.broker()
        if self._store.nodes is None:
            return broker.run_all(list(commands))
        found: list[Any] = []
        for command in commands:
            try:
                found.append(broker.run(command))
            except StoreUnreachable as error:
                self.raise_if_store_wide(error)
        return found

    def raise_if_store_wide(self, error: StoreUnreachable) -> None:
        """Raise ``error``, unless it concerns one node of several.

        Then the queues of other nodes are not to wait for it.
        """
        subscription = self.subscription
        if not (isinstance(subscription, ClusterSubscription) and subscription.is_open):
            raise error

    def close(self) -> None:
        """Close both connections."""
        subscription, self.subscription = self.subscription, None
        broker, self._broker = self._broker, None
        if subscription is not None:
            subscription.close()
        if broker is not None:
            broker.close()
