"""A worker's connections to one node of a cluster, and what replaces them if it is away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from nbqueue.runtime.buffers import Gathering
from nbqueue.runtime.reactor import Reactor
from nbqueue.store.cluster.cluster_node import ClusterNode
from nbqueue.transport.cluster.cluster_scripts import for_cluster, has_slot, publication
from nbqueue.transport.cluster.slots import Address, read_redirection
from nbqueue.transport.nonblocking import OnReply
from nbqueue.transport.pubsub import PubSubConnection
from nbqueue.transport.refusals import is_moved
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.script_call import Command
from nbqueue.transport.server import Server
from nbqueue.worker.server_connections import (
    DownConnection,
    OpenConnection,
    ServerConnections,
    ServerEvents,
)

T = TypeVar("T")

Ask = Callable[[Address, Sequence[Arg], OnReply], None]
"""Runs a plain command at the node to which a slot is being moved."""

_AWAY: Final = "CLUSTERDOWN no node that can be reached has this key"


class NodeConnection(OpenConnection):
    """A connection to a node.

    Another node's keys are refused here, and the topology learns of it; the connection stays.
    """

    def send(
        self,
        command: Command[T],
        on_reply: Callable[[T | ReplyError], None],
        *args: Any,
        **options: Any,
    ) -> None:
        adapted = for_cluster(command, is_sharded=_node(self.server).is_sharded)
        super().send(adapted, on_reply, *args, **options)

    def call(self, words: Sequence[Arg], on_reply: OnReply | None = None) -> None:
        super().call(publication(words, is_sharded=_node(self.server).is_sharded), on_reply)

    def _check_serving(self, refusal: ReplyError) -> None:  # type: ignore[override]
        if is_moved(refusal):
            _node(self.server).note(refusal)
        else:
            super()._check_serving(refusal)


def _node(server: Server) -> ClusterNode[Any]:
    assert isinstance(server, ClusterNode)
    return server


class FollowingConnection(NodeConnection):
    """A connection that repeats plain commands at the node to which their slot is being moved."""

    follow: Ask | None = None

    def call(self, words: Sequence[Arg], on_reply: OnReply | None = None) -> None:
        if on_reply is not None and self.follow is not None:
            on_reply = partial(self._on_reply, words, on_reply)
        super().call(words, on_reply)

    def _on_reply(self, words: Sequence[Arg], on_reply: OnReply, reply: Any) -> None:
        if isinstance(reply, ReplyError) and reply.code == "ASK" and self.follow is not None:
            found = read_redirection(str(reply), self.server.address)  # type: ignore[attr-defined]
            if found is not None:
                self.follow(found[1], words, on_reply)
                return
        on_reply(reply)


class NodeListener(PubSubConnection):
    """A connection that subscribes to channels at the node of their slots."""

    def _word(self, channel: str, prefix: str = "") -> str:
        is_sharded = has_slot(channel) and _node(self.server).is_sharded
        return f"{'S' if is_sharded else ''}{prefix}SUBSCRIBE"

    def _check_serving(self, refusal: ReplyError) -> None:  # type: ignore[override]
        _node(self.server).note(refusal)
        super()._check_serving(refusal)


class NodeConnections(ServerConnections):
    """The connections with one node, for its queues."""

    command_type = FollowingConnection
    blocking_type = NodeConnection
    listener_type = NodeListener

    def __init__(
        self,
        reactor: Reactor,
        node: ClusterNode[Any],
        queues: Sequence[str],
        events: ServerEvents,
        *,
        is_first: bool,
    ) -> None:
        """``is_first``: this one also subscribes to what is published to the whole cluster."""
        self.node = node
        self._is_first = is_first
        super().__init__(reactor, node, queues, events)

    def _channels(self, queues: Sequence[str]) -> list[str]:
        channels = super()._channels(queues)
        return channels if self._is_first else channels[1:]

    def set_follow(self, follow: Ask) -> None:
        """Use ``follow`` for commands to slots that are being moved away."""
        for connection in (self.tasks, self.upkeep):
            assert isinstance(connection, FollowingConnection)
            connection.follow = follow

    def ask_importing(self, words: Sequence[Arg], on_reply: OnReply) -> None:
        """Run a plain command in a slot that is being moved here."""
        connection = self.upkeep
        assert isinstance(connection, NodeConnection)
        connection.call(("ASKING",))
        NodeConnection.call(connection, words, on_reply)


class RefusingConnection(DownConnection):
    """Replaces the connections to a node that is away: refuses each command, soon.

    Other than with the whole store away, parts go on with other queues meanwhile.
    """

    def __init__(self, reactor: Reactor) -> None:
        self._reactor = reactor
        self._is_open = True

    def close(self) -> None:
        """Call back no more."""
        self._is_open = False

    def send(
        self, command: Command[T], on_reply: Callable[[T | ReplyError], None], *args: Any, **_: Any
    ) -> None:
        self._refuse(on_reply)

    def call(
        self, words: Sequence[Arg], on_reply: OnReply | None = None, *args: Any, **_: Any
    ) -> None:
        if on_reply is not None:
            self._refuse(on_reply)

    def gather(
        self,
        calls: Sequence[Sequence[Arg]],
        gathering: Gathering,
        then: Callable[[], None],
        *args: Any,
        **_: Any,
    ) -> None:
        def refuse(_: object) -> None:
            for slot in gathering.slots:
                slot.take(ReplyError(_AWAY))
            then()

        self._refuse(refuse)

    def _refuse(self, on_reply: Callable[[ReplyError], object]) -> None:
        def refuse() -> None:
            if self._is_open:
                on_reply(ReplyError(_AWAY))

        self._reactor.after(0.0, refuse)
