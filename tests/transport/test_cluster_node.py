"""A node of a Redis Cluster: errors for keys on other nodes name the reason."""

from __future__ import annotations

import binascii
import select
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import SLOTS, Node, slot_of
from keyspace import NOW_MS, encoded
from servers import Tunnel, make_certificate
from waits import wait_until

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import enqueue as enqueue_commands
from nbqueue.errors import StoreUnreachable, StoreUnsuitable
from nbqueue.store import server_programs
from nbqueue.store.connection import connect
from nbqueue.tasks.new_task import NewTask
from nbqueue.transport.nonblocking import ConnectionLost, NonblockingConnection
from nbqueue.transport.script_call import Command


@pytest.fixture(scope="module")
def nodes(
    tmp_path_factory: pytest.TempPathFactory, server_program: server_programs.ServerProgram
) -> Iterator[tuple[Node, Node]]:
    """Two nodes, of which the first holds all slots at first. Tests share them, and take some."""
    folder = tmp_path_factory.mktemp("nodes")
    started: list[Node] = []
    try:
        for i in range(2):
            started.append(Node.start(server_program.path, folder / str(i)))
            wait_until(started[-1].is_up)
        first, second = started
        first.redis.execute_command("CLUSTER ADDSLOTS", *range(SLOTS))
        first.redis.execute_command("CLUSTER MEET", "127.0.0.1", second.port)
        wait_until(lambda: first.redis.execute_command("CLUSTER INFO")["cluster_state"] == "ok")
        wait_until(lambda: len(first.redis.execute_command("CLUSTER NODES")) == 2)
        yield first, second
    finally:
        for each in started:
            each.close()


def give_away(first: Node, second: Node, key: str) -> None:
    tag = key[key.index("{") + 1 : key.index("}")]
    slot = binascii.crc_hqx(tag.encode(), 0) % SLOTS
    other = second.redis.execute_command("CLUSTER MYID").decode()
    first.redis.execute_command("CLUSTER SETSLOT", slot, "NODE", other)


def enqueue(queue: str, task_id: str) -> Command[list[int] | None]:
    return enqueue_commands.enqueue(queue, [NewTask(task_id, encoded(task_id))], NOW_MS)


def read_on(connection: NonblockingConnection) -> None:
    while True:
        assert select.select([connection], [], [], 10)[0], "no reply came"
        connection.read()


def test_commands_for_keys_of_another_node_say_so(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    with connect(f"redis://127.0.0.1:{first.port}") as store:
        broker, connection = Broker(store), NonblockingConnection(store)
        assert broker.run(enqueue("here", "a")) == []
        give_away(first, second, "asynq:{there}:pending")
        with pytest.raises(StoreUnsuitable, match="part of a Redis Cluster"):
            broker.run(enqueue("there", "b"))
        assert broker.run(enqueue("here", "c")) == []
        connection.send(enqueue("there", "d"), lambda reply: None)
        connection.flush()
        with pytest.raises(ConnectionLost, match="MOVED"):
            read_on(connection)
        connection.close()
        broker.close()


def test_a_slot_without_a_node_is_unreachable(nodes: tuple[Node, Node]) -> None:
    first, _ = nodes
    with connect(f"redis+cluster://127.0.0.1:{first.port}") as store:
        broker = Broker(store, patience=0.1)
        first.ask("CLUSTER", "DELSLOTS", slot_of("down"))
        with pytest.raises(StoreUnreachable, match=f"127.0.0.1:{first.port}.*CLUSTERDOWN"):
            broker.run(enqueue("down", "a"))
        assert broker.run(enqueue("up", "b")) == []
        broker.close()


def test_a_node_that_lacks_our_own_keys_is_unsuitable(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    give_away(first, second, "nbqueue:{~schema:00}:version")
    with pytest.raises(StoreUnsuitable, match="part of a Redis Cluster"):
        connect(f"redis://127.0.0.1:{first.port}")


def test_nodes_are_reached_over_tls(
    server_program: server_programs.ServerProgram, tmp_path: Path
) -> None:
    certificate = make_certificate(tmp_path)
    with Tunnel(certificate, to=0) as tunnel:
        # The node names the tunnel as its own address.
        port = str(tunnel.port)
        node = Node.start(server_program.path, tmp_path / "node", "--cluster-announce-port", port)
        try:
            tunnel.to = node.port
            wait_until(node.is_up)
            node.ask("CLUSTER", "ADDSLOTS", *range(SLOTS))
            wait_until(lambda: node.ask("CLUSTER INFO")["cluster_state"] == "ok")
            options = f"ssl_ca_certs={certificate[0]}&ssl_check_hostname=false"
            with connect(f"rediss+cluster://localhost:{port}?{options}") as store:
                broker = Broker(store)
                assert broker.run(enqueue("q", "a")) == []
                broker.close()
        finally:
            node.close()
