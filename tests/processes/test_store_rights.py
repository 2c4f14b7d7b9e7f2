"""Users of the store with few rights: the least rights, and errors for missing ones."""

from __future__ import annotations

import re
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
from waits import wait_until

import nbqueue
from nbqueue.errors import NbqueueError, StoreDenied, StoreUnsuitable, StoreWarning, TaskNotFound
from nbqueue.store.connection import connect
from nbqueue.store.durability import ensure_durability
from nbqueue.store.rights import RULES
from nbqueue.worker.lifecycle.startup import wait_for_store

NO_CHANNELS = " ".join(word for word in RULES.split() if not word.startswith("&"))

OF_MAIL = " ".join(
    (
        *("~asynq:{mail}:*", "~nbqueue:{mail}:*", "~nbqueue:{~schema:00}:version"),
        *("~asynq:queues", "~asynq:servers*", "~asynq:workers*", "~asynq:schedulers*"),
        *RULES.split()[2:],
    )
)


def double(x: int) -> int:
    return 2 * x


def print_twice() -> None:
    print("once")
    print("twice")


def url_of(lab: Any, rules: str) -> str:
    """A URL with a user who has these rights, made as Redis 7 makes users."""
    words = ["on", ">secret", "resetchannels", *rules.split()]
    lab.redis.execute_command("ACL", "SETUSER", "bob", "reset", *words)
    return str(lab.url.replace("unix://", "unix://bob:secret@"))


@pytest.fixture
def all_rights(lab: Any) -> str:
    return url_of(lab, RULES)


@pytest.fixture
def no_channels(lab: Any) -> str:
    return url_of(lab, NO_CHANNELS)


def refused(lab: Any) -> list[str]:
    """Return the commands that the server refused to any user."""
    entries = lab.redis.execute_command("ACL", "LOG")
    return [
        f"{entry[b'reason'].decode()} {entry[b'object'].decode()}"
        for entry in map(as_dict, entries)
    ]


def as_dict(words: Any) -> dict[bytes, Any]:
    return words if isinstance(words, dict) else dict(zip(words[::2], words[1::2], strict=True))


def test_the_documented_rights_suffice(lab: Any, all_rights: str) -> None:
    with warnings.catch_warnings(), lab.worker(url=all_rights) as worker:
        warnings.simplefilter("error")
        q = nbqueue.connect(all_rights, key=lab.keys)
        assert q.submit(double, 2).result(timeout=20) == 4
        assert q.options(delay=0.2).submit(double, 3).result(timeout=20) == 6
        assert q.map(double, range(50)).results(timeout=20) == [2 * i for i in range(50)]
        q.options(unique="1h", limit=nbqueue.Limit("x", 1)).submit(double, 4).result(timeout=20)
        q.schedule(double, "@every 1h", args=(1,), id="hourly").remove()
        q.tasks(), q.attempts(), q.queues(), q.workers(), q.schedules(), q.stats()
        running = q.submit(time.sleep, 30)
        wait_until(lambda: lab.state(running.id) == "active")
        running.cancel()
        wait_until(running.done)
        q.inspector.pause("default")
        q.inspector.unpause("default")
        q.shutdown(wait=False)
        assert "refused" not in worker.log()
    # It is asked for maxmemory-policy only to warn of a bad one.
    assert {each.partition("|")[0] for each in refused(lab)} <= {"command config"}


def test_without_channels_everything_works_by_asking(lab: Any, no_channels: str) -> None:
    with lab.worker(url=no_channels) as worker:
        with pytest.warns(StoreWarning, match="channels &asynq:.* &nbqueue:") as caught:
            q = nbqueue.connect(no_channels, key=lab.keys)
        assert len(caught) == 1
        for _ in range(3):
            begun = time.monotonic()
            assert q.submit(double, 2).result(timeout=20) == 4
            assert time.monotonic() - begun < 2
        begun = time.monotonic()
        assert q.options(delay=0.5).submit(double, 3).result(timeout=20) == 6
        assert time.monotonic() - begun < 4
        assert q.map(double, range(50)).results(timeout=20) == [2 * i for i in range(50)]
        printing = q.submit(print_twice)
        printing.result(timeout=20)
        assert "twice" in str(printing.output())
        q.serve("shout", str.upper)
        q.shutdown(wait=False)
        log = worker.log()
        assert log.count("may not use the channels") == 1
        assert "another worker has the task" not in log
        assert "refused" not in log


