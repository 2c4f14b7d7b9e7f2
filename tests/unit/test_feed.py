"""Live messages of a task, and reads for those that were missed."""

from __future__ import annotations

import json
import logging
from typing import Any, cast

import pytest

from nbqueue.broker.broker import Broker
from nbqueue.broker.reads.task_outputs import Entry
from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.live.task_feed import News, follow
from nbqueue.client.session import Session
from nbqueue.errors import StoreUnreachable
from nbqueue.worker.tasks.output_writer import news

ID = "0123456789abcdef"
PROGRESS = b'{"at":1,"attempt":1,"bars":[],"fields":{"loss":1}}'


def entry(number: int, attempt: int = 1, kind: str = "stdout") -> Entry:
    return Entry(attempt, number, 7, kind, 0, 0, b"%d" % number)


class FakeStore:
    """A store with one output, which counts its reads. It is the session as well."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.progress: bytes | None = None
        self.reads = 0
        self.channels = ChannelListeners()
        self.listener = self
        self.told: list[News] = []

    def call(self, *calls: Any, on: Any) -> list[Any]:
        [(word, *rest)] = calls
        if word == "HGET":
            return [self.progress]
        self.reads += 1
        attempt, number = map(int, rest[1].split("-"))
        return [
            [
                (
                    f"{each.attempt}-{each.number}".encode(),
                    [b"at", b"7", b"kind", each.kind.encode(), b"before", b"0", b"lines", b"0",
                     b"data", each.data],
                )
                for each in self.entries
                if (each.attempt, each.number) >= (attempt, number)
            ]
        ]  # fmt: skip

    def subscribe(self, channel: str, tell: Any) -> None:
        self.channels.add(channel, tell)

    def unsubscribe(self, channel: str, tell: Any) -> None:
        self.channels.remove(channel, tell)

    def broker(self) -> Broker:
        return cast("Broker", self)

    def follow(self, ids: str = ID) -> Any:
        return follow(cast("Session", self), "q", ids, self.told.append)

    def is_subscribed(self, channel: str) -> bool:
        return True

    def begin(self) -> None:
        self.channels.begin(cast("Any", self), self.broker)

    def say(self, data: bytes) -> None:
        self.channels.dispatch("nbqueue:{q}:live:012345", data, self.broker)

    @property
    def numbers(self) -> list[tuple[int, int]]:
        return [(e.attempt, e.number) for each in self.told for e in each.entries]


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def test_what_lies_there_is_told_first_and_then_what_comes(store: FakeStore) -> None:
    store.entries, store.progress = [entry(1), entry(2)], PROGRESS
    store.follow()
    store.begin()
    assert store.numbers == [(1, 1), (1, 2)]
    assert store.told[0].progress is not None
    assert store.told[0].progress.fields == {"loss": 1}
    store.say(news(ID, [entry(3)], b""))
    store.say(news(ID, [entry(1, attempt=2)], PROGRESS))
    assert store.numbers == [(1, 1), (1, 2), (1, 3), (2, 1)]
    assert store.reads == 1


def test_nothing_is_told_twice(store: FakeStore) -> None:
    store.entries = [entry(1)]
    store.follow()
    store.begin()
    for _ in range(2):
        store.say(news(ID, [entry(1), entry(2)], b""))
    store.channels.restart()
    store.begin()
    assert store.numbers == [(1, 1), (1, 2)]


def test_what_was_not_heard_is_read(store: FakeStore) -> None:
    store.follow()
    store.begin()
    store.entries = [entry(1), entry(2), entry(3)]
    store.say(news(ID, [entry(3)], b""))
    assert store.numbers == [(1, 1), (1, 2), (1, 3)]
    store.entries.append(entry(4, kind="display"))
    store.say(news(ID, [entry(4, kind="display")], b""))
    assert store.numbers[-1] == (1, 4)
    store.entries.append(entry(2, attempt=2))
    store.say(news(ID, [entry(2, attempt=2)], b""))
    assert store.numbers[-1] == (2, 2)


def test_one_task_hears_nothing_of_others_and_a_client_of_all(store: FakeStore) -> None:
    store.follow()
    store.say(news("0123456789other", [entry(1)], b""))
    assert store.told == []
    stop = store.follow("012345")
    store.say(news("0123456789other", [entry(1)], b""))
    assert [each.task_id for each in store.told] == ["0123456789other"]
    stop()
    stop()
    store.say(news("0123456789third", [entry(1)], b""))
    assert len(store.told) == 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff", b"[]", b"{}", b'"x"', json.dumps({"id": ID, "entries": [[1]]}).encode(),
     json.dumps({"id": ID, "entries": 7}).encode(),
     json.dumps({"id": ID, "entries": [[1, 1, 1, "display", 0, 0, "x"]]}).encode()],
)  # fmt: skip
def test_what_cannot_be_read_is_skipped(
    store: FakeStore, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    store.follow()
    store.say(data)
    assert store.told == []
    assert "could not be read" in caplog.text


def test_a_failing_callback_harms_no_other_and_a_lost_store_is_passed_on(
    store: FakeStore, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(news: News) -> None:
        raise ValueError("the user's mistake")

    follow(cast("Session", store), "q", ID, fail)
    store.follow()
    with caplog.at_level(logging.ERROR):
        store.say(news(ID, [entry(1)], b""))
    assert store.numbers == [(1, 1)]
    assert "the user's mistake" in caplog.text

    def lost() -> Broker:
        raise StoreUnreachable("away")

    with pytest.raises(StoreUnreachable):
        store.channels.dispatch("nbqueue:{q}:live:012345", b"{}", lost)
    store.channels.dispatch("another", b"{}", lost)  # no callback, so the store is not needed


def test_channels_are_followed_for_as_long_as_somebody_hears_them(store: FakeStore) -> None:
    others = ["x"]
    assert store.channels.channels(others) is others
    assert not store.channels
    stop, other = store.follow(), store.follow()
    assert store.channels.channels(others) == {"x", "nbqueue:{q}:live:012345"}
    stop()
    assert store.channels
    other()
    assert store.channels.channels(others) is others
