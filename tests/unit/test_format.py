"""Times, one format for all views: never without a zone."""

from __future__ import annotations

import time
from zoneinfo import ZoneInfo

import pytest

from nbqueue.views.format import zoned_time

MOMENT_MS = 1_782_878_400_000  # 2026-07-01 04:00 UTC
DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        ("UTC", "2026-07-01 04:00:00 UTC"),
        ("Europe/Paris", "2026-07-01 06:00:00 CEST"),
        ("America/Sao_Paulo", "2026-07-01 01:00:00 UTC-03"),
    ],
)
def test_a_time_has_the_name_of_its_zone(zone: str, expected: str) -> None:
    assert zoned_time(MOMENT_MS, ZoneInfo(zone)) == expected


def test_without_a_zone_it_is_local(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert zoned_time(MOMENT_MS) == "2026-07-01 13:00:00 JST"
        assert zoned_time(MOMENT_MS, offset=True) == "2026-07-01 13:00:00 JST (+0900)"
        # 13:00 and 23:00 in Tokyo are on one day.
        assert zoned_time(MOMENT_MS, now_ms=MOMENT_MS + 10 * 3_600_000) == "13:00:00 JST"
        assert zoned_time(MOMENT_MS, now_ms=MOMENT_MS + DAY_MS) == "2026-07-01 13:00:00 JST"
    finally:
        monkeypatch.undo()
        time.tzset()
