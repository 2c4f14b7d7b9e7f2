"""Many failovers under load, and partitions in which the old master lives on."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sentinel_group import NAME, SentinelGroup
from servers import Server
from waits import wait_until

import nbqueue
from nbqueue.errors import StoreDenied, StoreUnreachable, SubmitUnconfirmed, TaskNotFound
from nbqueue.store.server_programs import ServerProgram

KEY = "5b" * 32
FAILOVERS = 20

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def group(
    server_program: ServerProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SentinelGroup]:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    found = SentinelGroup(
        server_program.path,
        tmp_path,
        settings=("--min-replicas-to-write", "1"),
        password="x",
        # A pause of a busy machine is no failure: a replica that has not yet copied its master
        # could be promoted, and would have nothing.
        down_after_ms=2_000,
    )
    try:
        yield found
    finally:
        found.end()


def fail_over(group: SentinelGroup) -> None:
    """Kill the master, and start it again as a replica of the promoted server."""
    old = group.master
    old.end()
    group.wait_for_failover(old)
    group.start(group.master, old.port)
    wait_until(lambda: group.ask_all("num-slaves") == {"1"})


class Load:
    """Calls ``submit`` in a thread, and keeps the futures that it returns."""

    def __init__(self, submit: Callable[[], list[Any]]) -> None:
        self._submit = submit
        self._is_over = threading.Event()
        self.confirmed: list[Any] = []
        self.unconfirmed: list[str] = []
        self.refused = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            try:
                self.confirmed += self._submit()
            except SubmitUnconfirmed as error:
                self.unconfirmed += error.task_ids
            except StoreUnreachable:
                self.refused += 1

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(60)
        assert not self._thread.is_alive()


def accept_without_replicas(group: SentinelGroup) -> None:
    for server in group.servers:
        with group.client(server) as client:
            client.config_set("min-replicas-to-write", 0)


def is_there(q: Any, task_id: str) -> bool:
    try:
        q.get(task_id)
    except TaskNotFound:
        return False
    return True


def test_no_confirmed_task_is_lost_in_twenty_failovers(
    group: SentinelGroup, tmp_path: Path
) -> None:
    worker = nbqueue.Worker(group.url, concurrency=2, log=tmp_path / "worker.log").start()
    q = nbqueue.connect(group.url, durability="replicated")
    plain = nbqueue.connect(group.url)
    loads = [
        Load(lambda: [q.submit(abs, -1)]),
        Load(lambda: q.map(abs, [-1] * 20).futures),
        Load(lambda: [plain.submit(abs, -1)]),
    ]
    try:
        for _ in range(FAILOVERS):
            before = [len(load.confirmed) for load in loads]
            wait_until(
                lambda before=before: all(
                    len(load.confirmed) > count + 20
                    for load, count in zip(loads, before, strict=True)
                )
            )
            fail_over(group)
        for load in loads:
            load.stop()
        confirmed = [*loads[0].confirmed, *loads[1].confirmed]
        assert {future.result(120) for future in confirmed} == {1}
        acknowledged = [future.id for future in loads[2].confirmed]
        lost = [each for each in acknowledged if not is_there(q, each)]
        print(
            f"{FAILOVERS} failovers: {len(confirmed):,} confirmed tasks, none lost; "
            f"{len(acknowledged):,} acknowledged ones, {len(lost):,} lost; "
            f"{len(loads[0].unconfirmed) + len(loads[1].unconfirmed):,} unconfirmed, "
            f"{sum(load.refused for load in loads):,} calls refused"
        )
    finally:
        for load in loads:
            load.stop()
        worker.stop()
        plain.close()
        q.close()


def test_what_no_replica_had_is_lost_unless_it_had_to_be_confirmed(group: SentinelGroup) -> None:
    q = nbqueue.connect(group.url, durability="replicated")
    plain = nbqueue.connect(group.url)
    kept = [q.submit(abs, -1).id, plain.submit(abs, -1).id]
    q.submit(abs, -1)  # which has also the one before it on the replica
    accept_without_replicas(group)
    old = group.master
    [replica] = [each for each in group.servers if each is not old]
    os.kill(replica.process.pid, signal.SIGSTOP)
    with group.client(old) as there:
        there.client_kill_filter(_type="replica")
    lost = [plain.submit(abs, -1).id for _ in range(5)]
    load = Load(lambda: [q.submit(abs, -1)])
    with group.client(old) as there:
        wait_until(lambda: there.llen("asynq:{default}:pending") == 9)
    old.end()
    os.kill(replica.process.pid, signal.SIGCONT)
    group.wait_for_failover(old)
    group.start(replica, old.port)
    wait_until(lambda: load.confirmed)
    load.stop()
    assert [is_there(q, each) for each in kept] == [True, True]
    assert [is_there(q, each) for each in lost] == [False] * 5
    assert all(is_there(q, each.id) for each in load.confirmed)
    plain.close()
    q.close()


class Partition:
    """Cuts the master off from the replica and the Sentinels, but from no client of nbqueue.

    They have to log in again, and no longer know the password.
    """

    def __init__(self, group: SentinelGroup, master: Server) -> None:
        self._master = group.client(master)
        self._others = [each for each in self._master.client_list() if each["name"] != "nbqueue"]
        self._master.config_set("requirepass", "nobody knows")
        own = self._master.client_id()
        for each in self._others:
            if int(each["id"]) != own:
                self._master.client_kill_filter(_id=each["id"])

    def clients(self) -> int:
        """Return how many connections of nbqueue the old master still has."""
        return sum(each["name"] == "nbqueue" for each in self._master.client_list())

    def pending(self) -> set[bytes]:
        return set(self._master.lrange("asynq:{default}:pending", 0, -1))


def test_clients_leave_an_old_master_that_lives_on(group: SentinelGroup, tmp_path: Path) -> None:
    worker = nbqueue.Worker(group.url, queues=["runs"], log=tmp_path / "worker.log").start()
    q = nbqueue.connect(group.url, durability="replicated")
    plain = nbqueue.connect(group.url)
    awaited = q.options(queue="runs", delay=1).submit(abs, -5)
    q.submit(abs, -1)
    accept_without_replicas(group)
    old = group.master
    load = Load(lambda: [plain.submit(abs, -1)])
    try:
        wait_until(lambda: len(load.confirmed) > 20)
        partition = Partition(group, old)
        sure = Load(lambda: [q.submit(abs, -1)])
        promoted = group.wait_for_failover(old)
        wait_until(lambda: partition.clients() == 0)
        assert time.monotonic() - promoted < 2.0
        acknowledged = len(load.confirmed)
        wait_until(lambda: len(load.confirmed) > acknowledged + 20)
        load.stop()
        wait_until(lambda: sure.unconfirmed, 60)
        sure.stop()
        assert awaited.result(30) == 5
        ids = [each.id for each in load.confirmed]
        lost = [each for each in ids if not is_there(plain, each)]
        assert {each.encode() for each in lost} <= partition.pending()
        print(f"{len(ids):,} acknowledged, {len(lost):,} of them only at the old master")
        assert lost
        assert all(is_there(plain, each) for each in ids[-20:])
        # The old master had no replica, so nothing was confirmed that only it has.
        assert all(is_there(plain, each.id) for each in sure.confirmed)
        assert all(is_there(plain, each) for each in sure.unconfirmed)
    finally:
        load.stop()
        worker.stop()
        plain.close()
        q.close()


def test_a_master_that_was_stopped_and_goes_on_has_no_clients_left(group: SentinelGroup) -> None:
    accept_without_replicas(group)
    q = nbqueue.connect(group.url)
    q.submit(abs, -1)
    old = group.master
    os.kill(old.process.pid, signal.SIGSTOP)
    try:
        late = q.submit(abs, -2)  # waits for the failover
        assert group.master is not old
        assert is_there(q, late.id)
    finally:
        os.kill(old.process.pid, signal.SIGCONT)
    with group.client(old) as there:
        assert not [each for each in there.client_list() if each["name"] == "nbqueue"]
    q.close()


def test_a_master_that_was_made_a_replica_is_left_by_its_first_refusal(
    group: SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbqueue.store.sentinel.master_watch.POLL_SECONDS", 3600.0)
    accept_without_replicas(group)
    q = nbqueue.connect(group.url)
    old = group.master
    load = Load(lambda: [q.submit(abs, -1)])
    try:
        with group.sentinels[0].client() as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", NAME)
        group.wait_for_failover(old)
        acknowledged = len(load.confirmed)
        wait_until(lambda: len(load.confirmed) > acknowledged + 20)
    finally:
        load.stop()
    assert (load.refused, load.unconfirmed) == (0, [])
    assert is_there(q, load.confirmed[-1].id)
    q.close()


def test_a_promoted_server_that_wants_another_password_is_named(
    group: SentinelGroup, tmp_path: Path
) -> None:
    accept_without_replicas(group)
    old = group.master
    with group.client(old) as client:
        client.execute_command("ACL SETUSER app on >hunter2 ~* &* +@all")
    url = group.url.replace(":x@", "app:hunter2@")
    log = tmp_path / "worker.log"
    worker = nbqueue.Worker(url, log=log).start()
    q = nbqueue.connect(url)
    try:
        q.submit(abs, -1)
        old.end()
        group.wait_for_failover(old)
        node = f"127.0.0.1:{group.master.port}, the master of redis+sentinel://app:***@"
        with pytest.raises(StoreDenied, match=re.escape(node)):
            q.submit(abs, -2)
        wait_until(lambda: f"error=the store {node}" in log.read_text())
        assert "hunter2" not in log.read_text()
        with group.client(group.master) as client:
            client.execute_command("ACL SETUSER app on >hunter2 ~* &* +@all")
        assert q.submit(abs, -2).result(30) == 2
    finally:
        worker.stop()
        q.close()
