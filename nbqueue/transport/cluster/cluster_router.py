"""Send commands of a client to the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, TypeVar

from nbqueue.transport import resp
from nbqueue.transport.blocking import BlockingConnection
from nbqueue.transport.cluster.cluster import Cluster, Node, SlotMoved
from nbqueue.transport.cluster.cluster_scripts import for_cluster, publication
from nbqueue.transport.cluster.slots import Address, read_redirection
from nbqueue.transport.confirmation import Confirmation
from nbqueue.transport.resp import Arg, ReplyError
from nbqueue.transport.router import Router
from nbqueue.transport.script_call import Command
from nbqueue.transport.topology import Key, Place

T = TypeVar("T")

_MOST_TRIES: Final = 5


class ClusterRouter(Router):
    """Sends each command to the node that holds its keys, and again if that has changed."""

    def __init__(self, cluster: Cluster[Any], on_open: Callable[[], None] = lambda: None) -> None:
        super().__init__(cluster, on_open)
        self._cluster = cluster

    def adapt(self, command: Command[T]) -> Command[T]:
        return for_cluster(command, is_sharded=self._cluster.is_sharded)

    def _open_to(self, server: Node) -> BlockingConnection:  # type: ignore[override]
        return _NodeConnection(server, self._on_open, self._connection_to, self._cluster)

    def _connection_to(self, address: Address) -> BlockingConnection:
        return self._to(self._cluster.node(address))

    def _scatter(
        self,
        items: Iterable[T],
        place_of: Callable[[T], Place],
        send: Callable[[BlockingConnection, list[T]], list[Any]],
    ) -> list[Any]:
        every = list(items)
        for _ in range(_MOST_TRIES):
            try:
                return super()._scatter(every, place_of, send)
            except SlotMoved:
                pass
        return super()._scatter(every, place_of, send)


class _NodeConnection(BlockingConnection):
    """A connection to a node, which follows the redirections of plain commands to moving slots."""

    def __init__(
        self,
        node: Node,
        on_open: Callable[[], None],
        connection_to: Callable[[Address], BlockingConnection],
        cluster: Cluster[Any],
    ) -> None:
        super().__init__(node, on_open=on_open)
        self._node = node
        self._cluster = cluster
        self._address = node.address
        self._connection_to = connection_to

    def confirm(self, number: int, seconds: float, mark: str, until: Confirmation) -> None:
        # It writes a key, which must be one of this node.
        marks = (mark.replace(":00}", f":{shard:02x}}}") for shard in range(256))
        own = (each for each in marks if self._cluster.server_for(Key(each)) is self._node)
        super().confirm(number, seconds, next(own, mark), until)

    def _exchange_scripts(
        self, commands: Iterable[Command[Any]], then: bytes = b""
    ) -> tuple[list[Command[Any]], list[Any]]:
        is_sharded = self._cluster.is_sharded
        adapted = (for_cluster(command, is_sharded=is_sharded) for command in commands)
        return super()._exchange_scripts(adapted, then)

    def _replies(self, calls: Sequence[Sequence[Arg]]) -> list[Any]:
        calls = [publication(words, is_sharded=self._cluster.is_sharded) for words in calls]
        return [
            self._follow(words, reply) if _is_ask(reply) else reply
            for words, reply in zip(calls, super()._replies(calls), strict=True)
        ]

    def _follow(self, words: Sequence[Arg], refusal: ReplyError) -> Any:
        """Run a command at the node to which its slot moves."""
        found = read_redirection(str(refusal), self._address)
        if found is None:
            return refusal
        target = self._connection_to(found[1])
        assert isinstance(target, _NodeConnection)
        return target._ask_importing(words)

    def _ask_importing(self, words: Sequence[Arg]) -> Any:
        """Run a command in a slot that is on its way to this node."""
        with self._lock:
            return self._exchange([[resp.pack(("ASKING",)), resp.pack(words)]], lambda: 2)[1]


def _is_ask(reply: Any) -> bool:
    return isinstance(reply, resp.ReplyError) and reply.code == "ASK"