def test_a_client_whose_channels_are_taken_away_goes_on(lab: Any, all_rights: str) -> None:
    with lab.worker(url=all_rights) as worker:
        q = nbqueue.connect(all_rights, key=lab.keys)
        assert q.submit(double, 2).result(timeout=20) == 4
        url_of(lab, NO_CHANNELS)  # the server drops such subscribers
        assert q.submit(double, 3).result(timeout=20) == 6
        assert q.submit(double, 4).result(timeout=20) == 8
        q.shutdown(wait=False)
        assert worker.alive


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("~* allchannels +@all -zadd", "the commands ZADD"),
        ("~asynq:* ~nbqueue:* &* +@all -blmove", "the commands BLMOVE"),
        ("~asynq:* ~nbqueue:* &* +@all -zadd -evalsha", "the commands ZADD, EVALSHA"),
        ("~asynq:* &* +@all", "the keys ~nbqueue:"),
        ("~other:* &* +@all", "the keys ~asynq:. ~nbqueue:"),
        ("~* &* +@read", "the commands MULTI"),
        ("~* &* +@all -multi", "the commands MULTI"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_suffices(
    lab: Any, rules: str, said: str
) -> None:
    url = url_of(lab, rules)
    with pytest.raises(StoreDenied, match=said) as caught:
        connect(url, is_worker=True)
    run_line(lab, str(caught.value))
    connect(url, is_worker=True).close()
    assert "password" not in str(caught.value)
    assert lab.redis.dbsize() == 0, "trying rights changed something"


def test_a_right_that_is_taken_away_is_named(lab: Any, all_rights: str) -> None:
    q = nbqueue.connect(all_rights, key=lab.keys)
    lab.redis.execute_command("ACL", "SETUSER", "bob", "-evalsha")
    with pytest.raises(StoreDenied, match=r"lacks a right.*evalsha.*ACL SETUSER bob "):
        q.submit(double, 1)
    q.shutdown(wait=False)


@pytest.mark.parametrize("default", ["allchannels", "resetchannels"])
def test_the_line_of_the_page_makes_a_user_that_suffices(lab: Any, default: str) -> None:
    page = (Path(__file__).parents[2] / "docs" / "store.md").read_text()
    [line] = [line for line in page.splitlines() if line.startswith("ACL SETUSER")]
    assert RULES in line
    # As servers before Redis 7, and since, make users.
    lab.redis.execute_command("ACL", "SETUSER", "nbqueue", "reset", default)
    lab.redis.execute_command(*line.split())
    url = lab.url.replace("unix://", "unix://nbqueue:password@")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(url, is_worker=True).close()
        connect(url).close()


@pytest.mark.parametrize(
    ("rules", "said", "unsaid"),
    [
        (f"{NO_CHANNELS} &asynq:* &nbqueue:*", "use the channels &__redis__:inv", "cancelled"),
        (f"{NO_CHANNELS} &asynq:* &__redis__:*", "use the channels &nbqueue:.:", "cancelled"),
        (f"{NO_CHANNELS} &nbqueue:* &__redis__:*", "use the channels &asynq:.:", "takes longer"),
        (f"{RULES} -subscribe", "run the commands SUBSCRIBE: ", "channels"),
    ],
)
def test_a_worker_names_the_channels_that_it_may_not_hear(
    lab: Any, rules: str, said: str, unsaid: str
) -> None:
    with lab.worker(url=url_of(lab, rules)) as worker:
        wait_until(lambda: "may not" in worker.log())
        [line] = [line for line in worker.log().splitlines() if "may not" in line]
        assert re.search(said, line)
        assert unsaid not in line.partition("error=")[0]
        run_line(lab, line)


@pytest.mark.parametrize("command", ["PUBLISH", "SUBSCRIBE"])
def test_a_client_without_a_command_for_channels_is_warned_of_it(lab: Any, command: str) -> None:
    url = url_of(lab, f"{RULES} -{command.lower()}")
    with pytest.warns(StoreWarning, match=f"may not run the commands {command}:") as caught:
        connect(url).close()
    assert "use the channels" not in str(caught[0].message)
    run_line(lab, str(caught[0].message))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connect(url).close()


@pytest.mark.parametrize(
    ("version", "way"),
    [
        ((6, 2, 14), "Grant its user [+]config[|]get, and set appendfsync to always; "),
        ((7, 2, 4), "Grant its user [+]config[|]get [+]waitaof; "),
    ],
)
def test_the_rights_for_fsync_are_those_that_the_server_knows(
    lab: Any, version: tuple[int, int, int], way: str
) -> None:
    with connect(url_of(lab, RULES)) as store:
        if store.server_version >= (7, 2, 0):
            lab.redis.execute_command("ACL", "SETUSER", "bob", "-waitaof")
        store.server_version = version
        with pytest.raises(StoreUnsuitable, match=way):
            ensure_durability(store, "fsync")


def test_queues_that_a_user_may_not_read_are_faults_among_the_others(lab: Any) -> None:
    url = url_of(lab, OF_MAIL)
    everything = nbqueue.connect(lab.url, key=lab.keys)
    other = everything.options(queue="other", delay=60).submit(double, 1)
    everything.schedule(double, "@every 1h", args=(1,), id="hidden", queue="other")
    everything.shutdown(wait=False)
    with warnings.catch_warnings(), lab.worker(queues={"mail": 1}, url=url) as worker:
        warnings.simplefilter("ignore", StoreWarning)
        q = nbqueue.connect(url, key=lab.keys)
        mine = q.options(queue="mail").submit(double, 2)
        assert mine.result(timeout=20) == 4
        q.schedule(double, "@every 1h", args=(1,), id="shown", queue="mail")
        assert list(q.tasks().index) == [mine.id]
        assert list(q.tasks(queue="mail").index) == [mine.id]
        assert "shown" in str(q.schedules())
        shown = q.queues()
        assert shown["completed"]["mail"] == 1
        q.attempts(), q.stats(), q.workers(), q.inspector.queues()
        with pytest.raises(TaskNotFound):
            q.get("no-such-task")
        infos = {name: q.inspector.queue(name).fault for name in q.inspector.queues()}
        assert infos["mail"] is None
        assert "may not be read" in infos["other"]
        faults = {(fault.queue, fault.key) for fault in q.inspector.faults()}
        assert faults == {("other", "asynq:{other}:*"), ("other", "nbqueue:{other}:*")}
        wait_until(lambda: "queue is left alone" in worker.log())
        q.shutdown(wait=False)
        assert worker.log().count("queue=other") == 1
    assert lab.state(other.id, "other") == "scheduled"


def test_a_denied_submit_leaves_no_queue(lab: Any) -> None:
    q = nbqueue.connect(url_of(lab, OF_MAIL), key=lab.keys)
    for options in ({}, {"delay": 9}, {"unique": "1h"}):
        with pytest.raises(StoreDenied):
            q.options(queue="other", **options).submit(double, 1)
    with pytest.raises(StoreDenied):
        q.schedule(double, "@every 1h", args=(1,), id="x", queue="other")
    lab.redis.execute_command("ACL", "SETUSER", "bob", "-evalsha")
    with pytest.raises(StoreDenied):
        q.options(queue="mail").submit(double, 1)
    q.shutdown(wait=False)
    assert lab.redis.smembers("asynq:queues") == set()


def test_a_worker_without_rights_to_its_queue_does_not_start(lab: Any) -> None:
    url = url_of(lab, OF_MAIL)
    with pytest.raises(StoreDenied, match="keys of the queues 'other'") as caught:
        wait_for_store(url, 0.0, ["mail", "other"])
    run_line(lab, str(caught.value))
    wait_for_store(url, 0.0, ["mail", "other"]).close()
    with pytest.raises(NbqueueError, match="keys of the queues 'third'"):
        lab.start_worker(url=url, queues={"third": 1})


def run_line(lab: Any, message: str) -> None:
    """Run the command that the message advises, as it is written there."""
    found = re.search(r"ACL SETUSER bob [^()]+(?= \(see)", message)
    assert found is not None, message
    lab.redis.execute_command(*found[0].split())
