"""Imitate a Go server, following the protocol: fetch, handle, retry, cancel."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from asynq_peer import AsynqPeer

from nbqueue.wire.messages import TaskMessage

Handler = Callable[[TaskMessage, threading.Event], "bytes | None"]
"""Gets the message, and an event that is set when its context is cancelled."""


class GoServer:
    """Runs the tasks of one queue, each in a thread of its own.

    A cancelled context ends the attempt at once, whatever the handler does, with the error "context
    canceled", which is retried as any other (sections A.7, C.7 and H.1, 12).
    """

    def __init__(
        self, redis: Any, queue: str, handle: Handler, *, retry_seconds: int = 20, slots: int = 10
    ) -> None:
        self.peer = AsynqPeer(redis, queue)
        self.finished: dict[str, float] = {}
        """The time at which each task ended or was put back, on the monotonic clock."""
        self._redis, self._queue, self._handle = redis, queue, handle
        self._retry_seconds, self._slots = retry_seconds, threading.Semaphore(slots)
        self._contexts: dict[str, threading.Event] = {}
        self._stopping = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        subscription = self._redis.pubsub()
        subscription.subscribe("asynq:cancel")
        assert subscription.get_message(timeout=5.0) is not None
        threads = [
            threading.Thread(target=self._fetch),
            threading.Thread(target=self._obey, args=(subscription,)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for context in list(self._contexts.values()):
                context.set()
            for thread in threads:
                thread.join()
            subscription.close()

    def _fetch(self) -> None:
        while not self._stopping.is_set():
            msg = self.peer.dequeue(int(time.time()))
            if msg is None:
                self._stopping.wait(0.02)
                continue
            self._slots.acquire()
            message = TaskMessage.FromString(msg)
            self._contexts[message.id] = context = threading.Event()
            threading.Thread(target=self._run, args=(message, context), daemon=True).start()

    def _obey(self, subscription: Any) -> None:
        while not self._stopping.is_set():
            found = subscription.get_message(timeout=0.05)
            context = self._contexts.get(found["data"].decode()) if found else None
            if context is not None:
                context.set()

    def _run(self, message: TaskMessage, context: threading.Event) -> None:
        error, result = "", None
        try:
            result = self._handle(message, context)
        except Exception as raised:
            error = str(raised)
        if context.is_set():
            error = "context canceled"
        now_s = int(time.time())
        if self._stopping.is_set():
            self.peer.requeue(message.id)
        elif error:
            self._failed(message, error, now_s)
        elif message.retention:
            if result is not None:
                self._redis.hset(f"asynq:{{{self._queue}}}:t:{message.id}", "result", result)
            message.completed_at = now_s
            msg = message.SerializeToString()
            self.peer.complete(message.id, msg, now_s + message.retention)
        else:
            self.peer.done(message.id)
        self.finished[message.id] = time.monotonic()
        self._slots.release()

    def _failed(self, message: TaskMessage, error: str, now_s: int) -> None:
        message.error_msg, message.last_failed_at = error, now_s
        if message.retried >= message.retry:
            self.peer.archive(message.id, message.SerializeToString(), now_s)
        else:
            message.retried += 1
            at_s = now_s + self._retry_seconds
            self.peer.retry(message.id, message.SerializeToString(), at_s)
