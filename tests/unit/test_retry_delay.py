"""When a failed task is tried again."""

from __future__ import annotations

import pytest

from nbqueue.worker.tasks.retry_delay import call_delay, message_delay


@pytest.mark.parametrize(
    ("retried", "full"), [(0, 1), (1, 2), (2, 4), (9, 512), (10, 600), (30, 600), (10_000, 600)]
)
def test_a_call_waits_a_second_doubling_to_ten_minutes_less_half_by_chance(
    retried: int, full: float
) -> None:
    assert call_delay(retried, chance=0.0) == full
    assert call_delay(retried, chance=0.5) == full * 0.75
    assert all(full / 2 < call_delay(retried) <= full for _ in range(200))


@pytest.mark.parametrize(
    ("retried", "least", "most"), [(0, 15, 44), (1, 16, 74), (2, 31, 118), (5, 640, 814),
                                   (10, 10_015, 10_334)],
)  # fmt: skip
def test_a_message_waits_as_long_as_asynq_makes_it(retried: int, least: int, most: int) -> None:
    assert message_delay(retried, chance=0.0) == least
    assert message_delay(retried, chance=0.999_999) == most
    assert all(least <= message_delay(retried) <= most for _ in range(200))


def test_tasks_that_failed_together_do_not_come_back_together() -> None:
    assert len({call_delay(5) for _ in range(50)}) > 40
    assert len({message_delay(5) for _ in range(200)}) > 20
