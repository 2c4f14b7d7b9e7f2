"""Taking tasks in: from what the store gave us to what the executors may run, or a refusal."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nbqueue.broker.commands import lifecycle
from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls.keys.signing import Keyring
from nbqueue.calls.payloads import CALL_BESIDE
from nbqueue.clock import Clock
from nbqueue.wire.messages import TaskMessage, read_apart
from nbqueue.worker.connections import WorkerConnections
from nbqueue.worker.executors.pool import Pool
from nbqueue.worker.handler_table import HandlerTable
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.large_arguments import LargeArguments
from nbqueue.worker.tasks.outcome_commands import OutcomeCommands
from nbqueue.worker.tasks.required_workers import Parking
from nbqueue.worker.tasks.verify import NO_HANDLER, admit, unmet_requirement, unreadable
from nbqueue.worker.unreadable_data import set_aside


class TaskAcceptor:
    """Makes a run of each task that was fetched or handed over. It is held from then on.

    What an executor gets was verified here; of what is refused nothing is ever loaded.
    """

    def __init__(
        self,
        links: WorkerConnections,
        clock: Clock,
        keys: Keyring,
        handlers: HandlerTable,
        finisher: Acknowledger,
        answers: OutcomeCommands,
        pool: Pool,
        parking: Parking,
        offered: frozenset[str],
        numbers: itertools.count[int],
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._handlers = handlers
        self._finisher = finisher
        self._answers = answers
        self._pool = pool
        self._parking = parking
        self._offered = offered
        self._numbers = numbers
        self.reading = LargeArguments(links, keys, self._begin)
        """Tasks whose arguments are still to come."""

    def take(self, queue: str, found: Sequence[Fetched], token: str, now_ms: int) -> None:
        """These are ours, under ``token``, since then."""
        fence = lifecycle.token_fence(token)
        # Not when it came, which may be long after: see `Fetcher` for the form of a token.
        leased_ms = int(token.rsplit(":", 2)[1])
        for task_id, msg, since_ns, attempt, lost, _ in found:
            number = next(self._numbers)
            message, apart = read_apart(msg) or (TaskMessage(), None)
            run = Attempt(
                number, task_id, queue, msg, message, fence, attempt, lost, since_ns, now_ms
            )
            run.apart = apart
            run.leased_ms = leased_ms
            self._finisher.held[number] = run
            is_beside = apart is None and message.payload.startswith(CALL_BESIDE)
            if not (is_beside and self.reading.take(run)):
                self._begin(run)

    def _begin(self, run: Attempt, has_asked: bool = False) -> None:
        if run.is_lost:
            self._finisher.held.pop(run.number, None)
            return
        try:
            refusal = admit(run, self._keys, self._handlers, self._clock)
        except Exception as error:  # of what its message says
            set_aside("task", f"{run.queue} {run.task_id}", error)
            refusal = unreadable(run)
        if refusal is None:
            requirement = unmet_requirement(run, self._handlers, self._offered)
            if requirement is None:
                self._pool.add(run)
            else:
                self._parking.park(run, requirement)
        elif refusal.decision.reason == NO_HANDLER and not has_asked:
            # One may have been served a moment ago, and the news be still on its way.
            self._handlers.ask(run.queue, lambda: self._begin(run, has_asked=True))
        else:
            self._answers.failed(run, refusal.decision, error=refusal.error)
