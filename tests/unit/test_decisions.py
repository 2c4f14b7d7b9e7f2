"""Decisions about a task when an attempt has ended, in every case."""

from __future__ import annotations

from typing import Any

import pytest

from nbqueue.broker.commands.lifecycle import Fetched
from nbqueue.calls import payloads
from nbqueue.errors import CANCELLED
from nbqueue.executor import pipe
from nbqueue.executor.pipe import DoneFrame
from nbqueue.testing.local_attempts import NO_OWNER
from nbqueue.wire.messages import FAR_TIMEOUT, TaskMessage
from nbqueue.worker.tasks import decisions
from nbqueue.worker.tasks.attempt import Attempt
from nbqueue.worker.tasks.decisions import Archive, Complete, Requeue, Retry, Revoke


class FakeCall:
    """A call, as far as these decisions look at it."""

    def __init__(self, flags: int = 0) -> None:
        self.flags = flags
        self.timeouts: Any = None


def an_attempt(*, call: Any = None, lost: int = 0, stop_reason: int = 0, **fields: Any) -> Attempt:
    message = TaskMessage(**{"id": "i", "type": "t", "queue": "q", "timeout": 60, **fields})
    task = Fetched("i", b"", None, 1, lost)
    found = Attempt(1, "q", task, message, "Tt", 1_000_000, NO_OWNER)
    found.call, found.stop_reason = call, stop_reason
    return found


def done(outcome: int, *, delay: float = -1.0, counts: bool = True) -> DoneFrame:
    return DoneFrame(1, outcome, 10, 0, delay, counts, "text", b"body")


def test_a_value_completes_the_task() -> None:
    assert decisions.after_done(an_attempt(), done(pipe.VALUE)) == Complete()


def test_a_revoked_task_is_deleted() -> None:
    assert decisions.after_done(an_attempt(), done(pipe.REVOKED)) == Revoke()


@pytest.mark.parametrize("retried", [0, 5])
def test_a_task_that_has_retries_left_is_archived_all_the_same_if_trying_is_of_no_use(
    retried: int,
) -> None:
    ended = decisions.after_done(an_attempt(retry=9, retried=retried), done(pipe.FAILED_FOR_GOOD))
    assert ended == Archive("error", "text")


@pytest.mark.parametrize(("retry", "retried"), [(0, 0), (3, 3), (3, 4)])
def test_a_failure_without_retries_left_archives(retry: int, retried: int) -> None:
    ended = decisions.after_done(an_attempt(retry=retry, retried=retried), done(pipe.FAILED))
    assert ended == Archive("error", "text")


def test_a_failed_call_is_tried_again_soon_and_a_message_as_asynq_does() -> None:
    call = decisions.after_done(an_attempt(retry=3, retried=1, call=FakeCall()), done(pipe.FAILED))
    message = decisions.after_done(an_attempt(retry=3, retried=1), done(pipe.FAILED))
    assert isinstance(call, Retry)
    assert isinstance(message, Retry)
    assert 1 <= call.delay <= 2
    assert 16 <= message.delay <= 74
    assert (call.counts, call.reason, call.error_text) == (True, "error", "text")


def test_later_waits_as_long_as_the_task_said() -> None:
    ended = decisions.after_done(an_attempt(retry=1), done(pipe.LATER, delay=7.5))
    assert ended == Retry(7.5, True, "later", "text")


def test_later_that_counts_needs_a_retry_and_later_that_does_not_needs_none() -> None:
    spent = an_attempt(retry=1, retried=1)
    assert decisions.after_done(spent, done(pipe.LATER, delay=1.0)) == Archive("later", "text")
    assert decisions.after_done(spent, done(pipe.LATER, delay=1.0, counts=False)) == Retry(
        1.0, False, "later", "text"
    )


