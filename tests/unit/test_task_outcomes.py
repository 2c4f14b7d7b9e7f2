"""Commands at the end of each attempt, and the leases kept until then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from nbqueue.broker.commands.failure import Who
from nbqueue.broker.commands.lifecycle import Ended, Fetched
from nbqueue.calls import payloads
from nbqueue.calls.keys.signing import Keyring
from nbqueue.clock import Clock
from nbqueue.errors import SignatureError
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.tasks.result_preview import MOST_BYTES, preview_owner
from nbqueue.transport.script_call import Command
from nbqueue.wire.messages import TaskMessage
from nbqueue.worker.executors.executor_process import ExecutorExit
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.acknowledger import Acknowledger
from nbqueue.worker.tasks.attempt import Attempt, give_back
from nbqueue.worker.tasks.leases import HeldTasks, LeaseTokens
from nbqueue.worker.tasks.task_outcomes import TaskOutcomes

WHO = Who("me", "here")


class Store:
    """Takes outcomes as the acknowledger does, and keeps them with the commands they become."""

    def __init__(self) -> None:
        self.completions: list[Ended] = []
        self.commands: list[Command[Any]] = []
        self.too_large: Callable[[Attempt, int], None]
        self.reports: list[tuple[str, Any]] = []
        self.keys = Keyring([b"k" * 32])
        self.outcomes = TaskOutcomes(cast("Acknowledger", self), self.keys, Clock(), (self,))

    def completed(
        self, attempt: Attempt, ended: Ended, on_too_large: Callable[[Attempt, int], None]
    ) -> None:
        self.completions.append(ended)
        self.too_large = on_too_large

    def ended(self, attempt: Attempt, make_command: Callable[[int, Who], Command[bool]]) -> None:
        self.commands.append(make_command(1_000, WHO))

    def take(self, attempt: Attempt, kind: int, body: bytes) -> None:
        self.reports.append(("report", body))

    def finish(self, attempt: Attempt, outcome: int | None) -> None:
        self.reports.append(("end", outcome))

    def attempt(self, number: int = 1, queue: str = "q", retry: int = 0) -> Attempt:
        message = TaskMessage(id=f"t{number}", type="t", queue=queue, retry=retry, retention=60)
        task = Fetched(f"t{number}", message.SerializeToString(), None, 1, 0)
        return Attempt(number, queue, task, message, "Tt", 1_000, self.outcomes)

    @property
    def scripts(self) -> list[str]:
        return [command.script.name for command in self.commands]


def done(outcome: int, body: bytes = b"") -> DoneFrame:
    return DoneFrame(1, outcome, 10, 0, -1.0, True, "went wrong", body)


def test_a_value_completes_the_task_with_its_result() -> None:
    store = Store()
    attempt = store.attempt()
    attempt.owner.done(attempt, done(pipe.VALUE, b"7"))
    [completion] = store.completions
    assert (completion.task_id, completion.result, store.commands) == ("t1", b"7", [])
    assert completion.keep_until


def test_a_preview_is_signed_for_its_task_and_queue_and_bounded() -> None:
    store = Store()
    for preview in (b'{"summary":"x"}', b"x" * (MOST_BYTES + 1)):
        attempt = store.attempt()
        attempt.owner.done(attempt, done(pipe.VALUE, b"7")._replace(preview=preview))
    signed, refused = (completion.preview for completion in store.completions)
    keys, owner = store.keys, preview_owner("t1", "q")
    assert keys.verify_result(signed, owner).kind == payloads.PREVIEW
    for other in ("t1", preview_owner("t2", "q"), preview_owner("t1", "r")):
        with pytest.raises(SignatureError):
            keys.verify_result(signed, other)
    assert refused == b""


def test_a_revoked_task_is_not_kept() -> None:
    store = Store()
    attempt = store.attempt()
    attempt.owner.done(attempt, done(pipe.REVOKED))
    [completion] = store.completions
    assert (completion.keep_until, completion.result) == (None, b"")


def test_a_result_that_the_store_does_not_take_archives_the_task() -> None:
    store = Store()
    attempt = store.attempt()
    attempt.owner.done(attempt, done(pipe.VALUE, b"7"))
    store.too_large(attempt, 5_000)
    assert store.scripts == ["archive"]


@pytest.mark.parametrize(("retry", "script"), [(0, "archive"), (3, "retry")])
def test_a_failure_becomes_the_command_that_was_decided(retry: int, script: str) -> None:
    store = Store()
    attempt = store.attempt(retry=retry)
    attempt.owner.done(attempt, done(pipe.FAILED))
    assert store.scripts == [script]


def test_a_lost_attempt_goes_back_to_its_queue_after_its_last_reports() -> None:
    store = Store()
    attempt = store.attempt()
    attempt.owner.reported(attempt, pipe.OUTPUT_REPORT, b"hello")
    attempt.owner.lost(attempt, ExecutorExit("SIGKILL", "it was killed"), innocent=True)
    assert store.scripts == ["requeue"]
    assert store.reports == [("report", b"hello"), ("end", None)]


def test_a_refused_attempt_is_settled_as_the_refusal_says() -> None:
    store = Store()
    attempt = store.attempt(retry=3)
    attempt.owner.refused(attempt, decisions.without_code(attempt))
    assert store.scripts == ["archive"]


def test_tasks_that_are_given_back_keep_their_order_at_the_front_of_the_queue() -> None:
    store = Store()
    give_back([store.attempt(1), store.attempt(2)], "unstarted", "not begun")
    assert store.scripts == ["requeue", "requeue"]
    # Each goes to the front, so the first one goes last.
    ids = [
        next(each for each in command.args if each in ("t1", "t2")) for command in store.commands
    ]
    assert ids == ["t2", "t1"]


def test_held_attempts_are_found_by_queue_and_task_until_they_are_removed() -> None:
    store, held = Store(), HeldTasks()
    mine, other = store.attempt(1), store.attempt(2, "other")
    for attempt in (mine, other):
        held[attempt.number] = attempt
    assert held.by_queue() == {"q": [mine], "other": [other]}
    assert held.has_task("q", "t1")
    assert not held.has_task("q", "t2")


def test_each_token_names_the_worker_the_time_and_its_number() -> None:
    tokens = LeaseTokens("host:1:ab", 30.0)
    assert [tokens.new(1_000), tokens.new(1_000)] == ["host:1:ab:1000:1", "host:1:ab:1000:2"]
    assert (tokens.issued, tokens.lease_ms) == (2, 30_000)
