"""Tasks that were found in the store, not fetched: in nobody's hands, or in those of the dead."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Expired, Fetched, Held, Who
from nbqueue.broker.commands.presence import vanish
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.errors import SignatureError
from nbqueue.runtime.reactor import Reactor
from nbqueue.transport.resp import ReplyError
from nbqueue.wire.decoding import LAST_MS, whole_number
from nbqueue.wire.keys import SERVERS, is_queue_name, queue_keys
from nbqueue.wire.messages import TaskMessage, read_message
from nbqueue.wire.server_info import decode_worker
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.maintenance.service import Service
from nbqueue.worker.store_refusals import refused
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.leases import HeldTasks, LeaseTokens
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes
from nbqueue.worker.worker_id import is_gone, is_neighbour

log = logging.getLogger("nbqueue.worker")


class Recovering:
    """Decides about tasks that were found, and has the store told.

    Several workers may find the same task: the fence lets one of them have its way.
    """

    def __init__(
        self,
        links: WorkerConnections,
        clock: Clock,
        keys: Keyring,
        held: HeldTasks,
        outcomes: TaskOutcomes,
        tokens: LeaseTokens,
        queues: Sequence[str],
        numbers: itertools.count[int],
    ) -> None:
        self._links = links
        self._clock = clock
        self._keys = keys
        self._held = held
        self._outcomes = outcomes
        self._tokens = tokens
        self._queues = queues
        self._numbers = numbers
        links.on_up.append(self._reclaim)

    def expired(self, queue: str, task: Expired) -> None:
        """The lease of a task ran out."""
        if self._held.has_task(queue, task.task_id):
            return  # ours: we were asleep, and the next heartbeat extends it
        holder, started_ms = _token_parts(task.lease.rpartition("|")[0])
        run = self._found(queue, task, task.fence, started_ms)
        # What a program in Go fetched it begins at once.
        run.begun = task.begun or "." not in task.score
        why = f"worker {holder} was lost" if holder else "its worker was lost"
        self._lost(run, holder, "lease ran out", why)

    def left_behind(self, queue: str, task: Held) -> None:
        """The process of the worker that holds a task is gone."""
        holder, started_ms = _token_parts(task.token)
        run = self._found(queue, task, lifecycle.token_fence(task.token), started_ms)
        run.begun = task.begun
        self._lost(run, holder, "worker died", f"worker {holder} died")

    def _lost(self, run: Attempt, holder: str, reason: str, why: str) -> None:
        message = run.message
        if payloads.is_call(message.payload):
            try:
                run.call = self._keys.verify_call(
                    message.payload, run.task_id, run.queue, message.type, only_head=True
                )
            except SignatureError:
                run.call = None  # whoever fetches it next refuses it
        run.holder = Who(holder, holder.rpartition(":")[0].rpartition(":")[0]) if holder else None
        self._outcomes.settle(run, decisions.after_loss(run, reason, why))

    def _found(
        self, queue: str, task: Held | Expired, fence: str, started_ms: int | None = None
    ) -> Attempt:
        run = Attempt(
            next(self._numbers),
            queue,
            Fetched(task.task_id, task.msg, None, task.attempt, task.lost),
            read_message(task.msg) or TaskMessage(),
            fence,
            self._clock.now_ms() if started_ms is None else started_ms,
            self._outcomes,
        )
        run.unbegun = task.unbegun
        return run

    def _reclaim(self) -> None:
        """Put back what we fetched but never heard of: the reply was lost with its connection.

        Only what was fetched over earlier connections: newer tasks may be on their way here. What
        we hold now is known, even if the store has its end before it has answered this.
        """
        link = self._links.upkeep
        if link is None:
            return
        known = {(run.queue, run.task_id, run.fence) for run in self._held}
        for queue in self._queues:
            link.send(
                lifecycle.held(queue, self._tokens.worker_id),
                partial(self._on_held, queue, known, self._tokens.issued),
            )

    def _on_held(self, queue: str, known: set[Any], last_token: int, found: Any) -> None:
        if isinstance(found, ReplyError):
            refused("a search", found)
            return
        for task in found:
            number = whole_number(task.token.rpartition(":")[2], 0)
            fence = lifecycle.token_fence(task.token)
            is_old = number is not None and number <= last_token
            if is_old and (queue, task.task_id, fence) not in known:
                run = self._found(queue, task, fence)
                # Lost once more before the store has that, it must not be given back twice.
                self._held.add(run)
                run.owner.give_back(run, "unstarted", "never heard of")


class Neighbours(Service):
    """Sees that the process of another worker on this machine is gone, and takes its tasks out of
    its hands.

    Once a second it looks at the processes, which asks nothing of the store; every few seconds at
    who else is there. The list of each queue names who served it for long, so that a worker that
    takes the place of a dead one sees it as it starts; who comes later says so. Records name
    workers of other queues.
    """

    def __init__(
        self,
        reactor: Reactor,
        links: WorkerConnections,
        clock: Clock,
        worker_id: str,
        queues: Sequence[str],
        recovering: Recovering,
        interval: float = 1.0,
        ask_every: int = 3,
        ask_all_every: int = 30,
    ) -> None:
        self._worker_id = worker_id
        self._queues = queues
        self._recovering = recovering
        self._ask_every = ask_every
        self._ask_all_every = ask_all_every
        self._turn = 0
        self._read: set[str] = set()
        self._known: dict[str, set[str]] = {}
        super().__init__(reactor, links, clock, interval)

    def stop(self) -> None:
        super().stop()
        self._turn = 0
        self._known.clear()

    def run_once(self) -> None:
        if self._turn % self._ask_all_every == 0:
            self._read.clear()
            for queue in self._queues:
                self._ask(("ZRANGE", queue_keys(queue).workers, 0, -1), partial(self._on, queue))
        if self._turn % self._ask_every == 0:
            self._ask(("ZRANGE", SERVERS, 0, -1), self._on_records)
        self._turn += 1
        for queue in self._known:
            self._look(queue)

    def found(self, queue: str, worker_id: bytes) -> None:
        """A worker says that it serves ``queue`` from now on."""
        self._on(queue, [worker_id])

    def _ask(self, words: tuple[Any, ...], on_reply: Callable[[Any], None]) -> None:
        def read(reply: Any) -> None:
            if isinstance(reply, ReplyError):
                refused("to say which workers there are", reply)
            else:
                on_reply(reply)

        link = self._links.upkeep
        if link is not None:
            link.call(words, read)

    def _on_records(self, reply: list[bytes]) -> None:
        for key in reply:
            worker_id = key.decode("utf-8", "replace").partition("{")[2].rstrip("}")
            is_new = worker_id != self._worker_id and worker_id not in self._read
            if is_new and is_neighbour(worker_id):
                self._ask(("GET", key), partial(self._on_record, worker_id))

    def _on_record(self, worker_id: str, body: bytes | None) -> None:
        record = decode_worker(body) if body else None
        if record is not None:
            self._read.add(worker_id)
        for queue in record.queues if record is not None else ():
            if is_queue_name(queue):
                self._on(queue, [worker_id.encode()])

    def _on(self, queue: str, reply: list[bytes]) -> None:
        ids = {each.decode("utf-8", "replace") for each in reply} - {self._worker_id}
        neighbours = {each for each in ids if is_neighbour(each)}
        if neighbours:
            self._known.setdefault(queue, set()).update(neighbours)
            self._look(queue)

    def _look(self, queue: str) -> None:
        for worker_id in self._known[queue]:
            if is_gone(worker_id):
                self._send(lifecycle.held(queue, worker_id), partial(self._take, queue, worker_id))

    def _take(self, queue: str, worker_id: str, found: list[Held] | None) -> None:
        if found is None:
            return
        for task in found:
            self._recovering.left_behind(queue, task)
        if found:
            log.warning("worker died id=%s queue=%s tasks=%d", worker_id, queue, len(found))
            return  # looked at again: it may have held more than one search finds
        self._known.get(queue, set()).discard(worker_id)
        for words in vanish(worker_id, [queue]):
            self._ask(words, lambda reply: None)


def _token_parts(token: str) -> tuple[str, int | None]:
    """Who fetched under this token, and when (Unix ms); empty for a program in Go."""
    holder, _, rest = token.rpartition(":")
    holder, _, fetched_ms = holder.rpartition(":")
    started_ms = whole_number(fetched_ms, 0, LAST_MS)
    return (holder, started_ms) if rest and started_ms is not None else ("", None)