@pytest.mark.parametrize("outcome", [pipe.VALUE, pipe.FAILED, pipe.CANCELLED, pipe.LATER])
def test_a_cancelled_task_is_archived_and_never_tried_again(outcome: int) -> None:
    cancelled = an_attempt(retry=9, stop_reason=pipe.CANCELLED)
    assert decisions.after_done(cancelled, done(outcome)) == Archive("cancelled", CANCELLED)
    assert decisions.after_loss(cancelled, "killed", "was killed") == Archive(
        "cancelled", CANCELLED
    )


def test_a_timeout_uses_up_a_retry_or_archives() -> None:
    for ended in (
        decisions.after_done(an_attempt(retry=1), done(pipe.TIMED_OUT)),
        decisions.after_done(an_attempt(retry=1, stop_reason=pipe.TIMED_OUT), done(pipe.FAILED)),
        decisions.after_loss(
            an_attempt(retry=1, stop_reason=pipe.TIMED_OUT), "killed", "was killed"
        ),
    ):
        assert isinstance(ended, Retry)
        assert (ended.counts, ended.reason) == (True, "timeout")
        assert "60" in ended.error_text
    assert isinstance(
        decisions.after_loss(an_attempt(stop_reason=pipe.TIMED_OUT), "killed", "was killed"),
        Archive,
    )


def test_a_lost_process_is_no_retry() -> None:
    assert decisions.after_loss(an_attempt(retry=0), "SIGKILL", "by SIGKILL") == Requeue(
        "lost", "SIGKILL", "by SIGKILL"
    )


def test_a_task_that_must_not_run_twice_is_archived_when_its_process_is_lost() -> None:
    ended = decisions.after_loss(
        an_attempt(retry=9, call=FakeCall(payloads.FAIL_IF_LOST)), "SIGKILL", "by SIGKILL"
    )
    assert isinstance(ended, Archive)
    assert ended.reason == "lost"


def test_a_task_that_kills_its_process_each_time_is_archived_in_the_end() -> None:
    assert isinstance(
        decisions.after_loss(an_attempt(lost=decisions.POISON_LIMIT - 2), "SIGSEGV", "by SIGSEGV"),
        Requeue,
    )
    last = decisions.after_loss(
        an_attempt(lost=decisions.POISON_LIMIT - 1), "SIGSEGV", "by SIGSEGV"
    )
    assert isinstance(last, Archive)
    assert "SIGSEGV" in last.error_text
    assert "3" in last.error_text


@pytest.mark.parametrize(
    ("timeout", "deadline", "ends"),
    [
        (60, 0, 1_060.0),
        (0, 5_000, 5_000.0),
        (60, 5_000, 1_060.0),
        (60, 1_010, 1_010.0),
        (0, 0, 2_800.0),  # Asynq's half hour
        (FAR_TIMEOUT, 0, 0.0),
        (FAR_TIMEOUT, 5_000, 5_000.0),
        (FAR_TIMEOUT + 1, 0, 0.0),
    ],
)
def test_an_attempt_must_end_by_its_timeout_or_its_deadline(
    timeout: int, deadline: int, ends: float
) -> None:
    assert an_attempt(timeout=timeout, deadline=deadline).end_at(1000.0) == ends


@pytest.mark.parametrize(
    ("header", "fields", "timeout", "deadline"),
    [
        ("250|0", {"timeout": 1}, 0.25, 0),
        ("1500|2500750", {"timeout": 2, "deadline": 2501}, 1.5, 2500.75),
        ("0|2500750", {"timeout": 0, "deadline": 2501}, 0, 2500.75),
        ("250|0", {"timeout": 2}, 2, 0),  # another client changed it since
        ("0|2500750", {"timeout": 0, "deadline": 2502}, 0, 2502),
        ("250|0", {"timeout": 0}, 1800, 0),
        ("x|y", {"timeout": 1}, 1, 0),
        ("250", {"timeout": 1}, 1, 0),
        ("9" * 25 + "|0", {"timeout": 1}, 1, 0),
    ],
)
def test_exact_limits_hold_while_the_message_agrees(
    header: str, fields: dict[str, int], timeout: float, deadline: float
) -> None:
    message = an_attempt(headers={"nbq:limits": header}, **fields)
    assert (message.timeout, message.deadline) == (timeout, deadline)
    if "x" not in header and header.count("|") == 1 and len(header) < 20:
        call = an_attempt(call=FakeCall(), **fields)
        call.call.timeouts = payloads.Timeouts(*map(int, header.split("|")))  # type: ignore[union-attr]
        assert (call.timeout, call.deadline) == (timeout, deadline)


