"""Reports of tasks, from the task to the frame."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nbqueue
from nbqueue.calls.functions import load_value
from nbqueue.errors import CannotPickle, UsageError
from nbqueue.executor import pipe
from nbqueue.executor.output import task_reports
from nbqueue.executor.output.task_reports import Reports, reported_result
from nbqueue.executor.pipe import Frames, TaskFrame


class Sent:
    """The sent reports with their times."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.times: list[float] = []
        self.changed = threading.Condition()

    def __call__(self, data: bytes) -> None:
        with self.changed:
            self.frames += frames_of(data)
            self.times.append(time.monotonic())
            self.changed.notify_all()

    def wait_for(self, body: bytes) -> None:
        def there() -> bool:
            return bool(self.frames) and self.frames[-1][2] == body

        with self.changed:
            assert self.changed.wait_for(there, 20)


def frames_of(data: bytes) -> list[tuple[int, int, bytes]]:
    found = list(Frames().feed(data))
    assert all(kind == pipe.REPORT for kind, _ in found)
    return [pipe.unpack_report(body) for _, body in found]


def frame(number: int, *, is_message: bool = False, json_result: bool = False) -> TaskFrame:
    return TaskFrame(
        number, bytes(16), is_message, 1, 0, 0, 0.0, "i", "q", "fit", b"", b"", json_result
    )


@given(st.booleans(), st.booleans())
def test_a_task_frame_says_what_its_result_is(is_message: bool, json_result: bool) -> None:
    sent = frame(7, is_message=is_message, json_result=json_result)
    [(_, body)] = Frames().feed(pipe.task_head(sent) + sent.arguments)
    assert pipe.unpack_task(body) == sent


def test_outside_of_a_task_it_does_nothing() -> None:
    assert nbqueue.report(result=object()) is None  # type: ignore[func-returns-value]
    assert reported_result() == b""


def test_the_latest_is_sent_and_at_most_ten_a_second() -> None:
    sent = Sent()
    mine = Reports(sent)
    mine.begin(frame(7, is_message=True))
    for i in range(10_000):
        nbqueue.report(result=i)
    sent.wait_for(b"9999")
    assert {(number, what) for number, what, _ in sent.frames} == {(7, pipe.RESULT_REPORT)}
    pauses = [b - a for a, b in zip(sent.times, sent.times[1:], strict=False)]
    assert all(pause > 0.09 for pause in pauses)
    assert mine.end(7, keep=False) == b""


def test_the_end_keeps_the_latest_of_a_failure_and_forgets_that_of_a_success() -> None:
    sent = Sent()
    mine = Reports(sent)
    for number, keep in ((1, True), (2, False)):
        mine.begin(frame(number, is_message=True))
        nbqueue.report(result=b"first")
        nbqueue.report(result=b"last")
        assert reported_result() == b"last"
        data = mine.end(number, keep=keep)
        assert frames_of(data) == ([(number, pipe.RESULT_REPORT, b"last")] if keep else [])
        nbqueue.report(result=b"late")
        assert reported_result() == b""
    assert mine.end(3, keep=True) == b""


def test_a_result_is_reported_in_the_form_of_the_final_one() -> None:
    mine = Reports(lambda data: None)
    value = {"a": (1, 2)}
    for number, (how, load) in enumerate(
        [({}, load_value), ({"json_result": True}, bytes), ({"is_message": True}, bytes)]
    ):
        mine.begin(frame(number, **how))  # type: ignore[arg-type]
        nbqueue.report(result=value)
        found: Any = load(reported_result())
        assert found == (value if not how else b'{"a":[1,2]}')
        mine.end(number, keep=False)


def test_what_cannot_be_sent_is_an_error_where_it_was_reported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = Reports(lambda data: None)
    mine.begin(frame(1))
    with pytest.raises(CannotPickle):
        nbqueue.report(result=threading.Lock())
    monkeypatch.setattr(task_reports, "LARGEST", 10)
    with pytest.raises(UsageError, match="too large"):
        nbqueue.report(result=b"x" * 100)
    mine.begin(frame(2, json_result=True))
    with pytest.raises(UsageError, match="the result of fit cannot be written as JSON"):
        nbqueue.report(result={1, 2})
    mine.end(1, keep=False)
    mine.end(2, keep=False)
