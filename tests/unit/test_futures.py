"""Futures, groups and waits, as far as they need no store."""

from __future__ import annotations

import os
import struct
import threading
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nbqueue.broker.commands.changed_tasks import MOST_LOOKED_AT
from nbqueue.calls import payloads
from nbqueue.calls.exceptions import dump_exception
from nbqueue.calls.functions import dump_value
from nbqueue.calls.keys.signing import Keyring
from nbqueue.client.completion import error_pauses
from nbqueue.client.completion.awaited_tasks import AwaitedTasks
from nbqueue.client.completion.error_pauses import ErrorPauses
from nbqueue.client.completion.poll_schedule import SLICE, PollSchedule
from nbqueue.client.futures.waits import left_of, seconds_of, wait_for
from nbqueue.client.results.outcome import DELETED, Outcome, RawOutcome, broken, read_announcement
from nbqueue.errors import (
    InvalidDuration,
    NbqueueError,
    NoEmbeddedServer,
    SignatureError,
    StoreDenied,
    StoreUnreachable,
    TaskCancelled,
    TaskFailed,
    TaskNotFound,
)
from nbqueue.wire.keys import queue_keys

KEYS = Keyring([os.urandom(32)])
PREFIX = "012345"
CHANNEL = queue_keys("default").end_channel(PREFIX)


def value_of(value: Any, task_id: str = "t") -> bytes:
    return KEYS.sign_result(payloads.pack_result(payloads.VALUE, dump_value(value)), task_id)


def error_of(error: BaseException, task_id: str = "t") -> bytes:
    body = payloads.pack_result(payloads.EXCEPTION, dump_exception(error))
    return KEYS.sign_result(body, task_id)


def outcome(state: str, body: bytes = b"", text: str = "", *, is_call: bool = True) -> Outcome:
    return Outcome("t", RawOutcome(state, body, text), KEYS, is_call)


class TestOutcome:
    def test_value(self) -> None:
        found = outcome("completed", value_of([1, 2]))
        assert not found.is_failed
        assert found.load() == ([1, 2], None)
        assert found.load()[0] is found.load()[0]

    def test_exception(self) -> None:
        found = outcome("archived", error_of(ValueError("no")))
        assert (found.is_failed, found.is_cancelled) == (True, False)
        error = found.load()[1]
        assert isinstance(error, ValueError)
        assert found.load()[1] is error

    def test_cancelled_is_known_at_once(self) -> None:
        found = outcome("archived", error_of(TaskCancelled("by hand")))
        assert found.is_cancelled
        error = found.load()[1]
        assert isinstance(error, TaskCancelled)
        assert error.task_id == "t"

    def test_an_error_that_only_speaks_of_it_is_no_cancellation(self) -> None:
        assert not outcome("archived", error_of(ValueError("TaskCancelled"))).is_cancelled
        assert not outcome("archived", b"TaskCancelled").is_cancelled

    def test_deleted_with_its_result_is_completed(self) -> None:
        found = outcome(DELETED, value_of(1))
        assert (found.state, found.load()) == ("completed", (1, None))

    def test_deleted_without_one_is_not_found(self) -> None:
        found = outcome(DELETED)
        assert (found.state, type(found.load()[1])) == ("deleted", TaskNotFound)

    def test_archived_without_an_exception_has_its_text(self) -> None:
        assert str(outcome("archived", text="no handler").load()[1]) == "no handler"
        assert "by hand" in str(outcome("archived").load()[1])

    @pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
    def test_what_would_end_this_program_is_wrapped(self, error: BaseException) -> None:
        found = outcome("archived", error_of(error)).load()[1]
        assert isinstance(found, TaskFailed)
        assert found.__cause__ is not None

    @pytest.mark.parametrize("state", ["completed", "archived", DELETED])
    def test_only_what_is_signed_for_this_task_is_loaded(self, state: str) -> None:
        for body in (value_of(1, "other"), error_of(ValueError(), "other"), b"raw", b"\x00nbr"):
            error = outcome(state, body).load()[1]
            assert isinstance(error, SignatureError)

    def test_values_and_exceptions_do_not_stand_in_for_each_other(self) -> None:
        assert isinstance(outcome("completed", error_of(ValueError())).load()[1], SignatureError)
        assert isinstance(outcome("archived", value_of(1)).load()[1], SignatureError)

    def test_messages_give_bytes(self) -> None:
        assert outcome("completed", b"sent", is_call=False).load() == (b"sent", None)
        assert outcome("completed", b"", is_call=False).load() == (None, None)
        # Data in the format of nbqueue's results must be a valid one.
        forged = payloads.pack_result(payloads.VALUE, b"pickle")
        error = outcome("completed", forged, is_call=False).load()[1]
        assert isinstance(error, SignatureError)

    def test_a_fault_of_ours_says_how_to_go_on(self) -> None:
        found = Outcome("t", broken("t", KeyError("x")), KEYS)
        error = found.load()[1]
        assert isinstance(error, NbqueueError)
        assert "q.get('t')" in str(error)
        assert (found.is_failed, found.state) == (True, "")


