"""The number of tasks a worker fetches ahead of its slots."""

from __future__ import annotations

import pytest

from nbqueue.worker.executors.load_estimate import (
    AHEAD,
    MOST_AHEAD,
    MOST_QUEUED,
    QUEUED,
    LoadEstimate,
)


def paced(seconds: float) -> LoadEstimate:
    pace = LoadEstimate()
    for _ in range(300):
        pace.ended(seconds)
    return pace


def test_of_long_tasks_exactly_as_many_as_there_are_slots_are_fetched() -> None:
    for seconds in (0.2, 1.0, 3_600.0):
        assert paced(seconds).ahead(4) == 0
        assert paced(seconds).queued() == 0


def test_before_anything_is_known_little_is_fetched_ahead() -> None:
    assert LoadEstimate().queued() == 0
    assert LoadEstimate().ahead(1) == 0


@pytest.mark.parametrize("seconds", [0.0, 1e-6, 1e-5])
def test_of_tasks_that_take_no_time_many_are_fetched_but_not_without_bound(seconds: float) -> None:
    assert paced(seconds).ahead(8) == MOST_AHEAD
    assert paced(seconds).queued() == MOST_QUEUED


@pytest.mark.parametrize("seconds", [0.0005, 0.001, 0.004])
def test_what_lies_ahead_is_a_bounded_time_of_work(seconds: float) -> None:
    pace = paced(seconds)
    assert pace.seconds == pytest.approx(seconds, rel=0.01)
    assert pace.ahead(4) * pace.seconds <= 4 * AHEAD
    assert pace.queued() * pace.seconds <= QUEUED
    assert pace.ahead(4) > 0


def test_one_long_task_among_short_ones_makes_it_careful_at_once() -> None:
    pace = paced(0.0001)
    assert pace.queued() > 10
    pace.ended(2.0)
    assert pace.queued() == 0
    assert pace.ahead(4) == 0


def test_after_a_long_task_it_needs_many_short_ones_to_grow_bold_again() -> None:
    pace = paced(0.0001)
    pace.ended(2.0)
    pace.ended(0.0001)
    assert pace.queued() == 0
    for _ in range(150):
        pace.ended(0.0001)
    assert pace.queued() > 10