def test_the_text_of_a_timeout_says_the_exact_value() -> None:
    assert decisions.timeout_text(an_attempt(timeout=90)) == "timed out after 90s"
    assert decisions.timeout_text(an_attempt(headers={"nbq:limits": "250|0"}, timeout=1)) == (
        "timed out after 0.25s"
    )


def test_our_own_headers_are_not_for_the_task() -> None:
    found = an_attempt(headers={"nbq:limits": "250|0", "a": "b"}, timeout=1)
    assert found.frame(0.0).headers == b'{"a": "b"}'


def test_how_long_a_task_waited_is_counted_from_when_it_was_pending() -> None:
    found = an_attempt()
    assert found.waited_ms(1_500) is None
    found.since_ns = 1_000_000_000
    assert found.waited_ms(1_500) == 500
    assert found.waited_ms(999) == 0


def test_the_failure_of_a_run_has_what_the_broker_needs() -> None:
    found = an_attempt()
    failure = found.failure("error", "text", 1_000_007, 99)
    assert (failure.task_id, failure.fence, failure.type, failure.attempt) == ("i", "Tt", "t", 1)
    assert (failure.started_ms, failure.peak_memory) == (1_000_007, 99)
    assert (failure.reason, failure.error_text) == ("error", "text")
    assert found.failure("error", "text").started_ms == found.fetched_ms


@pytest.mark.parametrize("lost", [0, decisions.POISON_LIMIT])
def test_a_task_that_is_not_known_to_have_begun_is_counted_apart(lost: int) -> None:
    found = an_attempt(lost=lost)
    found.begun = False
    for found.unbegun in range(decisions.UNBEGUN_LIMIT - 1):
        assert decisions.after_loss(found, "worker died", "it died") == Requeue(
            "unbegun", "worker died", "it died"
        )
    found.unbegun += 1
    ended = decisions.after_loss(found, "worker died", "it died")
    assert ended == Archive("lost", "it died; 10 workers died that had just taken it")


def test_a_task_that_must_not_run_twice_is_archived_even_if_it_may_not_have_begun() -> None:
    found = an_attempt(call=FakeCall(payloads.FAIL_IF_LOST))
    found.begun = False
    assert isinstance(decisions.after_loss(found, "worker died", "it died"), Archive)


@pytest.mark.parametrize(
    ("retried", "full"), [(0, 1), (1, 2), (2, 4), (9, 512), (10, 600), (30, 600), (10_000, 600)]
)
def test_a_call_waits_a_second_doubling_to_ten_minutes_less_half_by_chance(
    retried: int, full: float
) -> None:
    assert decisions.call_delay(retried, chance=0.0) == full
    assert decisions.call_delay(retried, chance=0.5) == full * 0.75
    assert all(full / 2 < decisions.call_delay(retried) <= full for _ in range(200))


@pytest.mark.parametrize(
    ("retried", "least", "most"), [(0, 15, 44), (1, 16, 74), (2, 31, 118), (5, 640, 814),
                                   (10, 10_015, 10_334)],
)  # fmt: skip
def test_a_message_waits_as_long_as_asynq_makes_it(retried: int, least: int, most: int) -> None:
    assert decisions.message_delay(retried, chance=0.0) == least
    assert decisions.message_delay(retried, chance=0.999_999) == most
    assert all(least <= decisions.message_delay(retried) <= most for _ in range(200))


def test_tasks_that_failed_together_do_not_come_back_together() -> None:
    assert len({decisions.call_delay(5) for _ in range(50)}) > 40
    assert len({decisions.message_delay(5) for _ in range(200)}) > 20
