"""Announced ends and ends found in the store, on their way to futures."""

from __future__ import annotations

import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.channels.channel_listeners import ChannelListeners
from nbqueue.client.channels.inline_read import InlineRead
from nbqueue.client.channels.listener_connection import ListenerConnection
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.listener_state import ListenerState
from nbqueue.client.completion.missing_tasks import MissingTasks
from nbqueue.client.results.outcome import GONE, RawOutcome
from nbqueue.wire.keys import queue_keys

ID = "own1"


class Sunk:
    """Keeps the ends that it gets."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        self.ends += [(task_id, end.state) for task_id, end in ends]

    def _notice(self, task_id: str, state: str) -> None:
        raise AssertionError("nothing is noticed here")


class Subscribed:
    """Knows the channels that are confirmed."""

    def __init__(self) -> None:
        self.channels: set[str] = set()

    def is_subscribed(self, channel: str) -> bool:
        return channel in self.channels


class Parts:
    """An `EndDispatcher` whose store has nothing in it."""

    def __init__(self, keyring: Keyring) -> None:
        state = ListenerState("own")
        self.tasks = state.tasks
        connection = cast("ListenerConnection", self)
        inline_read = InlineRead(connection, state.wake)
        self.dispatcher = EndDispatcher(state, connection, ChannelListeners(), inline_read, keyring)
        self.channel = queue_keys("q").end_channel(ID)
        self.tasks.open_channel("q", self.channel)

    def broker(self) -> Parts:
        return self

    def endings(self, queue: str, task_ids: Sequence[str]) -> list[Any]:
        return [None for _ in task_ids]

    def announce(self) -> None:
        data = struct.pack(">HcI", len(ID), b"d", 0) + ID.encode()
        self.dispatcher.on_message(self.channel, data)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(Keyring.load(tmp_path, {}))


def test_an_end_that_is_announced_before_its_task_is_confirmed_is_delivered(parts: Parts) -> None:
    sink = Sunk()
    parts.tasks.expect("q", (ID,), sink)
    parts.announce()
    assert sink.ends == []  # nothing proves it, and the task may still be on its way
    parts.tasks.note_written("q", (ID,), 0.0)
    parts.dispatcher.confirm_ends(time.monotonic() + 1.0)
    assert sink.ends == [(ID, "deleted")]


def test_a_task_whose_end_is_still_to_be_looked_up_is_not_gone(parts: Parts) -> None:
    sink = Sunk()
    parts.tasks.expect("q", (ID,), sink)
    parts.tasks.note_written("q", (ID,), 0.0)
    parts.dispatcher._unconfirmed.add("q", [(ID, RawOutcome("deleted"))])
    parts.dispatcher.end_missing("q", [ID])
    assert sink.ends == []
    parts.dispatcher.confirm_ends(0.0)
    assert sink.ends == [(ID, "deleted")]


def test_a_task_is_gone_once_what_was_announced_before_has_been_read(parts: Parts) -> None:
    sink, subscribed = Sunk(), Subscribed()
    missing = MissingTasks(parts.tasks)
    parts.tasks.expect("q", (ID,), sink)
    missing.add({"q": [ID]})
    [channel] = [name for name in parts.tasks.channels if "gone" in name]
    assert missing.take(subscribed) == []
    subscribed.channels.add(channel)
    assert missing.take(subscribed) == [("q", [ID])]
    assert channel not in parts.tasks.channels
    parts.dispatcher.end_missing("q", [ID])
    assert sink.ends == [(ID, GONE)]