def announced(task_id: str, letter: bytes, body: bytes) -> bytes:
    raw = task_id.encode()
    return struct.pack(">HcI", len(raw), letter, len(body)) + raw + body


class TestAnnouncements:
    @given(st.lists(st.tuples(st.text(min_size=1), st.sampled_from(b"cad"), st.binary(min_size=1))))
    def test_ends_are_read_in_order(self, ends: list[tuple[str, int, bytes]]) -> None:
        names = {ord("c"): "completed", ord("a"): "archived", ord("d"): "deleted"}
        data = b"".join(announced(i, bytes((letter,)), body) for i, letter, body in ends)
        found, unread = read_announcement(data)
        assert found == [(i, RawOutcome(names[letter], body)) for i, letter, body in ends]
        assert unread == []

    def test_what_is_not_said_is_to_be_read(self) -> None:
        data = announced("1", b"C", b"") + announced("2", b"A", b"") + announced("3", b"a", b"")
        data += announced("4", b"d", b"") + announced("5", b"c", b"")
        found, unread = read_announcement(data)
        assert unread == ["1", "2", "3"]
        assert found == [("4", RawOutcome("deleted")), ("5", RawOutcome("completed"))]


class Listening:
    """A sink that notes nothing."""

    def _take(self, ends: Any) -> None: ...
    def _notice(self, task_id: str, state: str) -> None: ...


def looks_until(
    tasks: AwaitedTasks, end: float, since: float = 0.0
) -> list[tuple[float, list[str]]]:
    """Return the times of looks, and the tasks of each."""
    looks, now = [], since
    while now < end:
        found = tasks.next_look(now)
        if found is None:
            now += tasks.next_look_in(now) or 1
        else:
            looks.append((now, [task_id for _, task_id in found]))
    return looks


