"""A worker's connections to all nodes of a cluster, which are opened and closed together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

from nbqueue.errors import StoreUnreachable
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.cluster.cluster_node import ClusterNode
from nbqueue.store.connection import Store
from nbqueue.transport.cluster.cluster import Cluster
from nbqueue.transport.cluster.cluster_scripts import has_slot
from nbqueue.transport.cluster.slots import Address, read_slots
from nbqueue.transport.nonblocking import ChannelMoved, ConnectionLost, OnReply
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.transport.topology import ANYWHERE, Key, Place
from nbqueue.worker.cluster.node_connections import NodeConnections, RefusingConnection
from nbqueue.worker.server_connections import (
    DownConnection,
    QueueConnection,
    ServerConnections,
    ServerEvents,
)

_Node = ClusterNode[Store]

_KEYLESS: Final = frozenset({"TIME", "PUBLISH", "ECHO", "PING"})


class AllNodes:
    """The connections to the masters of a cluster, for ``queues``, each at the node that has it.

    A node that is away has none: its queues wait, and the others are served.
    """

    tasks = upkeep = DownConnection()
    """Unused: those of a node are asked for by queue."""

    def __init__(
        self,
        reactor: Reactor,
        topology: Cluster[_Node],
        queues: Sequence[str],
        events: ServerEvents,
    ) -> None:
        """Open all connections, blocking. Raises `StoreError` if no node can be reached."""
        self.topology = topology
        self._events = events
        self._is_open = True
        self.queues = set(queues)
        """The queues for which the connections were opened."""
        topology.read_map()
        self.version = topology.version
        """The version of the map that was looked at last."""
        self._homes: dict[str, _Node] = {}
        self._nodes: dict[_Node, NodeConnections] = {}
        self.away: dict[_Node, StoreUnreachable] = {}
        """Nodes that could not be reached, and why."""
        self._tracking: set[_Node] = set()
        self._asked = 0
        self._refusing = RefusingConnection(reactor)
        self.registry = RoutedConnection(self)
        try:
            self._open(reactor)
        except BaseException:
            self.close()
            raise

    def _open(self, reactor: Reactor) -> None:
        by_node: dict[_Node, list[str]] = {node: [] for node in self.topology.masters()}
        for queue in self.queues:
            node = self.topology.server_for(queue)
            self._homes[queue] = node
            by_node.setdefault(node, []).append(queue)
        lost = {node for node in by_node if node.is_away}
        for node, queues in by_node.items():
            if node in lost and len(lost) < len(by_node):
                # A node that hangs would delay the others; it is probed in the background.
                self.away[node] = StoreUnreachable(f"{node.name} does not answer")
                continue
            events = replace(
                self._events,
                on_lost=partial(self._on_lost, node),
                on_tracking=partial(self._on_tracking, node),
            )
            try:
                node.check_ready()
                opened = NodeConnections(reactor, node, queues, events, is_first=not self._nodes)
            except StoreUnreachable as error:
                self.away[node] = error
                continue
            self._nodes[node] = opened
            opened.set_follow(self._ask)
        if not self._nodes:
            raise next(iter(self.away.values()))

    def _ask(self, address: Address, words: Sequence[Arg], on_reply: OnReply) -> None:
        found = self._nodes.get(self.topology.node(address))
        if found is None:
            self._refusing.call(words, on_reply)
        else:
            found.ask_importing(words, on_reply)

    def start(self) -> None:
        """Watch the connections. Call it in the thread of the reactor."""
        for each in self._nodes.values():
            each.start()

    def close(self) -> None:
        """Close all connections."""
        self._is_open = False
        self._refusing.close()
        for each in self._nodes.values():
            each.close()

    def flush(self) -> None:
        """Send the queued commands on all connections."""
        for each in self._nodes.values():
            each.flush()
            if not self._is_open:
                return  # a connection was lost

    def beat(self, answer_timeout: float) -> None:
        """Find silent connections, and ask idle ones for a sign of life."""
        for each in list(self._nodes.values()):
            each.beat(answer_timeout)
            if not self._is_open:
                return

    def add_queue(self, queue: str, on_added: Callable[[ServerConnections], None]) -> None:
        """Open the connections of another queue, then call ``on_added``."""
        self.queues.add(queue)
        node = self._homes[queue] = self.topology.server_for(queue)
        found = self._nodes.get(node)
        if found is not None:
            found.add_queue(queue, on_added)

    def remove_queue(self, queue: str) -> None:
        """Close the connections of a queue."""
        self.queues.discard(queue)
        node = self._homes.pop(queue, None)
        found = None if node is None else self._nodes.get(node)
        if found is not None:
            found.remove_queue(queue)

    def listen(self, channel: str, on_data: Callable[[Any], None]) -> None:
        """Subscribe to a channel whose messages only ``on_data`` gets."""
        found = self._at(Key(channel))
        if found is not None:
            found.listen(channel, on_data)

    def tasks_of(self, queue: str) -> QueueConnection:
        """Return the connection for the tasks of ``queue``."""
        found = self._of(queue)
        return self._refusing if found is None else found.tasks

    def blocking_of(self, queue: str) -> QueueConnection:
        """Return the connection for commands of ``queue`` that block."""
        found = self._of(queue)
        return self._refusing if found is None else found.blocking.get(queue, self._refusing)

    def upkeep_of(self, queue: str) -> QueueConnection:
        """Return the connection for leases and maintenance of ``queue``."""
        found = self._of(queue)
        return self._refusing if found is None else found.upkeep

    def upkeep_at(self, place: Place) -> QueueConnection:
        """Return the connection for maintenance of a key of no queue."""
        found = self._at(place)
        return self._refusing if found is None else found.upkeep

    @property
    def awaits_reply(self) -> bool:
        """True if a command about tasks is still unanswered."""
        return any(each.tasks.under_way for each in self._nodes.values())

    def ask_map(self) -> None:
        """Ask one node after the other for the map of slots.

        It may name another node for those of one that hangs.
        """
        nodes = list(self._nodes)
        self._asked = (self._asked + 1) % len(nodes)
        node = nodes[self._asked]
        self._nodes[node].upkeep.call(("CLUSTER", "SLOTS"), partial(self._on_map, node))

    def _on_map(self, node: _Node, reply: Any) -> None:
        with suppress(ValueError):
            self.topology.learn(read_slots(reply, node.address))

    def is_current(self) -> bool:
        """Return whether the connections are those that the map of slots calls for."""
        self.version = self.topology.version
        known = {*self._nodes, *self.away}
        return known.issuperset(self.topology.masters()) and all(
            self.topology.server_for(queue) is node for queue, node in self._homes.items()
        )

    def is_missing_back(self) -> bool:
        """Return whether a node that was away answers, or another took over. Blocks."""
        self.topology.refresh()
        masters = self.topology.masters()
        for node in self.away:
            if node not in masters:
                return True
            try:
                node.check_ready()
            except StoreUnreachable:
                continue
            return True
        return False

    def _of(self, queue: str) -> NodeConnections | None:
        home = self._homes.get(queue)
        return self._at(queue) if home is None else self._nodes.get(home)

    def _at(self, place: Place) -> NodeConnections | None:
        try:
            return self._nodes.get(self.topology.server_for(place))
        except StoreUnreachable:
            return None

    def _on_lost(self, node: _Node, error: ConnectionLost) -> None:
        if isinstance(error, ChannelMoved):
            self._events.on_lost(error)
        elif self._is_open:
            node.is_away = True
            self._events.on_lost(ConnectionLost(f"{node.address}: {error}"))

    def _on_tracking(self, node: _Node) -> None:
        """Say that changes are reported once all nodes report them."""
        self._tracking.add(node)
        if self._tracking.issuperset(self._nodes):
            self._events.on_tracking()


class RoutedConnection(DownConnection):
    """Sends each command to the node of its first key."""

    is_up = True

    def __init__(self, nodes: AllNodes) -> None:
        self._nodes = nodes

    def send(
        self,
        command: Command[Any],
        on_reply: Callable[[Any | ReplyError], None],
        *args: Any,
        **options: Any,
    ) -> None:
        """Queue a script."""
        self._nodes.upkeep_at(Key(command.keys[0])).send(command, on_reply, *args, **options)

    def call(
        self, words: Sequence[Arg], on_reply: OnReply | None = None, *args: Any, **options: Any
    ) -> None:
        """Queue a plain command."""
        key = words[1] if len(words) > 1 and words[0] not in _KEYLESS else None
        place = Key(key) if isinstance(key, str | bytes) else ANYWHERE
        if words[0] == "PUBLISH" and has_slot(str(words[1])):
            place = Key(str(words[1]))
        self._nodes.upkeep_at(place).call(words, on_reply)
