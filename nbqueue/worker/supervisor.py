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
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from nbqueue.broker import commands
from nbqueue.broker.channel import Channel
from nbqueue.broker.commands import Expired, Fetched, Held, Who
from nbqueue.broker.resp import ReplyError
from nbqueue.calls import payloads
from nbqueue.calls.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.durations import format_duration
from nbqueue.errors import (
    SignatureError,
)
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.store.connection import Store, connect
from nbqueue.wire.messages import TaskMessage, read_message
from nbqueue.worker import state
from nbqueue.worker.admission import NO_HANDLER, admit
from nbqueue.worker.answers import Answers
from nbqueue.worker.burst import Burst
from nbqueue.worker.codes import Codes
from nbqueue.worker.executors import Death
from nbqueue.worker.fetcher import Fetcher, QueueOrder
from nbqueue.worker.finisher import Finisher
from nbqueue.worker.handlers import HandlerTable
from nbqueue.worker.links import Links
from nbqueue.worker.outputs import OutputWriter
from nbqueue.worker.pool import Pool
from nbqueue.worker.reactor import Reactor
from nbqueue.worker.results import ResultWriter
from nbqueue.worker.runs import Run
from nbqueue.worker.settings import WorkerSettings
from nbqueue.worker.sweeper import Sweeper
from nbqueue.worker.upkeep import ClockKeeper, Forwarder, Heartbeat, Janitor, Recoverer

