"""Run tasks at once in this process, without a store or worker.

Functions, arguments and results are pickled, signed, verified and loaded as with a worker, so that
values that cannot travel fail here, too. There are limits: tasks run one after the other, when they
are submitted, even with a delay; time-outs do not end them; no real store is read.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast
from unittest.mock import patch

from nbqueue.calls.keys.signing import Keyring
from nbqueue.client import client as client_module
from nbqueue.client.client import Client
from nbqueue.client.completion.awaited_tasks import Sink
from nbqueue.client.completion.listener import CompletionListener
from nbqueue.client.obstacles.obstacle_watch import NoObstacles
from nbqueue.client.results.outcome import RawOutcome
from nbqueue.client.session import CAPTURED_LIMIT, Session, _sessions, parse_captured_limit
from nbqueue.clock import Clock
from nbqueue.sizes import Size
from nbqueue.store.connection import Store
from nbqueue.tasks.message_handlers import Middleware
from nbqueue.tasks.task import Task
from nbqueue.testing.eager_broker import EagerBroker
from nbqueue.wire.ids import IdMaker
from nbqueue.worker.worker import Worker

_numbers = itertools.count(1)


class EagerClient(Client):
    """A client whose tasks have ended when it returns their futures.

    See `eager_client`.
    """

    def __init__(self, session: Session, worker: Worker) -> None:
        super().__init__(session)
        self.worker = worker
        """The worker whose handlers, hooks and policy hold; it is never started."""

    def handle(self, pattern: str, fn: Callable[[Task], Any] | None = None) -> Any:
        """Have messages run by ``fn``; see `Worker.handle`."""
        return self.worker.handle(pattern, fn)

    def use(self, *middleware: Middleware) -> EagerClient:
        """Wrap all handlers; see `Worker.use`."""
        self.worker.use(*middleware)
        return self


def eager_client(worker: Worker | None = None) -> EagerClient:
    """Return a client that runs submitted tasks at once, without Redis.

    ``worker``: a worker with handlers, hooks and a retry policy; it is not started.

    >>> q = nbqueue.testing.eager_client()
    >>> q.submit(sum, [1, 2, 3]).result()
    6

    Retries happen without waiting. Errors arrive in the futures.
    """
    worker = worker or Worker()
    return EagerClient(_session(EagerBroker(worker)), worker)


@contextlib.contextmanager
def eager(*clients: Client, worker: Worker | None = None) -> Iterator[EagerClient]:
    """Let `nbqueue.connect` return clients like those of `eager_client` within the block.

    ``clients``: existing clients, which are eager within the block, too.

    >>> with nbqueue.testing.eager():
    ...     program_under_test()            # doctest: +SKIP
    """
    first = eager_client(worker)
    broker = first._session.broker
    assert isinstance(broker, EagerBroker)

    def new_session(
        url: str | None = None,
        key: Any = None,
        captured_limit: Size | None = CAPTURED_LIMIT,
        durability: str | None = None,
    ) -> Session:
        return _session(broker, captured_limit)

    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.object(client_module, "new_session", new_session))
        for client in clients:
            stack.enter_context(_made_eager(client._session, broker))
        yield first


@contextlib.contextmanager
def _made_eager(session: Session, broker: EagerBroker) -> Iterator[None]:
    before = session.broker, session.listener, session.keyring, session.clock
    session.broker, session.keyring, session.clock = broker, broker.keys, broker.clock
    session.listener = cast("CompletionListener", EagerListener(broker))
    try:
        yield
    finally:
        session.broker, session.listener, session.keyring, session.clock = before


def _session(broker: EagerBroker, captured_limit: Size | None = CAPTURED_LIMIT) -> Session:
    session = EagerSession(broker)
    session.code_limit = parse_captured_limit(captured_limit)
    return session


class EagerSession(Session):
    """A session with no store."""

    _obstacles = NoObstacles()

    def __init__(self, broker: EagerBroker) -> None:
        self.store = cast("Store", _NoStore())
        self.keyring: Keyring = broker.keys
        self.broker = broker
        self.clock: Clock = broker.clock
        self.is_open = self.accepts = True
        self.ids = IdMaker(self.clock.now_ms)
        self.listener = cast("CompletionListener", EagerListener(broker))
        _sessions.add(self)

    def after_fork(self) -> None:
        self.ids = IdMaker(self.clock.now_ms)

    def check_value(self, size: int, what: str) -> None:
        """Accept any size, as nothing is stored."""


class EagerListener:
    """Settles futures at once, as every task that was enqueued has ended."""

    is_connected = False

    def __init__(self, broker: EagerBroker) -> None:
        self._broker = broker
        self._sinks: dict[tuple[str, str], Sink] = {}

    def expect(self, queue: str, task_ids: Sequence[str], sink: Sink) -> int:
        self._sinks.update(((queue, task_id), sink) for task_id in task_ids)
        return 0

    def expect_named(self, queue: str, task_id: str, sink: Sink) -> int:
        self._sinks[queue, task_id] = sink
        return 0

    def forget(self, queue: str, task_ids: Sequence[str], sink: Sink) -> None:
        for task_id in task_ids:
            self._sinks.pop((queue, task_id), None)

    def written(
        self, queue: str, task_ids: Sequence[str], connection: int, is_message: bool
    ) -> None:
        for task_id in task_ids:
            sink = self._sinks.pop((queue, task_id), None)
            if sink is not None:
                sink._take(((task_id, self._broker.end(queue, task_id)),))

    def watch(self, queue: str, task_id: str, sink: Sink) -> Sink | None:
        sink._take(((task_id, self._broker.end(queue, task_id)),))
        return None

    def end_missing(self, queue: str, task_id: str) -> None:
        pass

    def claim(self, queue: str, task_id: str) -> Sink | None:
        return self._sinks.pop((queue, task_id), None)

    def outstanding(self, *, own: bool = False) -> list[tuple[str, str, Sink]]:
        return []

    def wait_until_idle(self) -> None:
        pass

    def is_this_thread(self) -> bool:
        return False

    def stop(self, end: Callable[[str], RawOutcome] | None = None, *, wait: bool = True) -> None:
        pass


class _NoURL:
    """A URL for an eager client, whose tasks are in this process."""

    def __init__(self) -> None:
        self.redacted = self.place = f"eager://{secrets.token_hex(4)}/{next(_numbers)}"


class _NoStore:
    def __init__(self) -> None:
        self.url = _NoURL()

    def close(self) -> None:
        pass
