"""Clients and workers on a Redis Cluster whose slots and nodes change."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clusters import RedisCluster
from servers import Server
from waits import wait_until

import nbqueue
from nbqueue.broker.broker import Broker
from nbqueue.client.client import Client
from nbqueue.errors import InvalidURL, StoreDenied, StoreUnsuitable
from nbqueue.store.connection import connect
from nbqueue.store.server_programs import ServerProgram

PATIENCE = 30.0


def number(i: int) -> int:
    return i


@pytest.fixture(scope="module")
def cluster(
    server_program: ServerProgram, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisCluster]:
    started = RedisCluster(server_program.path, tmp_path_factory.mktemp("cluster"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def queues(cluster: RedisCluster) -> list[str]:
    return cluster.queues()


@pytest.fixture(scope="module")
def worker(
    cluster: RedisCluster, queues: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    log = tmp_path_factory.mktemp("log") / "worker.log"
    with nbqueue.Worker(cluster.url, queues=queues, concurrency=2, log=log) as found:
        yield found


@pytest.fixture
def q(cluster: RedisCluster, worker: Any) -> Iterator[Client]:
    found = nbqueue.connect(cluster.url)
    yield found
    found.close()


class Load:
    """Submits tasks to each queue, one after the other, and notes how long each takes."""

    def __init__(self, cluster: RedisCluster, queues: list[str]) -> None:
        self._cluster = cluster
        self._is_over = threading.Event()
        self.done: Counter[str] = Counter()
        self.longest: dict[str, float] = {}
        self.faults: list[Exception] = []
        self._threads = [threading.Thread(target=self._submit, args=(each,)) for each in queues]

    def _submit(self, queue: str) -> None:
        with nbqueue.connect(self._cluster.url) as client:
            while not self._is_over.is_set():
                began = time.monotonic()
                i = self.done[queue]
                try:
                    future = client.options(queue=queue).submit(number, i)
                    assert future.result(timeout=PATIENCE) == i
                except Exception as error:
                    self.faults.append(error)
                    return
                taken = time.monotonic() - began
                self.longest[queue] = max(taken, self.longest.get(queue, 0.0))
                self.done[queue] += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.done) == len(self._threads) or self.faults)
        return self

    def __exit__(self, *error: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def go_on(self, *queues: str, count: int = 5) -> None:
        """Wait until some more tasks of each queue are done."""
        goal = {queue: self.done[queue] + count for queue in queues}
        wait_until(
            lambda: self.faults or all(self.done[queue] >= goal[queue] for queue in queues),
            PATIENCE,
        )
        assert not self.faults


@contextmanager
def counted(q: Client, queue: str) -> Iterator[list[str]]:
    """Collects ids of tasks, each of which must have run exactly once in the end."""
    ids: list[str] = []
    yield ids
    attempts = Counter(q.attempts(queue=queue)["task_id"])
    assert {each: attempts[each] for each in ids} == dict.fromkeys(ids, 1)


def test_queues_are_spread_and_served(q: Client, cluster: RedisCluster, queues: list[str]) -> None:
    assert len({cluster.owner(queue).port for queue in queues}) == 3
    groups = [q.options(queue=queue).map(number, range(50)) for queue in queues]
    for group in groups:
        assert group.results(timeout=PATIENCE) == list(range(50))
    assert set(q.queues().index) >= set(queues)


def test_channels_are_at_the_node_of_their_queue(
    q: Client, cluster: RedisCluster, queues: list[str], server_program: ServerProgram
) -> None:
    is_sharded = server_program.level >= (7, 0, 0)
    for queue in queues:
        node = cluster.owner(queue)
        shown = "SHARDCHANNELS" if is_sharded else "CHANNELS"
        assert f"nbqueue:{{{queue}}}:wake".encode() in node.ask("PUBSUB", shown)
        if is_sharded:
            assert node.ask("PUBSUB", "CHANNELS", "nbqueue:*") == []


def test_a_slot_moves_under_load(q: Client, cluster: RedisCluster, queues: list[str]) -> None:
    moving, staying, _ = queues
    target = cluster.owner(staying)
    with counted(q, moving) as ids, Load(cluster, queues) as load:
        group = q.options(queue=moving).map(number, range(200))
        ids += [future.id for future in group.futures]
        source = cluster.begin_move(moving, target)
        cluster.move_keys(moving, source, target, 3)
        load.go_on(*queues[1:])
        cluster.end_move(moving, source, target)
        load.go_on(*queues)
        assert group.results(timeout=PATIENCE) == list(range(200))
    assert cluster.owner(moving) is target


def test_a_node_is_added(q: Client, cluster: RedisCluster, queues: list[str]) -> None:
    added = cluster.add_node()
    with Load(cluster, queues) as load:
        source = cluster.begin_move(queues[2], added)
        cluster.end_move(queues[2], source, added)
        load.go_on(*queues)
    assert cluster.owner(queues[2]) is added


def test_plain_reads_follow_a_moving_slot(
    q: Client, cluster: RedisCluster, queues: list[str]
) -> None:
    queue = queues[0]
    future = q.options(queue=queue).submit(number, 7)
    assert future.result(timeout=PATIENCE) == 7
    target = cluster.owner(queues[2])
    source = cluster.begin_move(queue, target)
    while cluster.move_keys(queue, source, target):
        pass
    with connect(cluster.url) as store:
        broker = Broker(store)
        assert broker.find(future.id, queue) is not None  # its key is at the target
        broker.close()
    cluster.end_move(queue, source, target)


def test_a_master_dies_and_its_replica_takes_over(
    q: Client, cluster: RedisCluster, queues: list[str]
) -> None:
    queue = queues[1]
    dying = cluster.owner(queue)
    others = [each for each in queues if cluster.owner(each) is not dying]
    q.inspector.pause(queue)
    with counted(q, queue) as ids, Load(cluster, others) as load:
        group = q.options(queue=queue).map(number, range(50))
        ids += [future.id for future in group.futures]
        dying.ask("SET", f"nbqueue:{{{queue}}}:replicated", 1, "PX", 1000)
        assert dying.ask("WAIT", 1, 10_000) == 1
        load.longest.clear()
        dying.kill()
        load.go_on(*others, count=20)
        q.inspector.unpause(queue)  # at the replica, which was promoted by then
        assert group.results(timeout=PATIENCE) == list(range(50))
    assert max(load.longest.values()) < 3.0
    assert cluster.owner(queue) is not dying


def test_a_node_with_another_password_is_named(cluster: RedisCluster) -> None:
    node = cluster.living()
    node.ask("CONFIG", "SET", "requirepass", "other")
    try:
        with pytest.raises(StoreDenied, match=rf"127.0.0.1:{node.port}.* refuses"):
            nbqueue.connect(cluster.url)
    finally:
        node.ask("CONFIG", "SET", "requirepass", "")


def test_a_cluster_is_no_single_server(
    cluster: RedisCluster, server_program: ServerProgram, tmp_path: Path
) -> None:
    port = cluster.owner("default").port
    other = next(node.port for node in cluster.masters if node.port != port and node.is_up())
    with pytest.raises(StoreUnsuitable, match=rf"redis\+cluster://127.0.0.1:{other}"):
        nbqueue.connect(f"redis://127.0.0.1:{other}")
    server = Server.start(server_program.path, tmp_path)
    try:
        url = f"redis+cluster://127.0.0.1:{server.port}"
        with pytest.raises(StoreUnsuitable, match=f"Write redis://127.0.0.1:{server.port}"):
            nbqueue.connect(url)
    finally:
        server.end()
    with pytest.raises(InvalidURL, match="a cluster has no databases"):
        nbqueue.connect(f"{cluster.url}/1")
