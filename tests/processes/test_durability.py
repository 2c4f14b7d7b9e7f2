"""Durability of acknowledged tasks, and errors for tasks that were not acknowledged."""

from __future__ import annotations

import contextlib
import os
import pickle
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
from reply_proxy import ReplyProxy

import nbqueue
from nbqueue.client.client import Client
from nbqueue.errors import StoreUnreachable, StoreUnsuitable, SubmitUnconfirmed, UsageError
from nbqueue.store.embedded import ensure_server, status, stop_server
from nbqueue.transport.confirmation import ON_DISK
from nbqueue.transport.topology import ANYWHERE

KEY = "5b" * 32


@pytest.fixture
def proxy(lab: Any) -> Iterator[ReplyProxy]:
    found = ReplyProxy(lab.server.socket)
    yield found
    found.close()


@pytest.fixture
def q(proxy: ReplyProxy) -> Iterator[Client]:
    client = nbqueue.connect(proxy.url, key=KEY)
    client.submit(abs, 0)  # with its code
    client.enqueue("email")
    client._session.broker._patience = 0.3
    yield client
    client.close()


def kill_after_write(lab: Any, proxy: ReplyProxy, count: int) -> None:
    """Kill the server after so many more tasks, before it replies."""
    pattern = "asynq:{default}:t:*"
    wanted = len(lab.redis.keys(pattern)) + count

    def on_reply(data: bytes) -> bytes | None:
        with contextlib.suppress(redis.ConnectionError):
            if len(lab.redis.keys(pattern)) < wanted:
                return data
        lab.server.kill()
        return None

    proxy.on_reply = on_reply


SUBMITS: dict[str, Callable[[Client], Any]] = {
    "submit": lambda q: q.submit(abs, -1),
    "named": lambda q: q.options(task_id="mine").submit(abs, -1),
    "map": lambda q: q.map(abs, range(300)),
    "later": lambda q: q.options(delay="1h").submit(abs, -1),
    "unique": lambda q: q.options(unique="1h").submit(abs, -1),
    "message": lambda q: q.enqueue("email", {"user": 1}),
    "aggregated": lambda q: q.enqueue("email", {"user": 1}, group="mail"),
}


