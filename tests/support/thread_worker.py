"""Workers for tests of the client: one in this process, and one like Go's.

Tests control each of their steps.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Iterator
from typing import Any

from nbqueue.broker.broker import Broker
from nbqueue.broker.commands import failure as failure_commands
from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.failure import Failure, Who
from nbqueue.broker.commands.lifecycle import Ended
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception, error_text
from nbqueue.calls.functions import dump_value, load_arguments, load_function
from nbqueue.calls.keys.signing import Keyring
from nbqueue.store.connection import connect
from nbqueue.wire.keys import CANCEL_CHANNEL, queue_keys
from nbqueue.wire.messages import TaskMessage, with_completed_at

_WHO = Who("thread", "here")
_LEASE_MS = 30_000


class Held:
    """A task that the worker fetched and has not finished."""

    def __init__(self, message: TaskMessage, msg: bytes, token: str, attempt: int) -> None:
        self.message = message
        self.msg = msg
        self.fence = lifecycle.token_fence(token)
        self.attempt = attempt


class ThreadWorker:
    """Runs tasks in the calling thread, with the transitions of a real worker."""

    def __init__(self, url: str, queue: str = "default", keyring: Keyring | None = None) -> None:
        self.store = connect(url)
        self.broker = Broker(self.store)
        self.keys = keyring or Keyring.load(self.store.config_directory)
        self.queue = queue

    def close(self) -> None:
        self.broker.close()
        self.store.close()

    def fetch(self, limit: int = 1) -> list[Held]:
        token, now_ms = uuid.uuid4().hex, self.broker.clock.now_ms()
        found = self.broker.run(
            lifecycle.fetch(self.queue, limit, now_ms, now_ms + _LEASE_MS, token)
        )
        return [
            Held(TaskMessage.FromString(task.msg), task.msg, token, task.attempt)
            for task in found or ()
        ]

    def call(self, held: Held) -> Any:
        message = held.message
        call = self.keys.verify_call(message.payload, message.id, message.queue, message.type)
        [blob] = self.broker.call(
            ("GET", queue_keys(self.queue).code(call.fingerprint)), on=self.queue
        )
        args, kwargs = load_arguments(call.arguments)
        return load_function(blob)(*args, **kwargs)

    def succeed(self, held: Held, value: Any) -> None:
        envelope = payloads.pack_result(payloads.VALUE, dump_value(value))
        self.complete([(held, self.keys.sign_result(envelope, held.message.id))])

    def complete(self, results: list[tuple[Held, bytes]]) -> None:
        now_ms = self.broker.clock.now_ms()
        ended = []
        for held, result in results:
            message = held.message
            until = now_ms // 1000 + message.retention if message.retention else None
            msg = with_completed_at(held.msg, now_ms // 1000)
            ended.append(
                Ended(
                    message.id, held.fence, until, msg, result, message.type, held.attempt,
                    now_ms - 5, now_ms, 1, 1000,
                )
            )  # fmt: skip
        assert self.broker.run(lifecycle.complete(self.queue, ended, now_ms, _WHO)) == []

    def fail(self, held: Held, error: BaseException, reason: str = "error") -> None:
        body = payloads.pack_result(payloads.EXCEPTION, dump_exception(error))
        self.archive(held, error_text(error), self.keys.sign_result(body, held.message.id), reason)

    def archive(self, held: Held, text: str, body: bytes = b"", reason: str = "error") -> None:
        now_ms = self.broker.clock.now_ms()
        failure = Failure(
            held.message.id, held.fence, held.message.type, held.attempt, now_ms, 1, reason, 0, text
        )
        msg = failure_commands.failed_message(held.msg, text, now_ms, counts=True)
        archive = failure_commands.archive(self.queue, failure, msg, now_ms, _WHO, error=body)
        assert self.broker.run(archive)

    def work(self, limit: int = 100) -> int:
        """Fetch and run up to ``limit`` tasks; return their number."""
        tasks = self.fetch(limit)
        good = []
        for held in tasks:
            try:
                value = self.call(held)
            except BaseException as error:
                self.fail(held, error)
            else:
                envelope = payloads.pack_result(payloads.VALUE, dump_value(value))
                good.append((held, self.keys.sign_result(envelope, held.message.id)))
        if good:
            self.complete(good)
        return len(tasks)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Work in another thread until the block ends."""
        stop = threading.Event()

        def run() -> None:
            while not stop.is_set():
                if not self.work():
                    stop.wait(0.002)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    @contextlib.contextmanager
    def obeying(self, held: Held, error: BaseException) -> Iterator[None]:
        """End ``held`` with ``error`` as soon as it is cancelled."""
        subscription = self.store.redis.pubsub()
        subscription.subscribe(CANCEL_CHANNEL)
        assert subscription.get_message(timeout=5.0) is not None
        told: list[Any] = []

        def obey() -> None:
            message = subscription.get_message(timeout=10.0)
            if message is not None and message["data"] == held.message.id.encode():
                told.append(message)
                self.fail(held, error, "cancelled")

        thread = threading.Thread(target=obey)
        thread.start()
        try:
            yield
        finally:
            thread.join()
            subscription.close()
        assert told, "nobody cancelled it"


class GoWorker:
    """Finishes tasks like a Go worker, without announcements or signatures."""

    def __init__(self, redis: Any, queue: str = "default") -> None:
        self.redis = redis
        self.keys = queue_keys(queue)

    def complete(self, task_id: str, result: bytes | None = None) -> None:
        """Complete a task with the result of its handler."""
        pipe = self.redis.pipeline()
        pipe.lrem(self.keys.pending, 0, task_id)
        if result is not None:
            pipe.hset(self.keys.task(task_id), "result", result)
        pipe.zadd(self.keys.completed, {task_id: 4_000_000_000})
        pipe.hset(self.keys.task(task_id), "state", "completed")
        pipe.execute()

    def done(self, task_id: str) -> None:
        """Delete a successful task without a retention."""
        pipe = self.redis.pipeline()
        pipe.lrem(self.keys.pending, 0, task_id)
        pipe.delete(self.keys.task(task_id))
        pipe.execute()

    def archive(self, task_id: str, text: str) -> None:
        """Archive a task with the text of an error."""
        message = TaskMessage.FromString(self.redis.hget(self.keys.task(task_id), "msg"))
        message.error_msg = text
        pipe = self.redis.pipeline()
        pipe.lrem(self.keys.pending, 0, task_id)
        pipe.zadd(self.keys.archived, {task_id: 1_700_000_000})
        pipe.hset(
            self.keys.task(task_id),
            mapping={"state": "archived", "msg": message.SerializeToString()},
        )
        pipe.execute()
