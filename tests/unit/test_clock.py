"""The store's time, independent of this host's clocks."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from nbqueue.clock import EPOCH, Clock, from_ms, to_ms, to_ms_up


class Host:
    """A host whose clocks a test moves."""

    def __init__(self) -> None:
        self.monotonic, self.wall = 50.0, 1_000.0

    def clock(self) -> Clock:
        return Clock(lambda: self.monotonic, lambda: self.wall)


def test_before_a_measurement_it_is_this_hosts_time() -> None:
    host = Host()
    clock = host.clock()
    host.monotonic += 2.5
    assert clock.now() == 1_002.5
    assert clock.now_ms() == 1_002_500


def test_a_measurement_takes_the_middle_of_the_exchange() -> None:
    host = Host()
    clock = host.clock()
    clock.measured(sent_at=50.0, received_at=50.2, store_time=9_000.0)
    host.monotonic = 50.2
    assert clock.now() == pytest.approx(9_000.1)


def test_a_measurement_counts_if_it_says_more_than_one_that_drifts_away() -> None:
    host = Host()
    clock = host.clock()
    assert clock.age() == float("inf")
    clock.measured(50.0, 50.2, 9_000.0)
    host.monotonic = 150.0
    clock.measured(149.7, 150.0, 5_000.0)  # slower by more than it may have drifted: 10 ms
    assert clock.age() == pytest.approx(99.8)
    clock.measured(149.79, 150.0, 5_000.0)
    assert clock.age() == 0
    assert clock.now() == pytest.approx(5_000.105)


def test_the_clock_of_another_server_counts_at_once() -> None:
    host = Host()
    clock = host.clock()
    clock.measured(50.0, 50.0, 9_000.0)
    clock.restart()
    assert clock.now() == 9_000.0
    assert clock.age() == float("inf")
    clock.measured(50.0, 50.4, 5_000.0)
    assert clock.now() == pytest.approx(4_999.8)


def test_it_goes_on_evenly_when_the_wall_clock_is_set() -> None:
    host = Host()
    clock = host.clock()
    clock.measured(50.0, 50.0, 9_000.0)
    host.wall -= 3_600.0
    host.monotonic += 1.0
    assert clock.now() == pytest.approx(9_001.0)


def test_hosts_with_wrong_clocks_agree_once_they_have_measured() -> None:
    early, late = Host(), Host()
    late.wall += 500.0
    late.monotonic += 7.0
    clocks = early.clock(), late.clock()
    for host, clock in zip((early, late), clocks, strict=True):
        clock.measured(host.monotonic, host.monotonic, 9_000.0)
    assert clocks[0].now_ms() == clocks[1].now_ms()


def test_milliseconds_are_whole_and_rounded_down() -> None:
    host = Host()
    clock = host.clock()
    clock.measured(50.0, 50.0, 1.9999)
    assert clock.now_ms() == 1_999


@pytest.mark.parametrize("ms", [0, 1, 999, 1_700_000_000_123, 4_102_444_800_000])
def test_a_moment_survives_the_way_there_and_back(ms: int) -> None:
    assert to_ms(from_ms(ms)) == ms
    assert from_ms(ms).tzinfo is timezone.utc


def test_a_moment_of_any_time_zone_is_the_same_instant() -> None:
    there = datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))
    assert to_ms(there) == to_ms(datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert to_ms(EPOCH) == 0


def test_a_moment_is_never_early_in_whole_milliseconds() -> None:
    moment = datetime(2030, 1, 1, 0, 0, 0, 449, tzinfo=timezone.utc)
    assert to_ms_up(moment) == to_ms(moment) + 1
    assert to_ms_up(moment.replace(microsecond=3000)) == to_ms(moment) + 3