@pytest.mark.parametrize("kind", SUBMITS)
def test_a_task_that_was_sent_and_not_confirmed_is_named_by_the_error(
    lab: Any, proxy: ReplyProxy, q: Client, kind: str
) -> None:
    count = 300 if kind == "map" else 1
    kill_after_write(lab, proxy, count)
    with pytest.raises(SubmitUnconfirmed, match=r"may be in the store") as caught:
        SUBMITS[kind](q)
    error = caught.value
    assert isinstance(error, StoreUnreachable)
    assert len(error.task_ids) == count
    assert error.task_id == error.task_ids[0]
    assert pickle.loads(pickle.dumps(error)).task_ids == error.task_ids
    proxy.on_reply = lambda data: data
    lab.server.start()
    # This server writes each command to its file before it replies, so they are all there.
    for task_id in error.task_ids[:: max(1, len(error.task_ids) // 3)]:
        assert q.get(task_id).id == task_id


def test_a_schedule_that_was_sent_and_not_confirmed_is_named_by_the_error(
    lab: Any, proxy: ReplyProxy, q: Client
) -> None:
    schedule = q.schedule(abs, "@hourly", args=(1,), id="old")
    answers: list[bytes] = []

    def on_reply(data: bytes) -> bytes | None:
        # Replies to its first reads come back; after the write the server is killed.
        answers.append(data)
        if lab.redis.hexists("nbqueue:{default}:schedules", "new"):
            lab.server.kill()
            return None
        return data

    proxy.on_reply = on_reply
    with pytest.raises(SubmitUnconfirmed, match="schedule 'new'") as caught:
        q.schedule(abs, "@hourly", args=(2,), id="new")
    assert (caught.value.schedule_id, caught.value.task_id) == ("new", None)
    proxy.on_reply = lambda data: data
    lab.server.start()
    assert [each.id for each in q.inspector.schedules()] == ["new", "old"]

    pending = lab.redis.llen("asynq:{default}:pending")

    def on_run(data: bytes) -> bytes | None:
        if lab.redis.llen("asynq:{default}:pending") > pending:
            lab.server.kill()
            return None
        return data

    proxy.on_reply = on_run
    with pytest.raises(SubmitUnconfirmed) as caught:
        schedule.run_now()
    proxy.on_reply = lambda data: data
    lab.server.start()
    assert caught.value.task_id is not None
    assert q.get(caught.value.task_id).type == "abs"


def test_a_lost_reply_is_no_error_where_the_store_is_back_in_time(
    lab: Any, proxy: ReplyProxy, q: Client
) -> None:
    q._session.broker._patience = 10.0

    def on_reply(data: bytes) -> None:
        proxy.on_reply = lambda data: data

    proxy.on_reply = on_reply
    future = q.submit(abs, -7)
    assert lab.state(future.id) == "pending"
    assert lab.redis.llen("asynq:{default}:pending") == 3, "it is there once, with two others"


def test_what_was_never_sent_is_only_unreachable(lab: Any, q: Client) -> None:
    q._session.broker.close()
    lab.server.kill()
    with pytest.raises(StoreUnreachable) as caught:
        q.submit(abs, -1)
    assert type(caught.value) is StoreUnreachable
    lab.server.start()


# --- durability= ---------------------------------------------------------------------------------


def test_a_level_that_there_is_not_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    url = f"embedded://{tmp_path / 's'}"
    with pytest.raises(UsageError, match="durability='disk' must be 'fsync' or 'replicated'"):
        nbqueue.connect(url, durability="disk")  # type: ignore[arg-type]
    with pytest.raises(StoreUnsuitable, match="an embedded store has no replicas"):
        nbqueue.connect(url, durability="replicated")
    assert not (tmp_path / "s").exists()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "s"
    stop_server(tmp_path / "s")


def policy_of(client: Client) -> str:
    [answer] = client._session.broker.call(("CONFIG", "GET", "appendfsync"), on=ANYWHERE)
    return str(answer[1].decode())


def test_an_embedded_store_syncs_each_write_once_a_client_asks_for_it(home: Path) -> None:
    careless = nbqueue.connect(f"embedded://{home}")
    assert policy_of(careless) == "everysec"
    careful = nbqueue.connect(f"embedded://{home}", durability="fsync")
    assert policy_of(careful) == "always"
    for _ in range(3):
        acknowledged = [careful.submit(abs, i).id for i in range(20)]
        pid = status(home).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
        # Any program that starts it next, with any settings, keeps this policy.
        ensure_server(home)
        assert policy_of(careless) == "always"
        assert [careless.get(task_id).id for task_id in acknowledged] == acknowledged
    careless.close()
    careful.close()
    assert stop_server(home)
    (home / "fsync-always").unlink()
    again = nbqueue.connect(f"embedded://{home}")
    assert policy_of(again) == "everysec"
    again.close()


def test_a_server_that_does_not_sync_each_write_is_refused_with_what_to_change(lab: Any) -> None:
    if lab.store.server_version >= (7, 2, 0):
        pytest.skip("this server has WAITAOF")

    def refusal(url: str = lab.url) -> str:
        with pytest.raises(StoreUnsuitable) as caught:
            nbqueue.connect(url, key=KEY, durability="fsync")
        return str(caught.value)

    lab.redis.config_set("appendfsync", "everysec")
    assert re.search(r"appendfsync everysec.*Set appendfsync to always.*7\.2", refusal())
    lab.redis.config_set("appendfsync", "always")
    client = nbqueue.connect(lab.url, key=KEY, durability="fsync")
    assert client.submit(abs, -1).id
    client.close()
    lab.redis.config_set("appendonly", "no")
    assert "writes no append-only file" in refusal()
    lab.redis.execute_command(
        *["ACL", "SETUSER", "some", "on", ">secret", "~*", "+@all", "-config", "-info"]
    )
    if lab.store.server_version >= (7, 0, 0):
        lab.redis.execute_command("ACL", "SETUSER", "some", "&*")
    url = lab.url.replace("unix://", "unix://some:secret@")
    assert "does not say what its appendfsync is" in refusal(url)


def answering(words: bytes) -> Callable[[bytes], bytes]:
    """Make replies of a server without WAITAOF look as if it answered ``words``."""
    return lambda data: re.sub(rb"-ERR unknown command .WAITAOF[^\r]*\r\n", words, data)


CONFIRMED, SLOW = b"*2\r\n:1\r\n:0\r\n", b"*2\r\n:0\r\n:0\r\n"


@pytest.mark.parametrize("kind", SUBMITS)
def test_a_server_that_can_wait_for_its_disk_is_waited_for(
    lab: Any, proxy: ReplyProxy, kind: str
) -> None:
    if lab.store.server_version >= (7, 2, 0):
        pytest.skip("this server has WAITAOF")
    asked: list[bytes] = []
    says = CONFIRMED

    def on_reply(data: bytes) -> bytes:
        replaced = answering(says)(data)
        if replaced != data:
            asked.append(replaced)
        return replaced

    proxy.on_reply = on_reply
    q = nbqueue.connect(proxy.url, key=KEY, durability="fsync")
    asked.clear()
    SUBMITS[kind](q)
    assert asked
    says = SLOW
    q._session.broker._patience = 0.2
    for name in {kind, "submit"} - {"named", "unique"}:
        with pytest.raises(SubmitUnconfirmed, match=r"did not confirm.*longer than 0.2 s"):
            SUBMITS[name](q)
    q.close()
    assert lab.redis.pttl("nbqueue:{~confirm:00}:mark") <= 1000


def test_what_was_written_over_a_connection_that_is_gone_is_written_again(
    lab: Any, proxy: ReplyProxy
) -> None:
    if lab.store.server_version >= (7, 2, 0):
        pytest.skip("this server has WAITAOF")
    proxy.on_reply = answering(CONFIRMED)
    q = nbqueue.connect(proxy.url, key=KEY, durability="fsync")
    q.submit(abs, -1)
    lost: list[str] = []

    def on_reply(data: bytes) -> bytes | None:
        if b"unknown command" in data and not lost:
            # The server forgets what it had not synced, and the connection goes.
            [task_id] = lab.redis.lrange("asynq:{default}:pending", 0, 0)
            lost.append(task_id.decode())
            lab.redis.delete(b"asynq:{default}:t:" + task_id)
            lab.redis.lrem("asynq:{default}:pending", 1, task_id)
            return None
        return answering(CONFIRMED)(data)

    proxy.on_reply = on_reply
    future = q.submit(abs, -2)
    assert lost == [future.id]
    assert lab.state(future.id) == "pending"
    q.close()


def test_what_a_server_confirmed_survives_that_it_is_killed(lab: Any) -> None:
    if lab.store.server_version < (7, 2, 0):
        pytest.skip("this server has no WAITAOF")
    lab.redis.config_set("appendfsync", "everysec")
    q = nbqueue.connect(lab.url, key=KEY, durability="fsync")
    assert q._session.store.confirmation is ON_DISK
    acknowledged = [q.submit(abs, i).id for i in range(3)] + list(q.map(abs, range(300)).ids[::50])
    schedule = q.schedule(abs, "@hourly", args=(1,))
    lab.server.kill()
    lab.server.start()
    assert [q.get(task_id).id for task_id in acknowledged] == acknowledged
    assert [each.id for each in q.inspector.schedules()] == [schedule.id]
    q.close()


def test_the_status_of_a_store_says_what_its_server_lacks(lab: Any) -> None:
    def lacks() -> str:
        words = [
            str(Path(sys.executable).with_name("nbqueue")),
            "store",
            "status",
            "--url",
            lab.url,
        ]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.partition("lacks")[2]

    lab.redis.config_set("appendfsync", "always")
    said = lacks()
    assert ("WAITAOF" in said) == (lab.store.server_version < (7, 2, 0))
    assert ("sharded channels" in said) == (lab.store.server_version < (7, 0, 0))
    assert "append" not in said.replace("needs appendfsync always", "")
    lab.redis.config_set("appendfsync", "everysec")
    assert "appendfsync everysec" in lacks()
    lab.redis.config_set("appendonly", "no")
    lab.redis.config_set("maxmemory-policy", "allkeys-lru")
    said = lacks()
    assert "persistence is off" in said
    assert "maxmemory-policy is allkeys-lru" in said
    lab.redis.config_set("save", "60 1000")
    assert "snapshots only" in lacks()
    assert "maxmemory allows" not in lacks()
    lab.redis.config_set("maxmemory", lab.redis.info("memory")["used_memory"])
    assert "that its maxmemory allows" in lacks()


def test_warnings_are_plain_lines_of_the_command_line_and_the_worker(lab: Any) -> None:
    def run(*words: str) -> list[str]:
        program = str(Path(sys.executable).with_name("nbqueue"))
        done = subprocess.run(
            [program, *words, "--url", lab.url],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert "StoreWarning" not in done.stderr
        return [line for line in done.stderr.splitlines() if "maxmemory-policy" in line]

    lab.redis.config_set("maxmemory-policy", "allkeys-lru")
    [shown] = run("queue", "list")
    assert shown.startswith("Warning: the store ")
    [logged] = run("worker", "--burst", "-c", "1")
    assert logged.startswith("WARNING ")
