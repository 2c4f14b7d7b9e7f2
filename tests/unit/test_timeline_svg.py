"""The timeline of the panel: small however many attempts there are, and nothing is lost in it."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

from nbqueue.views.format import badge
from nbqueue.views.plots.timeline_svg import timeline_svg


class Attempt(NamedTuple):
    worker: str
    outcome: str
    started_ms: int
    finished_ms: int


NOW = 1_790_000_000_000


def paths(html: str) -> dict[str, int]:
    """Return the number of bars by colour."""
    found = re.findall(r'<path d="([^"]*)" fill="(#\w+)"', html)
    return {colour: commands.count("M") for commands, colour in found}


def test_each_worker_has_a_lane_for_each_slot_and_each_attempt_a_bar() -> None:
    attempts = [
        Attempt("host:1:a", "completed", NOW, NOW + 900),
        Attempt("host:1:a", "completed", NOW + 10, NOW + 800),
        Attempt("host:2:b", "archived", NOW + 2_000, NOW + 3_000),
    ]
    html = timeline_svg(attempts, label="3 attempts")
    assert paths(html) == {badge("completed").colour: 2, badge("archived").colour: 1}
    assert "worker 1" in html
    assert "worker 2" in html
    assert 'aria-label="3 attempts"' in html
    assert "height:54px" in html  # three lanes


def test_one_failure_among_many_attempts_is_drawn_last_and_wide_enough() -> None:
    attempts = [
        Attempt(f"host:{i % 4}:a", "completed", NOW + 10 * i, NOW + 10 * i + 40)
        for i in range(20_000)
    ]
    attempts.append(Attempt("host:1:a", "archived", NOW + 77_777, NOW + 77_778))
    html = timeline_svg(attempts, label="many")
    assert len(html) < 100_000
    *_, last = re.findall(r'<path d="([^"]*)" fill="(#\w+)"', html)
    assert last[1] == badge("archived").colour
    [width] = re.findall(r"h(\d+\.\d)v", last[0])
    assert float(width) >= 2.0


@pytest.mark.parametrize("span_ms", [0, 1, 300, 5_000, 3_600_000, 86_400_000 * 7])
def test_the_axis_has_a_few_labels_for_any_length(span_ms: int) -> None:
    html = timeline_svg([Attempt("w", "completed", NOW, NOW + span_ms)], label="one")
    assert 1 <= len(re.findall(r"left:max\(26px,[\d.]+%\)", html)) <= 8


def test_names_of_others_are_escaped() -> None:
    html = timeline_svg([Attempt("<b>", "<i>", NOW, NOW + 1)], label='"<u>"')
    assert not re.search("<b>|<i>|<u>", html)
