"""The pace of a queue: what ended in each step of time."""

from __future__ import annotations

from nbqueue.dashboard.measures.queue_pace import STEP_SECONDS, QueuePace


def test_each_step_counts_what_ended_in_it() -> None:
    pace = QueuePace()
    for step, (processed, failed) in enumerate([(100, 10), (104, 10), (110, 13)]):
        pace.add(step * STEP_SECONDS, processed, failed)
    assert list(pace.done) == [4, 6]
    assert list(pace.failed) == [0, 3]
    assert pace.per_second == 6 / STEP_SECONDS


def test_readings_within_a_step_change_nothing() -> None:
    pace = QueuePace()
    pace.add(0.0, 5, 0)
    pace.add(STEP_SECONDS / 2, 50, 0)
    assert not pace.done
    pace.add(STEP_SECONDS, 7, 0)
    assert list(pace.done) == [2]


def test_counters_that_were_reset_are_no_negative_pace() -> None:
    pace = QueuePace()
    pace.add(0.0, 500, 5)
    pace.add(STEP_SECONDS, 3, 0)
    assert (list(pace.done), list(pace.failed), pace.per_second) == ([0], [0], 0.0)
