"""A store that cuts, refuses, or never answers: workers and clients wait for it quietly."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from waits import let_time_pass, wait_until

import nbqueue
from nbqueue.client.client import Client


def double(x: int) -> int:
    return 2 * x


def nap(seconds: float) -> str:
    threading.Event().wait(seconds)
    return "rested"


@pytest.fixture
def q(lab: Any) -> Iterator[Client]:
    client = nbqueue.connect(lab.url, key=lab.keys)
    yield client
    client.shutdown(wait=False)


def kill_connections_for(lab: Any, seconds: float) -> int:
    """Cut all other connections, every 0 to 60 ms; return the number of cuts."""
    until, times = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        lab.redis.client_kill_filter(skipme=True, _type="normal")
        lab.redis.client_kill_filter(skipme=True, _type="pubsub")
        times += 1
        let_time_pass(random.uniform(0, 0.06))
    return times


@pytest.mark.parametrize(
    "seconds", [4, pytest.param(30, marks=[pytest.mark.slow, pytest.mark.timeout(180)])]
)
def test_workers_clients_and_feeds_survive_that_connections_are_cut_all_the_time(
    lab: Any, q: Client, seconds: float
) -> None:
    happened: list[str] = []
    stop = q._session.events.follow("default", lambda each: happened.append(each.event))
    with lab.worker() as worker, lab.worker(queues=["default", "other"]) as other:
        before = [q.submit(double, i) for i in range(20)]
        times = kill_connections_for(lab, seconds)
        assert [f.result(timeout=20) for f in before] == [2 * i for i in range(20)]
        assert q.submit(double, 4).result(timeout=20) == 8
        for each in (worker, other):
            assert each.alive, each.log()[-3000:]
            assert "Traceback" not in each.log()
            assert each.log().count("store lost") <= 10 + seconds / 60 < times
        happened.clear()
        q.submit(double, 4).result(timeout=20)
        wait_until(lambda: "completed" in happened)
    stop()


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


@contextlib.contextmanager
def a_password(lab: Any) -> Iterator[None]:
    lab.redis.config_set("requirepass", "secret")
    yield
    lab.redis.config_set("requirepass", "")


@contextlib.contextmanager
def too_many_clients(lab: Any) -> Iterator[None]:
    lab.redis.config_set("maxclients", 1)
    yield
    lab.redis.config_set("maxclients", 1000)


@contextlib.contextmanager
def no_memory(lab: Any) -> Iterator[None]:
    lab.redis.config_set("maxmemory", 1)
    yield
    lab.redis.config_set("maxmemory", 0)


@contextlib.contextmanager
def no_disk(lab: Any) -> Iterator[None]:
    """The server cannot save, and so takes no writes."""
    lab.redis.config_set("dir", str(lab.server.folder))
    lab.redis.config_set("save", "3600 1")
    blocked = lab.server.folder / "blocked.rdb"
    blocked.mkdir()
    lab.redis.config_set("dbfilename", blocked.name)
    with contextlib.suppress(redis.ResponseError):
        lab.redis.bgsave()
    wait_until(lambda: lab.redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    lab.redis.config_set("dbfilename", "dump.rdb")
    lab.redis.bgsave()
    wait_until(lambda: lab.redis.info("persistence")["rdb_last_bgsave_status"] == "ok")


@contextlib.contextmanager
def a_replica(lab: Any) -> Iterator[None]:
    lab.redis.replicaof("127.0.0.1", 1)
    yield
    lab.redis.replicaof("NO", "ONE")


@contextlib.contextmanager
def a_replica_without_data(lab: Any) -> Iterator[None]:
    lab.redis.config_set("replica-serve-stale-data", "no")
    lab.redis.replicaof("127.0.0.1", 1)
    yield
    lab.redis.replicaof("NO", "ONE")


@contextlib.contextmanager
def no_rights(lab: Any) -> Iterator[None]:
    lab.redis.execute_command("ACL", "SETUSER", "default", "-evalsha", "-subscribe")
    yield
    lab.redis.execute_command("ACL", "SETUSER", "default", "+@all")


CASES = [
    (2, too_many_clients),
    (2, no_rights),
    *(
        pytest.param(seconds, refuse, marks=pytest.mark.slow)
        for seconds, refuse in (
            (2, no_memory),
            (2, a_replica),
            (2, a_replica_without_data),
            (20, a_password),
            (20, no_disk),
        )
    ),
]


@pytest.mark.parametrize(("seconds", "refuse"), CASES)
def test_a_store_that_takes_connections_and_refuses_is_left_in_peace(
    lab: Any, q: Client, refuse: Callable[[Any], Any], seconds: float
) -> None:
    with lab.worker() as worker:
        assert q.submit(double, 1).result(timeout=20) == 2
        ending = q.submit(nap, 1)
        wait_until(lambda: lab.state(ending.id) == "active")
        with refuse(lab):
            lab.redis.client_kill_filter(skipme=True, _type="normal")
            lab.redis.client_kill_filter(skipme=True, _type="pubsub")
            let_time_pass(1.5)  # it tries a few times in quick succession
            lines = len(worker.log().splitlines())
            asked = lab.redis.info("stats")["total_connections_received"]
            used, own = cpu_seconds(worker.pid), cpu_seconds(os.getpid())
            let_time_pass(seconds)
            used = (cpu_seconds(worker.pid) - used) / seconds
            own = (cpu_seconds(os.getpid()) - own) / seconds
            asked = lab.redis.info("stats")["total_connections_received"] - asked
            said = worker.log().splitlines()[lines:]
            print(f"worker {used:.1%} client {own:.1%} connections {asked} lines {said}")
            assert worker.alive
            assert asked <= 10 + 3 * seconds
            assert len(said) <= 2 + seconds / 20, said
            assert used <= (0.02 if seconds > 10 else 0.06)
            assert own <= (0.02 if seconds > 10 else 0.06)
            assert not ending.done()
        assert ending.result(timeout=30) == "rested"
        assert lab.outcomes(ending.id) == ["completed"]
        assert q.submit(double, 3).result(timeout=30) == 6
        print(worker.log())


def test_a_store_that_is_a_replica_for_a_while_is_connected_to_anew(lab: Any, q: Client) -> None:
    broker, found = q._session.broker, []

    def connection_id() -> int:
        [number] = broker.call(("CLIENT", "ID"), on="default")
        return int(number)

    with lab.worker() as worker:
        assert q.submit(double, 1).result(timeout=20) == 2
        running = q.submit(nap, 0.5)
        wait_until(lambda: lab.state(running.id) == "active")
        before = connection_id()
        late = threading.Thread(target=lambda: found.append(q.submit(double, 5)))
        with a_replica(lab):
            late.start()
            wait_until(lambda: connection_id() != before)
            wait_until(lambda: "store lost" in worker.log())
            assert not found
        late.join(20)
        assert found[0].result(timeout=20) == 10
        assert running.result(timeout=30) == "rested"
        assert lab.outcomes(running.id) == ["completed"]
        assert q.submit(double, 3).result(timeout=20) == 6
        assert "Traceback" not in worker.log()


@pytest.mark.parametrize(
    ("refuse", "cause"),
    [(no_memory, "maxmemory"), (no_disk, "disk"), (a_replica, "replica"), (no_rights, "right")],
)
def test_a_submit_that_is_refused_says_why(lab: Any, q: Client, refuse: Any, cause: str) -> None:
    q.submit(double, 1)
    q._session.broker._patience = 0.5
    with refuse(lab), pytest.raises(nbqueue.StoreError, match=cause) as caught:
        q.submit(double, 2)
    assert "password" not in str(caught.value)


class Swallower:
    """A proxy of a store; while ``is_mute``, it drops all data of both sides."""

    def __init__(self, target: Path, path: Path) -> None:
        self.url = f"unix://{path}"
        self.is_mute = False
        self._target = str(target)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._sockets: list[socket.socket] = [self._listener]
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _run(self, target: Any, *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += (client, server)
                self._run(self._carry, client, server)
                self._run(self._carry, server, client)

    def _carry(self, come: socket.socket, go: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := come.recv(65536):
                if not self.is_mute:
                    go.sendall(data)
        for each in (come, go):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()


@pytest.fixture
def swallower(lab: Any) -> Iterator[Swallower]:
    made = Swallower(lab.server.socket, lab.server.folder / "mute")
    yield made
    made.close()


@pytest.mark.slow
def test_a_store_that_never_answers_is_a_lost_one(
    lab: Any, swallower: Swallower, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nbqueue.client.channels.subscription.ANSWER_SECONDS", 1.0)
    monkeypatch.setattr("nbqueue.client.channels.subscription.CHECK_SECONDS", 0.3)
    monkeypatch.setattr("nbqueue.client.completion.listener_loop.CHECK_SECONDS", 0.3)
    monkeypatch.setattr("nbqueue.store.connection.CONNECT_SECONDS", 0.5)
    q = nbqueue.connect(swallower.url, key=lab.keys)
    with lab.worker(url=swallower.url, answer_timeout=1) as worker:
        assert q.submit(double, 1).result(timeout=20) == 2
        running = q.submit(nap, 0.5)
        wait_until(lambda: lab.state(running.id) == "active")
        lost_before = q._session.listener._connection.number
        swallower.is_mute = True
        wait_until(lambda: "no answer for 1 s" in worker.log(), 8)
        wait_until(lambda: not q._session.listener.is_connected, 8)
        assert not running.done()
        swallower.is_mute = False
        assert running.result(timeout=20) == "rested"
        wait_until(lambda: "store back" in worker.log(), 8)
        assert q._session.listener._connection.number > lost_before
        assert lab.outcomes(running.id) == ["completed"]
    q.shutdown(wait=False)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_store_that_never_answers_ends_calls_within_a_minute(
    lab: Any, swallower: Swallower
) -> None:
    q = nbqueue.connect(swallower.url, key=lab.keys)
    q.submit(double, 1)
    swallower.is_mute = True
    begun = time.monotonic()
    with pytest.raises(nbqueue.StoreUnreachable):
        q.submit(double, 2)
    with pytest.raises(nbqueue.StoreUnreachable):
        q.tasks()
    assert time.monotonic() - begun < 90
    q.shutdown(wait=False)


@pytest.mark.parametrize("seconds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_store_that_stands_still_for_a_while_is_a_non_event(
    lab: Any, q: Client, seconds: float, caplog: pytest.LogCaptureFixture
) -> None:
    timeout = 3 if seconds == 2 else 30
    with lab.worker(answer_timeout=timeout) as worker:
        running = [q.submit(nap, 0.5 + i / 10) for i in range(4)]
        wait_until(lambda: lab.state(running[0].id) == "active")
        caplog.clear()
        process = lab.server.process
        process.send_signal(signal.SIGSTOP)
        try:
            let_time_pass(seconds)
        finally:
            process.send_signal(signal.SIGCONT)
        assert [f.result(timeout=20) for f in running] == ["rested"] * 4
        assert all(lab.outcomes(f.id) == ["completed"] for f in running)
        assert "WARNING" not in worker.log()
        # Clients of other tests in this process may log that their stores are gone.
        texts = [record.getMessage() for record in caplog.records]
        assert [text for text in texts if str(lab.server.folder) in text] == []
