"""Programs of one version, and stores with data of another."""

from __future__ import annotations

from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.errors import StoreUnsuitable
from nbqueue.store import schema
from nbqueue.store.connection import connect
from nbqueue.store.schema import CURRENT, Schema
from nbqueue.wire.keys import SCHEMA_KEY

KEY = "5b" * 32
NOW = f"{CURRENT.version} {CURRENT.needs}".encode()


def test_a_store_says_its_version_from_the_first_task_on(lab: Any) -> None:
    client = nbqueue.connect(lab.url, key=KEY)
    assert client.tasks().empty
    client.panel()
    assert lab.redis.dbsize() == 0, "looking at an empty store writes nothing"
    client.submit(abs, -1)
    assert lab.redis.get(SCHEMA_KEY) == NOW
    client.close()


def test_a_worker_that_starts_notes_the_version(lab: Any) -> None:
    with lab.worker():
        assert lab.redis.get(SCHEMA_KEY) == NOW


def test_a_program_that_is_too_old_is_refused_before_it_changes_anything(lab: Any) -> None:
    newer = f"{CURRENT.version + 2} {CURRENT.needs + 1}"
    lab.redis.set(SCHEMA_KEY, newer)
    with pytest.raises(StoreUnsuitable, match=r"data of a newer nbqueue \(schema 3\).*Upgrade"):
        nbqueue.connect(lab.url, key=KEY)
    with pytest.raises(Exception, match=r"data of a newer nbqueue"):
        lab.start_worker()
    assert lab.redis.keys("*") == [SCHEMA_KEY.encode()]
    assert lab.redis.get(SCHEMA_KEY) == newer.encode()


def test_a_worker_whose_store_was_upgraded_does_nothing_more_after_reconnecting(lab: Any) -> None:
    with lab.worker() as worker:
        lab.redis.set(SCHEMA_KEY, f"{CURRENT.version + 1} {CURRENT.needs + 1}")
        lab.redis.client_kill_filter(skipme=True, _type="normal")
        wait_until(lambda: "data of a newer nbqueue" in worker.log())
        task_id = lab.submit(abs, -1)
        assert worker.alive
        # When the old data is put back, it is at work again.
        lab.redis.set(SCHEMA_KEY, NOW)
        assert lab.value(task_id) == 1


def test_newer_data_that_an_older_program_may_use_stay_as_they_are(lab: Any) -> None:
    newer = f"{CURRENT.version + 5} {CURRENT.needs}"
    lab.redis.set(SCHEMA_KEY, newer)
    client = nbqueue.connect(lab.url, key=KEY)
    with lab.worker():
        assert client.submit(abs, -3).result(timeout=30) == 3
    assert lab.redis.get(SCHEMA_KEY) == newer.encode()
    client.close()


def test_a_newer_program_raises_the_version_of_older_data(lab: Any) -> None:
    lab.redis.set(SCHEMA_KEY, "0 0")
    client = nbqueue.connect(lab.url, key=KEY)
    assert lab.redis.get(SCHEMA_KEY) == b"0 0", "which is what its first task does"
    client.submit(abs, -1)
    assert lab.redis.get(SCHEMA_KEY) == NOW
    client.close()


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, b"4 2"), (b"1 1", b"4 2"), (b"3 3", b"4 3"), (b"4 1", b"4 1"), (b"9 9", b"9 9")],
)
def test_nobody_writes_a_lower_version(lab: Any, before: bytes | None, after: bytes) -> None:
    if before is not None:
        lab.redis.set(SCHEMA_KEY, before)
    lab.store.ask(schema.note(Schema(4, 2)))
    assert lab.redis.get(SCHEMA_KEY) == after


@pytest.mark.parametrize("value", [b"", b"two", b"1", b"1 1 1", b"-1 1", b"\xff\xfe", b"9" * 5000])
def test_a_version_that_makes_no_sense_is_a_fault_that_names_the_key(
    lab: Any, value: bytes
) -> None:
    lab.redis.set(SCHEMA_KEY, value)
    with pytest.raises(StoreUnsuitable, match="holds no version of nbqueue") as caught:
        connect(lab.url)
    assert SCHEMA_KEY in str(caught.value)
    assert len(str(caught.value)) < 600
    assert lab.redis.get(SCHEMA_KEY) == value
    lab.store.ask(schema.note())
    assert lab.redis.get(SCHEMA_KEY) == value, "somebody else's, perhaps"


def test_a_version_of_the_wrong_type_is_such_a_fault(lab: Any) -> None:
    lab.redis.rpush(SCHEMA_KEY, "1 1")
    with pytest.raises(StoreUnsuitable, match="of another type"):
        connect(lab.url)


def test_a_user_without_a_right_to_the_key_works_without_it(lab: Any) -> None:
    rights = ["on", ">secret", "~asynq:*", "~nbqueue:{default}:*"]
    rights += ["+@all", "-@admin", "-@dangerous", "+info"]
    if lab.store.server_version >= (7, 0, 0):
        rights.append("&*")
    lab.redis.execute_command("ACL", "SETUSER", "some", *rights)
    client = nbqueue.connect(lab.url.replace("unix://", "unix://some:secret@"), key=KEY)
    future = client.submit(abs, -1)
    assert lab.state(future.id) == "pending"
    assert not lab.redis.exists(SCHEMA_KEY)
    client.close()
