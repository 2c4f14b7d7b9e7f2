"""The nodes of a cluster that is a store."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, Generic, TypeVar

from nbqueue.store.cluster.cluster_node import ClusterNode, NodeStore
from nbqueue.store.url import StoreURL
from nbqueue.transport.cluster.cluster import Cluster
from nbqueue.transport.cluster.cluster_router import ClusterRouter
from nbqueue.transport.cluster.slots import Address
from nbqueue.transport.topology import ANYWHERE, Key, Place

_EVAL_KEY_AT: Final = 3


S = TypeVar("S", bound=NodeStore)


class ClusterNodes(Generic[S]):
    """Opens connections to the nodes of the cluster at a URL, and knows which has which keys."""

    def __init__(self, url: StoreURL, new_store: Callable[[StoreURL], S]) -> None:
        self._url = url
        self._new_store = new_store
        self._redis: Any = None
        # A node tells the topology, which refers to the node, of what it learns.
        me = weakref.ref(self)

        def moved(slot: int, address: Address) -> None:
            found = me()
            if found is not None:
                found.topology.moved(slot, address)

        def lost() -> None:
            found = me()
            if found is not None:
                found.topology.refresh()

        def are_sharded() -> bool:
            found = me()
            return found is not None and found.topology.is_sharded

        self._moved, self._lost, self._are_sharded = moved, lost, are_sharded
        self.topology: Cluster[ClusterNode[S]] = Cluster(
            url.redacted, [Address(*host) for host in url.hosts], self._new_node
        )

    def _new_node(self, address: Address) -> ClusterNode[S]:
        store = self._new_store(node_url(self._url, address))
        return ClusterNode(address, store, self._url, self._moved, self._lost, self._are_sharded)

    def masters(self) -> list[S]:
        """Return the store of each master. Raises `StoreError` if no node answers."""
        self.topology.read_map()
        return [node.store for node in self.topology.masters()]

    def router(self, on_open: Callable[[], None]) -> ClusterRouter:
        """Return a router of a client."""
        return ClusterRouter(self.topology, on_open)

    def ask(self, questions: Sequence[Sequence[str]]) -> list[Any]:
        """Run plain commands, each at the node of its key; refusals are values."""
        replies: list[Any] = [None] * len(questions)
        places = [_place_of(words) for words in questions]
        by_node: dict[ClusterNode[S], list[int]] = {}
        for at, place in enumerate(places):
            by_node.setdefault(self.node_for(place), []).append(at)
        for node, positions in by_node.items():
            answers = node.store.ask(*(questions[at] for at in positions))
            for at, answer in zip(positions, answers, strict=True):
                replies[at] = answer
        return replies

    def node_for(self, place: Place) -> ClusterNode[S]:
        """Return the master that has the slot of ``place``. Raises `StoreError`."""
        if not self.topology.version:
            self.topology.read_map()
        return self.topology.server_for(place)

    def any_node(self) -> ClusterNode[S]:
        """Return a node that can be reached, mostly the same one."""
        return self.node_for(ANYWHERE)

    def redis_py(self) -> Any:
        """Return the client of redis-py for the cluster, made on first use."""
        if self._redis is not None:
            return self._redis
        from redis import RedisCluster
        from redis.cluster import ClusterNode as RedisNode

        settings: dict[str, Any] = {"protocol": 2}
        if self._url.password is not None:
            settings |= {"username": self._url.username, "password": self._url.password}
        if self._url.uses_tls:
            settings |= {"ssl": True, **dict(self._url.tls)}
        nodes = [RedisNode(*host) for host in self._url.hosts]  # type: ignore[no-untyped-call]
        self._redis = RedisCluster(startup_nodes=nodes, **settings)
        return self._redis

    def close(self) -> None:
        """Close the connections of ``redis_py``."""
        client, self._redis = self._redis, None
        if client is not None:
            client.close()
        for node in self.topology.nodes:
            node.store.close()

    def after_fork(self) -> None:
        """Share nothing with the parent, in a child process."""
        self._redis = None
        self.topology.after_fork()
        for node in self.topology.nodes:
            node.store.after_fork()


def node_url(url: StoreURL, address: Address) -> StoreURL:
    """Return the URL of one node as a single server."""
    scheme = "rediss" if url.uses_tls else "redis"
    return replace(url, scheme=scheme, hosts=((address.host, address.port),))


def _place_of(words: Sequence[str]) -> Place:
    """Return where a plain command belongs, by its key if it has one."""
    if words[0].startswith("EVAL"):
        return Key(words[_EVAL_KEY_AT])
    if len(words) > 1 and words[1].startswith(("asynq:", "nbqueue:")) and words[0] != "PUBLISH":
        return Key(words[1])
    return ANYWHERE
