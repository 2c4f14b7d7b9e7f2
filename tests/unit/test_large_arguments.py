"""Arguments are read again if the store refused them for a while."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls import payloads
from nbqueue.calls.detached import describe_body
from nbqueue.calls.keys.signing import Keyring
from nbqueue.runtime.buffers import Gathering
from nbqueue.testing.local_attempts import NO_OWNER
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.messages import TaskMessage
from nbqueue.worker.service_context import ServiceContext
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.large_arguments import LargeArguments

KEYS = Keyring([b"k" * 32])
ARGUMENTS = b"a" * 100_000


class Store:
    """Connections to a store that returns the next of these answers at each request."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.on_up: list[Any] = []
        self.is_up = True
        self.due: list[Callable[[], None]] = []

    def gather(self, calls: Any, gathering: Gathering, then: Callable[[], None]) -> None:
        [slot] = gathering.slots
        slot.take(self.answers.pop(0))
        then()

    def tasks(self, queue: str) -> Any:
        return self

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.due.append(action)


def read(store: Store) -> tuple[LargeArguments, Attempt, list[Attempt]]:
    beside, _ = describe_body([ARGUMENTS])
    payload = KEYS.sign_call(payloads.call_head(b"f" * 16, 0, None, beside), "a", "q", "t")
    message = TaskMessage(id="a", type="t", queue="q", payload=payload)
    task = Fetched("a", message.SerializeToString(), None, 1, 0)
    attempt = Attempt(1, "q", task, message, "T", 0, NO_OWNER)
    ready: list[Attempt] = []
    context = SimpleNamespace(reactor=store, connections=store, keys=KEYS)
    arguments = LargeArguments(cast("ServiceContext", context))
    assert arguments.read(attempt, ready.append)
    return arguments, attempt, ready


@pytest.mark.parametrize("word", ["LOADING", "BUSY"])
def test_a_store_that_is_busy_is_asked_again(word: str) -> None:
    store = Store(ReplyError(f"{word} so it is"), ARGUMENTS)
    arguments, attempt, ready = read(store)
    assert (len(arguments.under_way), ready) == (1, [])
    store.due.pop()()
    assert (len(arguments.under_way), ready, attempt.is_checked) == (0, [attempt], True)


@pytest.mark.parametrize("answer", [None, ARGUMENTS[1:], ReplyError("WRONGTYPE no hash")])
def test_what_is_not_there_is_not_waited_for(answer: Any) -> None:
    store = Store(answer)
    arguments, attempt, ready = read(store)
    assert (len(arguments.under_way), ready, attempt.is_checked) == (0, [attempt], False)
    assert not store.due


def test_one_that_is_taken_out_is_not_handed_on() -> None:
    store = Store(ReplyError("LOADING so it is"), ARGUMENTS)
    arguments, attempt, ready = read(store)
    assert arguments.take_out("b") == []
    assert arguments.take_out("a") == [attempt]
    store.due.pop()()
    assert (len(arguments.under_way), ready) == (0, [])
