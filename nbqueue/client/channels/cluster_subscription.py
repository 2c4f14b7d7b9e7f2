"""Subscriptions to the nodes of a cluster, used as if they were one."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Collection
from typing import Any, Final, cast

from nbqueue.client.channels.subscription import CHECK_SECONDS, Subscription
from nbqueue.errors import StoreUnreachable
from nbqueue.transport.cluster.cluster import Cluster, Node
from nbqueue.transport.nonblocking import ChannelMoved, ConnectionLost
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.topology import Key

_AWAY_SECONDS: Final = 0.5


class ClusterSubscription:
    """Subscribes to each channel at the node that holds the slot of its name.

    A node that is away leaves out its channels, until it is back or another one has the slot.
    """

    wants_write = False
    """Always false: what is left to be written makes ``fileno`` readable when it can be."""

    def __init__(
        self,
        cluster: Cluster[Any],
        on_message: Callable[[str, bytes], None],
        on_confirmed: Callable[[], None],
    ) -> None:
        self._cluster = cluster
        self._on_message = on_message
        self._on_confirmed = on_confirmed
        self._poll = select.epoll()
        self._parts: dict[Node, Subscription] = {}
        self._by_fd: dict[int, Subscription] = {}
        self._wanted: Collection[str] = ()
        self._arranged: tuple[int, Collection[str]] = (-1, ())
        """The version of the map and the channels at the last `_arrange`."""
        self._retry_at: dict[Node, float] = {}
        """When to try again to open nodes that are away."""
        self.subscribed: set[str] = set()

    def fileno(self) -> int:
        return self._poll.fileno()

    def follow(self, channels: Collection[str]) -> None:
        """Subscribe to these channels and to no others; `flush` opens connections and sends."""
        self._wanted = set(channels)

    def is_subscribed(self, channel: str) -> bool:
        """True if every message that is published on ``channel`` from now on comes here."""
        return channel in self.subscribed

    @property
    def is_denied(self) -> bool:
        """True if the store's user may not subscribe."""
        return any(part.is_denied for part in self._parts.values())

    @property
    def is_confirmed(self) -> bool:
        """True if the nodes that are not away confirmed all changes."""
        return all(part.is_confirmed for part in self._parts.values())

    @property
    def is_open(self) -> bool:
        """True if any node is connected."""
        return bool(self._parts)

    @property
    def check_seconds(self) -> float:
        """Seconds until the next `check_alive` and `flush` at the latest."""
        return _AWAY_SECONDS if self._retry_at else CHECK_SECONDS

    def check_alive(self) -> None:
        """Ask each node for a sign of life now and then. Raises `ConnectionLost`."""
        for part in self._parts.values():
            part.check_alive()

    def flush(self) -> None:
        """Open what is missing, and send what is queued."""
        now = time.monotonic()
        is_due = any(at <= now for at in self._retry_at.values())
        if is_due:
            self._cluster.refresh()
        if is_due or self._arranged != (self._cluster.version, self._wanted):
            self._arranged = self._cluster.version, self._wanted
            self._arrange(now)
        for part in self._parts.values():
            part.flush()
            self._watch(part)

    def _arrange(self, now: float) -> None:
        """Have each node's connection follow the channels of its queues."""
        was_away, self._retry_at = self._retry_at, {}
        channels: dict[Node, set[str]] = {node: set() for node in self._parts}
        for channel in self._wanted:
            try:
                channels.setdefault(self._cluster.server_for(Key(channel)), set()).add(channel)
            except StoreUnreachable:
                pass  # no node serves this slot
        for node, names in channels.items():
            part = self._parts.get(node)
            if part is None:
                part = self._open(node, was_away, now)
            if part is not None:
                part.follow(names)
        self._collect()

    def _open(self, node: Node, was_away: dict[Node, float], now: float) -> Subscription | None:
        if was_away.get(node, 0.0) > now:
            self._retry_at[node] = was_away[node]
            return None
        try:
            part = _NodeSubscription(node, self._on_message, self._part_confirmed)
        except StoreUnreachable:
            self._retry_at[node] = time.monotonic() + _AWAY_SECONDS
            return None
        if was_away:
            # Ends that were announced meanwhile are found after connecting anew.
            part.close()
            raise ConnectionLost(f"{node.name} is back, or another node took over")
        self._parts[node] = part
        self._by_fd[part.fileno()] = part
        self._poll.register(part.fileno(), select.EPOLLIN)
        return part

    def _watch(self, part: Subscription) -> None:
        events = select.EPOLLIN | (select.EPOLLOUT if part.wants_write else 0)
        self._poll.modify(part.fileno(), events)

    def _part_confirmed(self) -> None:
        self._collect()
        if self.is_confirmed:
            self._on_confirmed()

    def _collect(self) -> None:
        self.subscribed = set().union(*(part.subscribed for part in self._parts.values()))

    def read(self) -> None:
        """Receive what has come from any node. Raises `ConnectionLost`."""
        for number, events in self._poll.poll(0):
            part = self._by_fd[number]
            if events & select.EPOLLOUT:
                part.flush()
                self._watch(part)
            if events & ~select.EPOLLOUT:
                part.read()

    def close(self) -> None:
        """Close the connections."""
        for part in self._parts.values():
            part.close()
        self._poll.close()


class _NodeSubscription(Subscription):
    """A subscription to channels at the node of their slots."""

    def _subscribe(self, command: str, channels: list[str]) -> None:
        if not self._node.is_sharded:
            super()._subscribe(command, channels)
            return
        for channel in channels:  # one by one, as each may have another slot
            self._queue((f"S{command}", channel))

    def _on_confirmation(self, kind: bytes, channel: str) -> None:
        if kind == b"sunsubscribe" and channel in self._asked:
            raise ChannelMoved("a channel has moved to another node")
        super()._on_confirmation(kind, channel)

    def _check_serving(self, refusal: ReplyError) -> None:  # type: ignore[override]
        self._node.note(refusal)
        super()._check_serving(refusal)

    @property
    def _node(self) -> Node:
        return cast("Node", self.server)


AnySubscription = Subscription | ClusterSubscription
