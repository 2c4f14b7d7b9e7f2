"""Stores behind Redis Sentinel: connecting, unfit Sentinels, and failovers under load."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sentinel_group import NAME, SentinelGroup
from servers import Tunnel, free_port, make_certificate
from waits import wait_until

import nbqueue
from nbqueue.cli.main import main
from nbqueue.errors import (
    StoreDenied,
    StoreError,
    StoreUnreachable,
    StoreUnsuitable,
    StoreWarning,
    SubmitUnconfirmed,
)
from nbqueue.store.connection import connect
from nbqueue.store.sentinel.master_watch import MasterWatch
from nbqueue.store.sentinel.sentinels import Master, Sentinels, read_master
from nbqueue.store.server_programs import ServerProgram
from nbqueue.store.url import parse_url
from nbqueue.transport.resp import ProtocolError

KEY = "5b" * 32
PASSWORD, SENTINEL_PASSWORD = "hunter2", "open sesame"


@pytest.fixture(scope="module")
def group(
    server_program: ServerProgram, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SentinelGroup]:
    found = SentinelGroup(
        server_program.path,
        tmp_path_factory.mktemp("sentinel"),
        password=PASSWORD,
        sentinel_password=SENTINEL_PASSWORD,
        down_after_ms=1000,
    )
    try:
        yield found
    finally:
        found.end()


def refusal(url: str, kind: type[StoreError]) -> str:
    with pytest.raises(kind) as caught:
        connect(url)
    assert type(caught.value) is kind
    text = str(caught.value)
    assert PASSWORD not in text
    assert "sesame" not in text
    return text


def monitor(group: SentinelGroup, name: str, port: int, quorum: int) -> str:
    """Have the first Sentinel watch a master alone; return the URL."""
    first = group.sentinels[0]
    with first.client(password=SENTINEL_PASSWORD) as client:
        client.execute_command("SENTINEL", "MONITOR", name, "127.0.0.1", port, quorum)
        client.execute_command("SENTINEL", "SET", name, "auth-pass", PASSWORD)
    return group.url_of([first], name)


class TestConnecting:
    def test_the_master_is_found_and_named(self, group: SentinelGroup) -> None:
        url = group.url_of(group.sentinels, db=3)
        with connect(url) as store:
            assert store.url.text == url
            assert store.server == f"127.0.0.1:{group.master.port}"
            store.redis.set("x", 1)
        with group.client(group.master) as there:
            there.select(3)
            assert there.get("x") == b"1"
        said = CliRunner().invoke(main, ["store", "status", "--url", url]).output
        assert f"master   127.0.0.1:{group.master.port}" in said
        assert PASSWORD not in said
        assert "sesame" not in said

    def test_sentinels_that_are_away_are_left_out(self, group: SentinelGroup) -> None:
        away = f"127.0.0.1:{free_port()},"
        with connect(group.url.replace("@", "@" + away)) as store:
            assert store.server == f"127.0.0.1:{group.master.port}"

    def test_an_isolated_sentinel_does_not_bring_the_old_master_back(
        self, group: SentinelGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with connect(group.url) as store:
            sentinels = store._masters.sentinels  # type: ignore[union-attr]
            known = sentinels._found = Master("127.0.0.1", 1, 7)
            others = sentinels._sentinels[1:]
            for other in others:
                monkeypatch.setattr(other, "ask", _fail)
            assert sentinels.master(-1) == known
            monkeypatch.undo()
            # Most of them say so: the master was set up anew.
            assert sentinels.master(-1).port == group.master.port


def _fail(*words: str) -> None:
    raise ConnectionError("away")


class TestUnfit:
    def test_a_name_that_no_sentinel_knows(self, group: SentinelGroup) -> None:
        said = refusal(group.url_of(group.sentinels, "jobs"), StoreUnsuitable)
        for sentinel in group.sentinels:
            assert f"127.0.0.1:{sentinel.port} says: ERR No such master with that name" in said
        assert f"knows '{NAME}'" in said

    def test_sentinels_that_do_not_answer(self) -> None:
        ports = [free_port(), free_port()]
        said = refusal(f"redis+sentinel://h:{ports[0]},127.0.0.1:{ports[1]}/m", StoreUnreachable)
        assert "no Sentinel answers" in said
        assert f"connecting to h:{ports[0]}" in said
        assert f"connecting to 127.0.0.1:{ports[1]}. Connection refused" in said

    def test_a_server_given_as_a_sentinel_and_the_reverse(self, group: SentinelGroup) -> None:
        port = group.master.port
        said = refusal(
            f"redis+sentinel://127.0.0.1:{port}/m?sentinel_password={PASSWORD}", StoreUnsuitable
        )
        assert f"127.0.0.1:{port} says: ERR unknown command" in said
        assert f"redis://127.0.0.1:{port}/0" in said
        for db in (0, 3):
            url = f"redis://:open%20sesame@127.0.0.1:{group.sentinels[0].port}/{db}"
            assert "is a Sentinel, which holds no data" in refusal(url, StoreUnsuitable)

    def test_passwords_of_servers_and_of_sentinels(self, group: SentinelGroup) -> None:
        master = f"127.0.0.1:{group.master.port}"
        for url in (group.url.replace(PASSWORD, "wrong"), group.url.replace(f":{PASSWORD}@", "")):
            said = refusal(url, StoreDenied)
            assert f"{master}, the master of redis+sentinel://" in said
            assert "password" in said
        for query in ("?sentinel_password=wrong", ""):
            said = refusal(group.url.partition("?")[0] + query, StoreDenied)
            assert f"Sentinel 127.0.0.1:{group.sentinels[0].port} says" in said
            assert "?sentinel_password=" in said

    def test_sentinels_without_a_quorum(self, group: SentinelGroup) -> None:
        url = monitor(group, "lonely", group.master.port, 9)
        with pytest.warns(StoreWarning, match="no replica .* can take over .*NOQUORUM"):
            connect(url).close()
        port = free_port()
        said = refusal(monitor(group, "dead", port, 9), StoreUnreachable)
        assert f"the store 127.0.0.1:{port}, the master of" in said
        assert "Connection refused" in said
        assert f"Sentinel 127.0.0.1:{group.sentinels[0].port} says: NOQUORUM" in said

    def test_a_master_that_says_it_is_a_replica(
        self, group: SentinelGroup, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        replica = next(each for each in group.servers if each.port != group.master.port)
        monkeypatch.setattr(Sentinels, "master", lambda *_: Master("127.0.0.1", replica.port, 1))
        said = refusal(group.url, StoreUnreachable)
        assert f"127.0.0.1:{replica.port} as the master, which says that it is a replica" in said

    @pytest.mark.parametrize(
        ("host", "port"),
        [(b"", b"1"), (b"h\nINFO", b"1"), (b"h", b"0"), (b"h", b"65536"), (b"h", b"\xb2")],
    )
    def test_an_answer_that_names_no_address(self, host: bytes, port: bytes) -> None:
        with pytest.raises(ProtocolError, match="it names no address"):
            read_master([b"ip", host, b"port", port, b"config-epoch", b"x"])

    def test_a_promoted_server_that_is_too_old(self) -> None:
        watch = MasterWatch(parse_url("redis+sentinel://h/m"), None)
        with pytest.raises(StoreUnsuitable, match=r"master is now h:1, which is Redis 6\.0\.9"):
            watch.check(Master("h", 1, 1), [b"master"], [b"version", b"6.0.9"])


def test_submits_are_confirmed_by_a_replica(
    group: SentinelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    [replica] = [each for each in group.servers if each.port != group.master.port]
    with pytest.raises(StoreUnsuitable, match="Set min-replicas-to-write to 1"):
        nbqueue.connect(group.url, durability="replicated")
    with group.client(group.master) as master, group.client(replica) as there:
        master.config_set("min-replicas-to-write", 1)
        client = nbqueue.connect(group.url, durability="replicated")
        q = client.options(queue="sure")
        submits: list[Callable[[], Any]] = [
            lambda: q.submit(abs, -1),
            lambda: q.options(name="mine").submit(abs, -1),
            lambda: q.map(abs, range(300)),
            lambda: q.enqueue("email", {"user": 1}),
            lambda: q.options(delay="1h").submit(abs, -1),
        ]
        for submit in submits:
            submit()
        sizes = [there.llen("asynq:{sure}:pending"), there.zcard("asynq:{sure}:scheduled")]
        assert sizes == [303, 1]
        os.kill(replica.process.pid, signal.SIGSTOP)
        client._session.broker._patience = 0.05  # shorter than the Sentinels' patience
        try:
            with pytest.raises(SubmitUnconfirmed, match=r"on a replica.*longer") as caught:
                q.submit(abs, -1)
            assert f"q.get('{caught.value.task_id}')" in str(caught.value)
        finally:
            os.kill(replica.process.pid, signal.SIGCONT)
            master.config_set("min-replicas-to-write", 0)
        wait_until(lambda: there.llen("asynq:{sure}:pending") == 304)
        client.close()


def test_tls_for_sentinels_and_for_servers(
    group: SentinelGroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path)
    sentinel, master = group.sentinels[0], group.master
    with Tunnel(certificate, sentinel.port) as first, Tunnel(certificate, master.port) as second:
        plain = group.url_of([sentinel]) + f"&ssl_ca_certs={certificate[0]}"
        url = plain.replace(f"127.0.0.1:{sentinel.port}", f"localhost:{first.port}")
        with connect(url + "&sentinel_tls=true") as store:
            assert store.server == f"127.0.0.1:{master.port}"
        # The Sentinels know the port without TLS.
        monkeypatch.setattr(Sentinels, "master", lambda *_: Master("localhost", second.port, 1))
        url = plain.replace("redis+", "rediss+") + "&sentinel_tls=false"
        with connect(url) as store, store.open_connection() as raw:
            assert raw.is_tls
            assert store.redis.ping()
            raw.cut()
            assert raw.socket.recv(1) == b""


class Load:
    """Submits tasks in a thread until it is stopped, and notes what was acknowledged."""

    def __init__(self, q: Any) -> None:
        self._q = q
        self._is_over = threading.Event()
        self.acknowledged: list[Any] = []
        self.errors: list[Exception] = []
        self.longest = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start = self._thread.start

    def _run(self) -> None:
        while not self._is_over.wait(0.01):
            began = time.monotonic()
            try:
                self.acknowledged.append(self._q.submit(abs, -1))
            except StoreError as error:
                self.errors.append(error)
            self.longest = max(self.longest, time.monotonic() - began)

    def stop(self) -> None:
        self._is_over.set()
        if self._thread.is_alive():
            self._thread.join()


def test_everybody_goes_on_after_the_master_was_killed(
    group: SentinelGroup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("NBQUEUE_KEY", KEY)
    log = tmp_path / "worker.log"
    worker = nbqueue.Worker(group.url, concurrency=2, log=log).start()
    q = nbqueue.connect(group.url)
    q._session.broker._patience = 30.0  # a failover on a busy machine may take long
    load = Load(q)
    events: list[Any] = []
    try:
        assert q.submit(abs, -2).result(20) == 2
        schedule = q.schedule(abs, "@every 1s", args=(-3,), id="each-second")
        stop_following = q._session.events.follow("default", events.append)
        caplog.clear()
        running = q.submit(time.sleep, 1)
        wait_until(running.running)
        load.start()
        wait_until(lambda: len(load.acknowledged) > 20)
        old = group.master
        old.end()
        promoted = group.wait_for_failover(old)
        after = q.submit(abs, -4)
        assert after.result(20) == 4
        assert time.monotonic() - promoted < 2.0, "a client and a worker are back within 2 s"
        events.clear()
        runs = schedule.runs
        wait_until(lambda: schedule.runs > runs)
        wait_until(lambda: events)
        load.stop()
        stop_following()
        assert running.result(60) is None
        assert load.acknowledged[-1].result(20) == 1
        assert load.errors == []
    finally:
        load.stop()
        worker.stop()
        q.close()
    [warned] = [
        each.getMessage()
        for each in caplog.records
        if each.name.startswith("nbqueue") and each.levelno >= logging.WARNING
    ]
    assert f"before=127.0.0.1:{old.port}" in warned
    [logged] = [line for line in log.read_text().splitlines() if " WARNING " in line]
    assert "store lost" in logged
