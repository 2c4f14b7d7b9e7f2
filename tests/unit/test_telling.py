"""Announced ends and ends found in the store, on their way to those that wait for them."""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.client.completion.dispatch import EndDispatcher
from nbqueue.client.completion.missing_tasks import MissingTasks
from nbqueue.client.futures.outcome import GONE, RawOutcome
from nbqueue.wire.keys import queue_keys

ID = "own1"


class Told:
    """Keeps the ends that it is told."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []
        self.came = threading.Event()

    def _take(self, ends: Sequence[tuple[str, RawOutcome]]) -> None:
        self.ends += [(task_id, end.state) for task_id, end in ends]
        self.came.set()

    def _notice(self, task_id: str, state: str) -> None:
        raise AssertionError("nothing is noticed here")


class Parts:
    """A `EndDispatcher` whose store has nothing in it."""

    def __init__(self, keyring: Keyring) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.tasks = AwaitedTasks("own")
        leading: Any = None
        broker: Any = self
        self.telling = EndDispatcher(
            self.tasks, self.lock, leading, lambda: broker, keyring, lambda: None
        )

    def endings(self, queue: str, task_ids: Sequence[str]) -> list[Any]:
        return [None for _ in task_ids]

    def announce(self) -> None:
        data = struct.pack(">HcI", len(ID), b"d", 0) + ID.encode()
        self.telling.announced("q", queue_keys("q").end_channel(ID), data)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(Keyring.load(tmp_path, {}))


def test_an_end_that_is_announced_while_its_task_is_being_sent_is_told(parts: Parts) -> None:
    told = Told()
    with parts.lock:  # as the sender has it, from before the task is sent
        reader = threading.Thread(target=parts.announce)
        reader.start()
        reader.join(0.1)
        assert reader.is_alive()
        parts.tasks.expect("q", (ID,), told)
        parts.tasks.enter("q", (ID,), 0.0)
    reader.join(5)
    assert told.came.wait(5)
    assert [task_id for task_id, _ in told.ends] == [ID]


def test_a_task_whose_end_is_still_to_be_looked_up_is_not_gone(parts: Parts) -> None:
    told = Told()
    parts.tasks.expect("q", (ID,), told)
    parts.tasks.enter("q", (ID,), 0.0)
    parts.telling._doubts.add("q", [(ID, RawOutcome("deleted"))])
    parts.telling.gone("q", [ID])
    assert told.ends == []
    parts.telling.check_announced(0.0)
    assert told.ends == [(ID, "deleted")]


def test_a_task_is_gone_once_what_was_announced_before_has_been_read(parts: Parts) -> None:
    told, heard = Told(), set[str]()
    departures = MissingTasks(parts.tasks)
    parts.tasks.expect("q", (ID,), told)
    departures.add({"q": [ID]})
    [channel] = [name for name in parts.tasks.channels if "gone" in name]
    assert departures.take(heard.__contains__) == []
    heard.add(channel)
    assert departures.take(heard.__contains__) == [("q", [ID])]
    assert channel not in parts.tasks.channels
    parts.telling.gone("q", [ID])
    assert told.ends == [(ID, GONE)]