log = logging.getLogger("nbqueue.worker")


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
        self.finisher = Finisher(self.reactor, self.links, self.clock, self._who)
        self.answers = Answers(self.finisher, self._keys)
        self.finisher.on_too_large = self.answers.too_large
        self._handlers = HandlerTable(self.links, self._keys, queues, settings.patterns)
        self._codes = Codes(self.links)
        self.pool = Pool(self.reactor, self.clock, self._codes, settings)
        self.pool.on_done = self._on_done
        self._results = ResultWriter(self.links, self._keys)
        self._outputs = OutputWriter(self.links, self._keys, self.clock)
        self.pool.on_report = self._on_report
        self.pool.on_lost = self._on_lost
        self.pool.on_no_code = self._on_no_code
        self.pool.on_broken = self._on_broken
        self.pool.on_too_many = self._give_back
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
        Sweeper(self.reactor, self.links, self.clock, queues)
        self._burst: Burst | None = None
        if settings.burst:
            self._burst = Burst(
                self.reactor, self.links, self.clock, queues, self._is_idle, self.shut_down
            )
        self.links.on_message = self._on_message
        self.links.on_up.append(self._reclaim)
        self.reactor.every_round(self._round)
        self._ending = self._stopping = self._is_giving_back = False
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
        self._set_clock()
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

    def _set_clock(self) -> None:
        """Before there is anything else to do, which would make the answer seem late."""
        channel = Channel(self.store)
        for _ in range(3):
            sent_at = self.reactor.now()
            [(seconds, micros)] = channel.call(("TIME",))
            self.clock.measured(sent_at, self.reactor.now(), int(seconds) + int(micros) / 1e6)
        channel.close()

    def pause(self) -> None:
        """Fetch no more; what is in hand goes on. As SIGTSTP does."""
        if self.fetcher.enabled:
            log.info("worker fetches no more tasks id=%s", self.worker_id)
        self.fetcher.enabled = False
        self._is_giving_back = True

    def _give_back(self, runs: list[Run]) -> None:
        self.answers.give_back(runs, "unstarted", "not begun")

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
        self.answers.give_back(runs, "interrupted", "the worker was shut down")
        # The store may be away: its tasks then wait for their leases to run out.
        self.reactor.after(5.0, self.reactor.stop)

    def _round(self) -> None:
        if self._is_giving_back and not self.fetcher.is_asking:
            # All at once, with what was on its way: so they go back in the order they came in.
            self._is_giving_back = False
            self._give_back(self.pool.take_back_unstarted())
        self.fetcher.fetch()
        self.pool.dispatch()
        self._outputs.flush()
        self.finisher.flush()
        self.links.flush()
        if self._ending:
            self._end_when_idle()
        elif self._burst is not None:
            self._burst.look()

    def _is_idle(self) -> bool:
        return not self.pool.in_hand and self.finisher.is_idle and not self.fetcher.is_asking

    def _end_when_idle(self) -> None:
        """First the tasks end, then the executors, which may have hooks to run, and then we."""
        if self._stopping:
            if not self.pool.executors:
                self.reactor.stop()
        elif self._is_idle():
            self._stopping = True
            self.pool.stop_executors()
            self.reactor.after(self.settings.kill_grace_seconds, self.reactor.stop)

    def _on_fetched(self, queue: str, found: list[Fetched], token: str, now_ms: int) -> None:
        fence = commands.token_fence(token)
        for task in found:
            run = Run(
                next(self._numbers),
                task.task_id,
                queue,
                task.msg,
                read_message(task.msg) or TaskMessage(),
                fence,
                task.attempt,
                task.lost,
                task.pending_since_ns,
                now_ms,
            )
            self.finisher.hold(run)
            self._begin(run)

    def _begin(self, run: Run, has_asked: bool = False) -> None:
        refusal = admit(run, self._keys, self._handlers, self.clock.now())
        if refusal is None:
            self.pool.add(run)
        elif refusal.decision.reason == NO_HANDLER and not has_asked:
            # One may have been served a moment ago, and the news be still on its way.
            self._handlers.ask(run.queue, lambda: self._begin(run, has_asked=True))
        else:
            self.answers.failed(run, refusal.decision, error=refusal.error)

    def _on_report(self, run: Run, what: int, body: bytes) -> None:
        self._results.take(run, what, body)
        self._outputs.take(run, what, body)

    def _on_done(self, run: Run, done: DoneFrame) -> None:
        self._results.finish(run, keep=done.outcome != pipe.VALUE)
        self._outputs.finish(run, is_success=done.outcome in (pipe.VALUE, pipe.REVOKED))
        self.answers.done(run, done, self.clock.now_ms())

    def _on_lost(self, run: Run, why: Death, innocent: bool) -> None:
        self._results.finish(run, keep=True)
        self._outputs.finish(run, is_success=False)
        self.answers.failed(run, state.after_loss(run, why.reason, why.text, innocent))

    def _on_no_code(self, run: Run) -> None:
        text = (
            f"the code of {run.message.type} is not in the store any more (or was changed there): "
            "submit the task again"
        )
        self.answers.failed(run, state.Archive("no code", text))

    def _on_broken(self, why: str) -> None:
        log.critical("worker cannot run tasks and ends reason=%s", why)
        self._exit_code = 1
        self.shut_down()

    def _found(
        self, queue: str, task: Held | Expired, fence: str, started_ms: int | None = None
    ) -> Run:
        """A run that was found in the store, not fetched."""
        return Run(
            next(self._numbers),
            task.task_id,
            queue,
            task.msg,
            read_message(task.msg) or TaskMessage(),
            fence,
            task.attempt,
            task.lost,
            None,
            self.clock.now_ms() if started_ms is None else started_ms,
        )

    def _on_expired(self, queue: str, task: Expired) -> None:
        if any(r.task_id == task.task_id for r in self.finisher.held.values() if r.queue == queue):
            return  # ours: we were asleep, and the next heartbeat extends it
        holder, started_ms = _token_parts(task.lease.rpartition("|")[0])
        run = self._found(queue, task, task.fence, started_ms)
        message = run.message
        if payloads.is_call(message.payload):
            try:
                run.call = self._keys.verify_call(message.payload, run.task_id, queue, message.type)
            except SignatureError:
                run.call = None  # whoever fetches it next refuses it
        if holder:
            run.holder = Who(holder, holder.partition(":")[0])
        why = f"worker {holder} was lost" if holder else "its worker was lost"
        self.answers.failed(run, state.after_loss(run, "lease ran out", why))

    def _reclaim(self) -> None:
        """Put back what we fetched but never heard of: the reply was lost with its connection.

        Only what was fetched over earlier connections: newer tasks may be on their way here. What
        we hold now is known, even if the store has its end before it has answered this.
        """
        link = self.links.upkeep
        if link is None:
            return
        known = {(run.queue, run.task_id, run.fence) for run in self.finisher.held.values()}
        for queue in self.settings.queues:
            link.send(
                commands.held(queue, self.worker_id),
                partial(self._on_held, queue, known, self.fetcher.issued),
            )

    def _on_held(self, queue: str, known: set[Any], last_token: int, found: Any) -> None:
        if isinstance(found, ReplyError):
            log.error("store refused a search error=%s", found)
            return
        for task in found:
            number = task.token.rpartition(":")[2]
            fence = commands.token_fence(task.token)
            is_old = number.isdigit() and int(number) <= last_token
            if is_old and (queue, task.task_id, fence) not in known:
                run = self._found(queue, task, fence)
                self.answers.give_back([run], "unstarted", "never heard of")

    def _on_message(self, channel: str, data: bytes) -> None:
        if channel.endswith(":wake"):
            word, _, value = data.partition(b" ")
            queue = channel[len("nbqueue:{") : -len("}:wake")]
            if word == b"due" and value.isdigit():
                self.forwarder.announced(queue, int(value))
            elif word == b"handlers":
                self._handlers.refresh()
            else:
                self.fetcher.look(queue)
            return
        for run in self.pool.find(data.decode("utf-8", "replace")):
            log.info("task is cancelled id=%s type=%s", run.task_id, run.message.type)
            self.pool.interrupt(run, pipe.CANCELLED)


def _token_parts(token: str) -> tuple[str, int | None]:
    """Who fetched under this token, and when (Unix ms); empty for a program in Go."""
    holder, _, rest = token.rpartition(":")
    holder, _, fetched_ms = holder.rpartition(":")
    return (holder, int(fetched_ms)) if rest and fetched_ms.isdigit() else ("", None)
