"""The topology of a Redis Cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Generic, Protocol, TypeVar

from nbqueue.errors import StoreError, StoreUnreachable
from nbqueue.transport.cluster.slots import SLOTS, Address, SlotRange, slot_of_place
from nbqueue.transport.resp import ReplyError
from nbqueue.transport.server import Server
from nbqueue.transport.topology import ANYWHERE, Place

_REFRESH_SECONDS: Final = 0.1
"""Minimum number of seconds between two reads of the map of slots."""


class SlotMoved(StoreUnreachable):
    """A node names another one for a slot. The topology knows it by now."""


class Node(Server, Protocol):
    """A node of a cluster."""

    address: Address
    is_away: bool
    """True if it could not be reached when it was last tried."""

    @property
    def is_sharded(self) -> bool:
        """True if channels of queues have slots, from Redis 7 on."""

    def read_slots(self) -> list[SlotRange]:
        """Ask the node for the map of slots. Raises `StoreError`."""

    def note(self, refusal: ReplyError) -> None:
        """Tell the topology if this refusal names the node that has the slot."""


N = TypeVar("N", bound=Node)


class Cluster(Generic[N]):
    """Knows which master holds which slots. Safe to share by threads.

    The map is read anew when a node cannot be reached, and corrected when a node names another one
    for a slot.
    """

    def __init__(
        self, name: str, seeds: Sequence[Address], new_node: Callable[[Address], N]
    ) -> None:
        """``seeds`` are asked first for the map of slots."""
        self._name = name
        self._new_node = new_node
        self._nodes: dict[Address, N] = {}
        self._seeds = [self.node(address) for address in seeds]
        self._owners: list[N | None] = [None] * SLOTS
        self._learned: tuple[int, Sequence[SlotRange]] = (0, ())
        """The last map that was learned, and the version then."""
        self._lock = threading.Lock()
        self._refresh_lock = threading.Lock()
        self._refreshed_at = float("-inf")
        self.is_sharded = False
        """True if channels of queues have slots, from Redis 7 on."""
        self.version = 0
        """Counts the changes of the map."""

    def node(self, address: Address) -> N:
        """Return the node at an address."""
        found = self._nodes.get(address)
        if found is None:
            found = self._nodes.setdefault(address, self._new_node(address))
        return found

    @property
    def nodes(self) -> list[N]:
        """All nodes that were ever used."""
        return list(self._nodes.values())

    def masters(self) -> list[N]:
        """Return the nodes that hold slots, in the order of their first slots."""
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))

    def server_for(self, place: Place) -> N:
        """Return the master that holds the slot of ``place``.

        For `ANYWHERE` it is always the same master, unless that is away. Raises `StoreUnreachable`
        for a slot that no node serves.
        """
        slot = slot_of_place(place)
        owner = self._owners[slot]
        if place is ANYWHERE and (owner is None or owner.is_away):
            owner = next((each for each in self.masters() if not each.is_away), owner)
        if owner is None:
            self.refresh()
            owner = self._owners[slot]
        if owner is None:
            raise StoreUnreachable(
                f"no node of the cluster {self._name} serves slot {slot}: CLUSTER NODES on any "
                "node shows which master is missing"
            )
        return owner

    def moved(self, slot: int, address: Address) -> None:
        """Note that a slot is at another node now."""
        owner = self.node(address)
        owner.is_away = False
        with self._lock:
            if self._owners[slot] is not owner:
                self._owners[slot] = owner
                self.version += 1

    def refresh(self) -> None:
        """Read the map of slots from any node that has one, unless that was just done.

        Without an answer the map stays as it is.
        """
        try:
            self.read_map()
        except StoreError:
            pass

    def read_map(self) -> None:
        """Like `refresh`; raises the last `StoreError` if no node answers."""
        with self._refresh_lock:
            if time.monotonic() - self._refreshed_at < _REFRESH_SECONDS:
                return
            known = dict.fromkeys([*self.masters(), *self._seeds, *self.nodes])
            problem: StoreError | None = None
            for node in sorted(known, key=lambda node: node.is_away):
                try:
                    ranges = node.read_slots()
                except StoreUnreachable as error:
                    node.is_away = True
                    problem = problem or error
                    continue
                node.is_away = False
                self.learn(ranges)
                self._refreshed_at = time.monotonic()
                return
            assert problem is not None
            raise problem

    def learn(self, ranges: Sequence[SlotRange]) -> None:
        """Use a map of slots that a node has sent."""
        if self._learned == (self.version, ranges):
            return
        owners: list[N | None] = [None] * SLOTS
        for each in ranges:
            master = self.node(each.master)
            owners[each.first : each.last + 1] = [master] * (each.last + 1 - each.first)
        # A node that lost touch with the others may know no master of a slot.
        owners = [new or old for new, old in zip(owners, self._owners, strict=True)]
        with self._lock:
            if owners != self._owners:
                self._owners = owners
                self.version += 1
            self._learned = self.version, ranges

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""
        self._lock = threading.Lock()
        self._refresh_lock = threading.Lock()
