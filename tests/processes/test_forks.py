"""Forked child processes wait for the tasks of their parent, and leave it alone."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from thread_worker import ThreadWorker

import nbqueue
from nbqueue.client.client import Client

WAIT = 15.0

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # Of Python 3.12 on: the parent has threads.
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def add(a: int, b: int = 0) -> int:
    return a + b


def fail() -> None:
    raise KeyError("missing")


class Child:
    """A forked process that runs a function and sends back its value or exception."""

    def __init__(self, run: Callable[[], Any]) -> None:
        self._read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            said: Any = "nothing"
            try:
                said = run()
            except BaseException:
                said = traceback.format_exc()
            finally:
                os.write(write, json.dumps(said).encode())
                os._exit(0)
        os.close(write)

    def answer(self, seconds: float = WAIT) -> Any:
        timer = threading.Timer(seconds, os.kill, (self.pid, signal.SIGKILL))
        timer.start()
        try:
            with open(self._read, "rb") as file:
                said = file.read()
        finally:
            timer.cancel()
            os.waitpid(self.pid, 0)
        assert said, "the child never returned"
        return json.loads(said)


@pytest.fixture
def worker(store_url: str) -> Iterator[ThreadWorker]:
    found = ThreadWorker(store_url)
    yield found
    found.close()


@pytest.fixture
def client(store_url: str) -> Iterator[Client]:
    found = nbqueue.connect(store_url)
    yield found
    found.close()


async def awaited(thing: Any) -> Any:
    return await asyncio.wait_for(asyncio.ensure_future(gathered(thing)), WAIT)


async def gathered(thing: Any) -> Any:
    return await thing


def polled(future: Any) -> Any:
    limit = time.monotonic() + WAIT
    while not future.done():
        assert time.monotonic() < limit
        threading.Event().wait(0.01)
    return future.result(0)


def called_back(future: Any) -> Any:
    called = threading.Event()
    future.add_done_callback(lambda done: called.set())
    assert called.wait(WAIT)
    return future.result(0)


WAYS: dict[str, Callable[[Any], Any]] = {
    "result": lambda future: future.result(WAIT),
    "exception": lambda future: (future.exception(WAIT), future.result(0))[1],
    "await": lambda future: asyncio.run(awaited(future)),
    "wrap_future": lambda future: asyncio.run(wrapped(future)),
    "wait": lambda future: concurrent.futures.wait([future], WAIT).done.pop().result(0),
    "as_completed": lambda future: next(concurrent.futures.as_completed([future], WAIT)).result(),
    "nbqueue.wait": lambda future: (nbqueue.wait(future, timeout=WAIT), future.result(0))[1],
    "done": polled,
    "callback": called_back,
}


async def wrapped(future: Any) -> Any:
    return await asyncio.wait_for(asyncio.wrap_future(future), WAIT)


@pytest.mark.parametrize("way", WAYS)
def test_a_child_waits_for_a_future_of_its_parent(
    client: Client, worker: ThreadWorker, way: str
) -> None:
    future = client.submit(add, 1, 2)
    child = Child(lambda: WAYS[way](future))
    with worker.running():
        assert child.answer() == 3
        assert future.result(WAIT) == 3


@pytest.mark.parametrize("way", ["results", "iter", "as_completed", "wait", "member", "await"])
def test_a_child_waits_for_a_group_of_its_parent(
    client: Client, worker: ThreadWorker, way: str
) -> None:
    group = client.map(add, range(20), [1] * 20)
    group[3]  # a member that was made before
    ways: dict[str, Callable[[], Any]] = {
        "results": lambda: group.results(WAIT),
        "iter": lambda: list(group),
        "as_completed": lambda: sorted(f.result() for f in group.as_completed(WAIT)),
        "wait": lambda: [group.wait(WAIT), group.results(0)][1],
        "member": lambda: [group[i].result(WAIT) for i in range(20)],
        "await": lambda: asyncio.run(awaited(group)),
    }
    child = Child(ways[way])
    with worker.running():
        assert child.answer() == list(range(1, 21))
        assert group.results(WAIT) == list(range(1, 21))


def test_several_children_and_their_children_wait_and_submit(
    client: Client, worker: ThreadWorker
) -> None:
    future, group = client.submit(add, 1), client.map(add, range(5))

    def run(number: int) -> Any:
        own = client.submit(add, number, 100)
        grandchild = Child(lambda: [future.result(WAIT), own.result(WAIT)])
        found = [future.result(WAIT), group.results(WAIT), own.result(WAIT)]
        return [*found, client.get(future.id).result(WAIT), grandchild.answer()]

    children = [Child(lambda number=number: run(number)) for number in range(4)]  # type: ignore[misc]
    with worker.running():
        mine = client.submit(add, 7)
        for number, child in enumerate(children):
            own = 100 + number
            assert child.answer() == [1, [0, 1, 2, 3, 4], own, 1, [1, own]]
        assert (future.result(WAIT), mine.result(WAIT)) == (1, 7)
        assert group.results(WAIT) == [0, 1, 2, 3, 4]


def test_what_ends_after_the_fork_and_what_ended_before_are_both_there(
    client: Client, worker: ThreadWorker
) -> None:
    before = client.submit(add, 1)
    worker.work()
    assert before.result(WAIT) == 1
    failing = client.submit(fail)
    child = Child(lambda: [before.result(0), repr(failing.exception(WAIT)), failing.state])
    with worker.running():
        assert child.answer() == [1, "KeyError('missing')", "archived"]


def test_a_child_that_uses_no_handle_opens_no_connection(client: Client) -> None:
    future = client.submit(add, 1)

    def run() -> Any:
        session = client._session
        is_connected = session.listener.is_connected
        return [threading.active_count(), "broker" not in vars(session), is_connected]

    assert Child(run).answer() == [1, True, False]
    assert not future.done()


def test_callbacks_of_the_parent_are_called_in_the_parent_only(
    client: Client, worker: ThreadWorker
) -> None:
    calls: list[int] = []
    future = client.submit(add, 1)
    future.add_done_callback(lambda done: calls.append(os.getpid()))
    child = Child(lambda: [future.result(WAIT), calls])
    with worker.running():
        assert child.answer() == [1, []]
        assert future.result(WAIT) == 1
    assert calls == [os.getpid()]


def test_closing_in_a_child_cancels_and_waits_for_nothing_of_the_parent(
    client: Client, worker: ThreadWorker
) -> None:
    future = client.submit(add, 1)

    def run() -> str:
        client.shutdown(wait=True, cancel_futures=True)
        return "closed"

    assert Child(run).answer() == "closed"
    with worker.running():
        assert future.result(WAIT) == 1


def test_a_child_ends_as_programs_do_and_the_parent_goes_on(
    client: Client, worker: ThreadWorker
) -> None:
    future = client.submit(add, 1)
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()

    def run() -> None:
        answers.put(client.submit(add, 5).result(WAIT) + future.result(WAIT))

    with worker.running():
        process = context.Process(target=run)
        process.start()
        process.join(WAIT)
        assert process.exitcode == 0
        assert answers.get() == 6
        assert future.result(WAIT) == 1
        assert client.submit(add, 2).result(WAIT) == 2


@pytest.mark.slow
def test_forking_while_other_threads_submit_and_wait_never_blocks_the_child(
    client: Client, worker: ThreadWorker
) -> None:
    stop = threading.Event()

    def submit() -> None:
        while not stop.is_set():
            assert client.submit(add, 1).result(WAIT) == 1
            assert client.map(add, range(5)).results(WAIT) == [0, 1, 2, 3, 4]

    threads = [threading.Thread(target=submit) for _ in range(3)]
    with worker.running():
        for thread in threads:
            thread.start()
        try:
            for _ in range(60):
                future, group = client.submit(add, 3), client.map(add, range(3))
                child = Child(lambda: [future.result(WAIT), group.results(WAIT)])  # noqa: B023
                assert child.answer() == [3, [0, 1, 2]]
                assert (future.result(WAIT), group.results(WAIT)) == (3, [0, 1, 2])
        finally:
            stop.set()
            for thread in threads:
                thread.join()
