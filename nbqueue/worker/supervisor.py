"""The supervisor: fetches, has tasks run, answers for each. It never runs user code.

Everything happens in one thread, in rounds: what came in is handled, then results go out, tasks
come in, and executors get work. What to do with a task that ended is decided in `state`.

If this process dies, its executors die with it, and its tasks run again elsewhere when their
leases have run out.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Callable

from nbqueue.broker import commands
from nbqueue.broker.commands import Ended, Expired, Failure, Fetched, Who
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception, error_text
from nbqueue.calls.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import format_duration
from nbqueue.errors import (
    HandlerNotFound,
    IncompatiblePython,
    SignatureError,
    TaskCancelled,
    TaskFailed,
    TaskTimeout,
    WorkerLost,
)
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.store.connection import Store, connect
from nbqueue.wire.messages import TaskMessage, with_completed_at
from nbqueue.worker import state
from nbqueue.worker.codes import Codes
from nbqueue.worker.fetcher import Fetcher, QueueOrder
from nbqueue.worker.finisher import Finisher
from nbqueue.worker.links import Links
from nbqueue.worker.pool import Pool
from nbqueue.worker.reactor import Reactor
from nbqueue.worker.runs import Run
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.upkeep import ClockKeeper, Forwarder, Heartbeat, Janitor, Recoverer

log = logging.getLogger("nbqueue.worker")

_PYTHON = sys.version_info[:2]
_ERRORS = {
    "cancelled": TaskCancelled,
    "timeout": TaskTimeout,
    "lost": WorkerLost,
}


class Supervisor:
    """One worker. `run` blocks until it was told to end, by a signal or by `shut_down`."""

    def __init__(self, settings: WorkerSettings, store: Store | None = None) -> None:
        self.settings = settings
        self.store = store or connect(settings.url)
        self._keys = Keyring.load(self.store.config_directory)
        self.reactor = Reactor()
        self.clock = Clock()
        host = socket.gethostname() or "unknown-host"
        self.worker_id = f"{host}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._who = Who(self.worker_id, host)
        queues = list(settings.queues)
        self._numbers = itertools.count(1)
        self.links = Links(self.reactor, self.store, queues)
        self.finisher = Finisher(self.links, self.clock, self._who)
        self._codes = Codes(self.links)
        self.pool = Pool(self.reactor, self.clock, self._codes, settings)
        self.pool.on_done = self._on_done
        self.pool.on_lost = self._on_lost
        self.pool.on_no_code = self._on_no_code
        self.pool.on_broken = self._on_broken
        ClockKeeper(self.reactor, self.links, self.clock)
        lease = settings.lease_seconds
        Heartbeat(self.reactor, self.links, self.clock, self.finisher, lease)
        self.fetcher = Fetcher(
            self.reactor,
            self.links,
            self.clock,
            self.worker_id,
            lease,
            QueueOrder(settings.queues, settings.strict_priority),
            queues,
            self.pool.room,
            self._on_fetched,
        )
        self.forwarder = Forwarder(self.reactor, self.links, self.clock, queues, self.fetcher.look)
        Recoverer(self.reactor, self.links, self.clock, queues, self._on_expired)
        Janitor(self.reactor, self.links, self.clock, queues)
        self.links.on_message = self._on_message
        self.reactor.every_round(self._round)
        self._ending = False
        self._exit_code = 0
        self.on_ready: Callable[[], None] = lambda: None

    def run(self) -> int:
        """Serve until told to end; return an exit code. Signals are handled in the main thread."""
        self.reactor.on_signals(
            {
                signal.SIGTERM: self.shut_down,
                signal.SIGINT: self.shut_down,
                signal.SIGTSTP: self.pause,
            }
        )
        self.pool.warm_up()
        self.links.connect()
        log.info(
            "worker ready id=%s store=%s queues=%s concurrency=%d executor=%s",
            self.worker_id,
            self.store.url.redacted,
            ",".join(f"{name}={weight}" for name, weight in self.settings.queues.items()),
            self.settings.concurrency,
            self.settings.executor,
        )
        self.on_ready()
        try:
            self.reactor.run()
        finally:
            self.pool.close()
            self.links.close()
            self.store.close()
            self.reactor.close()
        log.info("worker ended id=%s", self.worker_id)
        return self._exit_code

    def pause(self) -> None:
        """Fetch no more; what is in hand goes on. As SIGTSTP does."""
        if self.fetcher.enabled:
            log.info("worker fetches no more tasks id=%s", self.worker_id)
        self.fetcher.enabled = False
        self._give_back(self.pool.take_back_unstarted(), "unstarted", "not begun")

    def shut_down(self) -> None:
        """End: what runs may go on for the shutdown time-out. A second call ends it at once."""
        if self._ending:
            self._abort()
            return
        self._ending = True
        self.pause()
        log.info(
            "worker ends id=%s running=%d timeout=%s",
            self.worker_id,
            self.pool.in_hand,
            format_duration(self.settings.shutdown_seconds),
        )
        self.reactor.after(self.settings.shutdown_seconds, self._abort)

    def _abort(self) -> None:
        runs = self.pool.give_up_running()
        for run in runs:
            log.warning("task interrupted id=%s type=%s", run.task_id, run.message.type)
        self._give_back(runs, "interrupted", "the worker was shut down")
        # The store may be away: its tasks then wait for their leases to run out.
        self.reactor.after(5.0, self.reactor.stop)

    def _round(self) -> None:
        self.fetcher.fetch()
        self.pool.dispatch()
        self.finisher.flush()
        self.links.flush()
        if self._ending and not self.pool.in_hand and self.finisher.is_idle:
            self.pool.stop_executors()
            self.reactor.stop()

    def _on_fetched(self, queue: str, found: list[Fetched], token: str, now_ms: int) -> None:
        fence = commands.token_fence(token)
        for task in found:
            run = Run(
                next(self._numbers),
                queue,
                task.msg,
                TaskMessage.FromString(task.msg),
                fence,
                task.attempt,
                task.lost,
                task.pending_since_ns,
                now_ms,
            )
            self.finisher.hold(run)
            if self._accept(run):
                self.pool.add(run)

    def _accept(self, run: Run) -> bool:
        """Check what may be run at all; a task that may not is finished with."""
        message = run.message
        if not payloads.is_call(message.payload):
            error = HandlerNotFound(f'handler not found for task "{message.type}"', message.id)
            self._apply(run, state.after_failure(run, "no handler", str(error)), error=error)
            return False
        try:
            run.call = call = self._keys.verify_call(
                message.payload, message.id, run.queue, message.type
            )
        except SignatureError as refused:
            self._apply(run, state.Archive("signature", error_text(refused)), error=refused)
            return False
        if call.python != _PYTHON and not call.flags & payloads.BY_REFERENCE:
            theirs, ours = (".".join(map(str, each)) for each in (call.python, _PYTHON))
            error_ = IncompatiblePython(
                f"{message.type} was sent by Python {theirs}, and this worker runs Python {ours}, "
                f"which cannot load its code: start a worker with Python {theirs}"
            )
            self._apply(run, state.Archive("python", str(error_)), error=error_)
            return False
        deadline = run.deadline
        if deadline and deadline <= self.clock.now():
            text = state.timeout_text(run)
            self._apply(
                run, state.after_failure(run, "timeout", text), error=TaskTimeout(text, message.id)
            )
            return False
        return True

    def _on_done(self, run: Run, done: DoneFrame) -> None:
        decision = state.after_done(run, done)
        finished_ms = self.clock.now_ms()
        started_ms = finished_ms - done.micros // 1000
        if isinstance(decision, state.Complete | state.Revoke):
            self._complete(run, done, started_ms, finished_ms, isinstance(decision, state.Revoke))
            return
        body = done.body if done.outcome != pipe.VALUE else b""
        if isinstance(decision, state.Archive | state.Retry) and decision.reason in _ERRORS:
            body = b""
        self._apply(run, decision, started_ms, done.peak_memory, body)

    def _complete(
        self, run: Run, done: DoneFrame, started_ms: int, finished_ms: int, revoked: bool
    ) -> None:
        message = run.message
        result = b""
        if done.outcome == pipe.VALUE:
            envelope = payloads.pack_result(payloads.VALUE, done.body)
            result = self._keys.sign_result(envelope, message.id)
        now_s = finished_ms // 1000
        keep = not revoked and message.retention > 0
        self.finisher.completed(
            run,
            Ended(
                message.id,
                run.fence,
                now_s + message.retention if keep else None,
                with_completed_at(run.msg, now_s) if keep else b"",
                result,
                message.type,
                run.attempt,
                started_ms,
                finished_ms,
                run.waited_ms(started_ms),
                done.peak_memory,
            ),
        )
        if log.isEnabledFor(logging.DEBUG):
            log.debug(
                "task %s id=%s type=%s queue=%s attempt=%d duration=%s",
                "revoked" if revoked else "completed",
                message.id,
                message.type,
                run.queue,
                run.attempt,
                format_duration(done.micros / 1e6),
            )

    def _on_lost(self, run: Run, why: str) -> None:
        self._apply(run, state.after_loss(run, why))

    def _on_no_code(self, run: Run) -> None:
        text = (
            f"the code of {run.message.type} is not in the store any more (or was changed there): "
            "submit the task again"
        )
        self._apply(run, state.Archive("no code", text))

    def _on_broken(self, why: str) -> None:
        log.critical("worker cannot run tasks and ends reason=%s", why)
        self._exit_code = 1
        self.shut_down()

    def _apply(
        self,
        run: Run,
        decision: state.Decision,
        started_ms: int | None = None,
        peak_memory: int = 0,
        body: bytes = b"",
        error: Exception | None = None,
    ) -> None:
        """Have the store do what was decided for an attempt that did not end well."""
        if isinstance(decision, state.Requeue):
            failure = run.failure(decision.reason, decision.error_text, started_ms, peak_memory)
            self._log_failure(run, decision.how, decision.reason, failure.error_text)
            self.finisher.otherwise(
                run,
                lambda now_ms, who: commands.requeue(run.queue, failure, decision.how, now_ms, who),
            )
            return
        assert isinstance(decision, state.Archive | state.Retry)
        failure = run.failure(decision.reason, decision.error_text, started_ms, peak_memory)
        envelope = self._error_envelope(run.task_id, decision, body, error)
        if isinstance(decision, state.Archive):
            self._log_failure(run, "archived", decision.reason, decision.error_text)
            self.finisher.otherwise(run, _archive(run, failure, envelope))
        else:
            self._log_failure(run, "retry", decision.reason, decision.error_text)
            self.finisher.otherwise(run, _retry(run, failure, envelope, decision))

    def _error_envelope(
        self,
        task_id: str,
        decision: state.Archive | state.Retry,
        body: bytes = b"",
        error: Exception | None = None,
    ) -> bytes:
        if not body:
            kind = _ERRORS.get(decision.reason, TaskFailed)
            body = dump_exception(error or kind(decision.error_text, task_id))
        return self._keys.sign_result(payloads.pack_result(payloads.EXCEPTION, body), task_id)

    @staticmethod
    def _log_failure(run: Run, what: str, reason: str, text: str) -> None:
        log.warning(
            "task %s id=%s type=%s queue=%s attempt=%d reason=%s error=%r",
            what,
            run.task_id,
            run.message.type,
            run.queue,
            run.attempt,
            reason,
            text,
        )

    def _give_back(self, runs: list[Run], how: str, reason: str) -> None:
        # The last first: each goes to the very front of the line.
        for run in reversed(runs):
            self.finisher.otherwise(run, _requeue(run, run.failure(reason, reason), how))

    def _on_expired(self, queue: str, task: Expired) -> None:
        message = TaskMessage.FromString(task.msg)
        if any(r.task_id == task.task_id for r in self.finisher.held.values() if r.queue == queue):
            return  # ours: we were asleep, and the next heartbeat extends it
        token = task.lease.rpartition("|")[0]
        holder, started_ms = _token_parts(token)
        run = Run(
            next(self._numbers),
            queue,
            task.msg,
            message,
            task.fence,
            task.attempt,
            task.lost,
            None,
            started_ms or self.clock.now_ms(),
        )
        if payloads.is_call(message.payload):
            try:
                run.call = self._keys.verify_call(message.payload, message.id, queue, message.type)
            except SignatureError:
                run.call = None  # whoever fetches it next refuses it
        why = f"worker {holder} was lost" if holder else "its worker was lost"
        self._apply(run, state.after_loss(run, why))

    def _on_message(self, channel: str, data: bytes) -> None:
        if channel.endswith(":wake"):
            word, _, value = data.partition(b" ")
            queue = channel[len("nbqueue:{") : -len("}:wake")]
            if word == b"due":
                self.forwarder.announced(queue, int(value))
            else:
                self.fetcher.look(queue)
            return
        for run in self.pool.find(data.decode("utf-8", "replace")):
            log.info("task is cancelled id=%s type=%s", run.task_id, run.message.type)
            self.pool.interrupt(run, pipe.CANCELLED)


def _archive(
    run: Run, failure: Failure, envelope: bytes
) -> Callable[[int, Who], commands.Command[bool]]:
    def make(now_ms: int, who: Who) -> commands.Command[bool]:
        msg = commands.failed_message(run.msg, failure.error_text, now_ms, counts=False)
        return commands.archive(run.queue, failure, msg, now_ms, who, error=envelope)

    return make


def _retry(
    run: Run, failure: Failure, envelope: bytes, decision: state.Retry
) -> Callable[[int, Who], commands.Command[bool]]:
    def make(now_ms: int, who: Who) -> commands.Command[bool]:
        counts = decision.counts
        msg = commands.failed_message(run.msg, failure.error_text, now_ms, counts=counts)
        due_ms = now_ms + int(decision.delay * 1000)
        return commands.retry(
            run.queue, failure, msg, due_ms, now_ms, who, counts=counts, error=envelope
        )

    return make


def _requeue(run: Run, failure: Failure, how: str) -> Callable[[int, Who], commands.Command[bool]]:
    return lambda now_ms, who: commands.requeue(run.queue, failure, how, now_ms, who)


def _token_parts(token: str) -> tuple[str, int | None]:
    """Who fetched under this token, and when (Unix ms); empty for a program in Go."""
    holder, _, rest = token.rpartition(":")
    holder, _, fetched_ms = holder.rpartition(":")
    return (holder, int(fetched_ms)) if rest and fetched_ms.isdigit() else ("", None)