class TestAwaitedTasks:
    def test_what_is_only_expected_is_not_looked_at(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.expect("default", ["a"], Listening())
        tasks.look_at_all_soon(0)
        assert tasks.next_look(100) is None
        assert tasks.note_written("default", ["a"], 100)
        tasks.look_at_all_soon(100)
        assert tasks.next_look(100) == {("default", "a"): ""}

    def test_own_tasks_are_looked_at_every_ten_seconds_and_others_every_second(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.expect("default", ["a"], Listening())
        tasks.note_written("default", ["a"], 0)
        assert tasks.next_look_in(0) == pytest.approx(10, abs=0.01)
        tasks.attach("default", "guest", Listening(), 0)
        assert tasks.next_look_in(0) == 0.0  # it may have ended already
        seen = looks_until(tasks, 20.5)
        assert [round(at) for at, ids in seen if "a" in ids] == [10, 20]
        assert len([at for at, ids in seen if "guest" in ids]) in (20, 21)

    def test_a_message_is_looked_at_soon_and_then_every_second(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.expect("default", ["a"], Listening())
        tasks.note_written("default", ["a"], 0, is_message=True)
        looks = [at for at, _ in looks_until(tasks, 20.5)]
        assert looks[0] == pytest.approx(0.25, abs=0.01)
        assert len(looks) == 21

    @pytest.mark.parametrize("count", [1, 100, 5_000])
    def test_one_look_a_second_is_for_all(self, count: int) -> None:
        tasks = AwaitedTasks(PREFIX)
        seen: dict[str, int] = {}
        for n in range(count):
            queue, at = f"q{n % 3}", n * 0.0007
            tasks.expect(queue, [f"{n}"], Listening())
            tasks.note_written(queue, [f"{n}"], at, is_message=True)
        for number, (_, ids) in enumerate(looks_until(tasks, 20.0, since=4.0)):
            seen |= dict.fromkeys(ids, number)
        assert number <= 17
        assert min(seen.values()) >= number - 2
        assert len(seen) == count

    def test_looking_at_many_is_spread(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        ids = [f"{n}" for n in range(10 * SLICE)]
        tasks.expect("default", ids, Listening())
        tasks.note_written("default", ids, 0)
        seen, now = 0, 11.0
        while now < 12.0:
            seen += len(tasks.next_look(now) or ())
            now += 0.01
        assert SLICE < seen <= 2 * MOST_LOOKED_AT

    def test_what_ended_is_not_looked_at_again(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.expect("default", ["a", "b"], Listening())
        tasks.note_written("default", ["a", "b"], 0)
        assert tasks.pop("default", "a") is not None
        assert tasks.pop("default", "a") is None
        assert tasks.next_look(11) == {("default", "b"): ""}
        assert tasks.note_state("default", "b", "active") is not None
        assert tasks.next_look(22) == {("default", "b"): "active"}
        tasks.pop("default", "b")
        assert tasks.note_state("default", "b", "active") is None
        assert tasks.next_look(33) is None
        assert tasks.next_look_in(33) is None
        assert not tasks

    def test_channels_of_others_are_followed_while_needed(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.open_channel("default", CHANNEL)
        for task_id in ("abcdefghij-1", "abcdefghij-2"):
            tasks.attach("default", task_id, Listening(), 0)
        other = queue_keys("default").end_channel("abcdefghij")
        assert set(tasks.channels) == {CHANNEL, other}
        assert tasks.own_count == 0
        tasks.pop("default", "abcdefghij-1")
        assert tasks.queue_of.get(other) == "default"
        tasks.pop("default", "abcdefghij-2")
        assert set(tasks.channels) == {CHANNEL}
        assert tasks.queue_of.get(other) is None

    def test_own_channels_are_kept(self) -> None:
        tasks = AwaitedTasks(PREFIX)
        tasks.open_channel("default", CHANNEL)
        tasks.expect("default", [PREFIX + "1"], Listening())
        tasks.pop("default", PREFIX + "1")
        assert set(tasks.channels) == {CHANNEL}


class TestPollSchedule:
    @given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 2500)), max_size=8))
    def test_nothing_is_lost_and_no_slice_is_too_long(self, adds: list[tuple[str, int]]) -> None:
        schedule, expected, now = PollSchedule(10), [], 0.0
        for queue, count in adds:
            ids = [f"{len(expected) + n}" for n in range(count)]
            expected += [(queue, i) for i in ids]
            schedule.add(queue, ids, now)
            now += 0.3
        assert schedule.take(9.9) is None or now > 0
        found = []
        while (slice_ := schedule.take(1000)) is not None:
            assert 0 < len(slice_[1]) <= SLICE
            found += [(slice_[0], i) for i in slice_[1]]
        assert found == expected or sorted(found) == sorted(expected)

    def test_single_ones_share_a_slice(self) -> None:
        schedule = PollSchedule(10)
        for n in range(50):
            schedule.add("a", [str(n)], n / 100)
        assert len(schedule.take_all()) == 1
        assert schedule.next_at is None


class TestErrorPauses:
    def test_pauses_double_and_begin_anew(self) -> None:
        pauses = ErrorPauses("here")
        longest = [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
        for most in longest:
            assert most / 2 <= pauses.pause() <= most
        pauses.note_success()
        assert pauses.pause() <= 0.05

    def test_a_store_that_is_away_is_waited_for_and_said_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        pauses = ErrorPauses("here")
        for _ in range(20):
            assert not pauses.note_unreachable(StoreUnreachable("nobody answers"))
            pauses.pause()
        assert [r.getMessage() for r in caplog.records] == [
            "nobody answers; waiting for it, and for tasks, goes on"
        ]
        pauses.note_success()
        assert caplog.records[-1].getMessage() == "the store here is back"

    def test_only_a_store_without_a_program_is_given_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pauses = ErrorPauses("here")
        assert not pauses.note_unreachable(NoEmbeddedServer("none"))
        monkeypatch.setattr(error_pauses, "_NO_SERVER_SECONDS", -1.0)
        assert pauses.note_unreachable(NoEmbeddedServer("none"))
        assert not pauses.note_unreachable(StoreUnreachable("away"))
        assert not pauses.note_unreachable(StoreDenied("no"))

    def test_faults_are_given_up_on(self) -> None:
        pauses = ErrorPauses("here")
        assert [pauses.note_fault() for _ in range(5)] == [False] * 4 + [True]


class TestWaiting:
    def test_time_outs_are_durations(self) -> None:
        assert [seconds_of(t) for t in (None, "1m", 3, 0)] == [None, 60, 3, 0]
        # What is left of a time that is over is negative, as other futures take it.
        assert [left_of(t) for t in (None, "1m", 3, -5, -0.1)] == [None, 60, 3, 0, 0]
        for wrong in ("soon", "-1", float("nan"), -float("inf"), 1e300, False, timedelta(-1)):
            for read in (seconds_of, left_of):
                with pytest.raises(InvalidDuration, match="timeout="):
                    read(wrong)
        with pytest.raises(InvalidDuration, match="timeout=-1 must be"):
            seconds_of(-1)

    def test_waits_in_slices_are_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("nbqueue.client.futures.waits._LONGEST_WAIT", 0.005)
        condition, facts = threading.Condition(), []

        def tell() -> None:
            with condition:
                facts.append(1)
                condition.notify_all()

        with condition:
            assert not wait_for(condition, lambda: bool(facts), 0.02)
            timer = threading.Timer(0.02, tell)
            timer.start()
            assert wait_for(condition, lambda: bool(facts), None)
        timer.join()
