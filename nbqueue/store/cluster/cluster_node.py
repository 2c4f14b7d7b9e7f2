"""A node of a cluster that is a store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar

from nbqueue.errors import StoreDamaged, StoreError, StoreUnreachable, StoreUnsuitable
from nbqueue.store.url import StoreURL
from nbqueue.transport.cluster.cluster import SlotMoved
from nbqueue.transport.cluster.cluster_scripts import is_guard
from nbqueue.transport.cluster.slots import Address, SlotRange, read_redirection, read_slots
from nbqueue.transport.connect import RawConnection
from nbqueue.transport.refusals import is_login_refused
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.server import Server

_SLOTS: Final = ("CLUSTER", "SLOTS")
_PAUSE_FACTOR: Final = 5.0
"""How much longer to leave a node alone than it took to find out that it does not answer."""
_UNAVAILABLE: Final = {
    "CLUSTERDOWN": "the cluster does not serve this key now",
    "TRYAGAIN": "the slot of this key is being moved to another node",
    "ASK": "the slot of this key is being moved to another node",
}


class NodeStore(Server, Protocol):
    """The store that a single node would be."""

    url: StoreURL

    def ask(self, *questions: Sequence[str]) -> list[Any]:
        """Run plain commands on a separate connection; refusals are values."""

    def check_ready(self) -> None:
        """Raise `StoreError` unless the server serves this client and accepts writes."""

    def close(self) -> None:
        """Close its connections."""

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""


S = TypeVar("S", bound=NodeStore)


class ClusterNode(Generic[S]):
    """A node, whose errors name it and the cluster."""

    def __init__(
        self,
        address: Address,
        store: S,
        url: StoreURL,
        moved: Callable[[int, Address], None],
        lost: Callable[[], None],
        are_sharded: Callable[[], bool],
    ) -> None:
        """``moved(slot, address)`` and ``lost()`` tell the topology what this node learns.

        ``are_sharded()``: whether channels of queues have slots.
        """
        self.address = address
        self.store = store
        self.is_away = False
        self._retry_at = 0.0
        self._url = url
        self._moved = moved
        self._lost = lost
        self._are_sharded = are_sharded

    @property
    def is_sharded(self) -> bool:
        """True if channels of queues have slots, from Redis 7 on."""
        return self._are_sharded()

    @property
    def name(self) -> str:
        return self.store.name

    def open_connection(self, timeout: float | None = 30.0) -> RawConnection:
        began = time.monotonic()
        if self.is_away and began < self._retry_at:
            raise StoreUnreachable(f"{self.name} did not answer a moment ago")
        try:
            raw = self.store.open_connection(timeout)
        except StoreUnreachable:
            self.is_away = True
            # A host that vanished is noticed after seconds, in which a thread does nothing else.
            now = time.monotonic()
            self._retry_at = now + _PAUSE_FACTOR * (now - began)
            self._lost()
            raise
        self.is_away = False
        return raw

    def check_ready(self) -> None:
        """Raise `StoreError` unless the node serves this client and accepts writes."""
        try:
            self.store.check_ready()
        except StoreUnreachable:
            self.is_away = True
            raise
        self.is_away = False

    def note(self, refusal: ReplyError) -> None:
        """Tell the topology if this refusal names the node that has the slot."""
        if refusal.reason == "MOVED":
            found = read_redirection(str(refusal), self.address)
            if found is not None:
                self._moved(*found)

    def error_for(self, refusal: ReplyError, keys: Sequence[Arg] = ()) -> StoreError:
        reason = refusal.reason
        if reason == "MOVED":
            self.note(refusal)
            return SlotMoved(f"{self.name}: the slot of this key has moved ({refusal})")
        cause = _UNAVAILABLE.get(reason)
        if cause is not None:
            return StoreUnreachable(f"{self.name}: {cause} ({refusal})")
        return self.store.error_for(refusal, [key for key in keys if not is_guard(key)])

    def damage_of(self, keys: Sequence[Arg]) -> StoreDamaged:
        return self.store.damage_of([key for key in keys if not is_guard(key)])

    def read_slots(self) -> list[SlotRange]:
        """Ask for the map of slots.

        Raises `StoreUnsuitable` for a server that belongs to no cluster, `StoreUnreachable` for a
        node that cannot be reached or has no map.
        """
        [reply] = self.store.ask(_SLOTS)
        if isinstance(reply, ReplyError):
            if is_login_refused(reply):
                raise self.store.error_for(reply)
            if "cluster support disabled" in str(reply):
                raise StoreUnsuitable(
                    f"{self.address} is a single server and no node of a cluster ({reply.text}). "
                    f"Write {self.store.url.redacted}"
                )
            if reply.reason == "NOPERM":
                raise self.store.error_for(reply)
            raise StoreUnreachable(f"the node {self.name} has no map of the cluster: {reply}")
        try:
            ranges = read_slots(reply, self.address)
        except ValueError as error:
            raise StoreUnsuitable(
                f"the node {self.name} answers CLUSTER SLOTS with {error}"
            ) from None
        if not ranges:
            raise StoreUnreachable(
                f"the node {self.name} of the cluster {self._url.redacted} knows of no slots: "
                "was the cluster created (redis-cli --cluster create)?"
            )
        return ranges
