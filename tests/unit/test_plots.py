"""Plots of attempts: few artists for any number, and a description in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from nbqueue.errors import UsageError
from nbqueue.views.frames.attempt_frames import OUTCOMES, attempts
from nbqueue.views.plots.distributions import durations
from nbqueue.views.plots.failures import failures
from nbqueue.views.plots.figures import TimeAxis
from nbqueue.views.plots.throughput import cut, latency, throughput
from nbqueue.views.plots.trace_events import trace

T0 = 1_700_000_000_000
PICTURES = {
    "Throughput": throughput,
    "Latency": latency,
    "Durations": durations,
    "Failures": failures,
}


def row(i: int, outcome: str = "completed", **other: str) -> dict[str, str]:
    failed = {} if outcome == "completed" else {"error": f"ValueError: row {i}", "reason": "error"}
    return {
        "task_id": f"t{i}", "type": f"type{i % 20}", "queue": "q", "attempt": "1",
        "worker": f"h:{i % 3}:a", "started_at": str(T0 + i * 70), "host": "h",
        "finished_at": str(T0 + i * 70 + 10 + i % 977), "waited": str(i % 1000),
        "outcome": outcome, "peak_memory": "0",
    } | failed | other  # fmt: skip


def rows(count: int) -> list[dict[str, str]]:
    kinds = (*OUTCOMES, "borrowed")
    return [row(i, kinds[i % 6]) for i in range(count)]


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_any_number_of_attempts_is_drawn_with_few_artists(kind: str, count: int) -> None:
    draw: Callable[..., Any] = PICTURES[kind]
    figure = draw(attempts(rows(count)))
    artists = sum(len(a.collections) + len(a.lines) + len(a.patches) for a in figure.axes)
    assert artists <= 6 * 60 + 20
    data, _ = figure._repr_mimebundle_()
    assert data["text/html"].startswith(f'<img alt="{kind}: ')
    assert data["text/plain"].startswith(f"<{kind}: ")
    assert set(data) == {"text/plain", "text/html", "image/png"}


@pytest.mark.parametrize("kind", PICTURES)
def test_axes_of_ones_own_are_drawn_into(kind: str) -> None:
    from matplotlib.figure import Figure

    mine = Figure()
    axes = mine.add_subplot()
    assert PICTURES[kind](attempts(rows(12)), axes) is mine
    assert len(mine.axes) == 1
    assert axes.get_title(loc="left")


@pytest.mark.parametrize("kind", PICTURES)
def test_what_is_no_frame_of_attempts_is_refused(kind: str) -> None:
    frame = attempts([])[["task_id"]]
    with pytest.raises(UsageError, match=r"q\.attempts"):
        PICTURES[kind](frame)


def test_every_attempt_is_counted_once() -> None:
    frame = attempts(rows(1000))
    axis = TimeAxis(frame)
    bins = cut(axis, axis.values(frame["finished_at"]))
    assert 2 <= bins.count <= 60
    assert bins.of_row.min() >= 0
    assert bins.of_row.max() < bins.count
    [axes] = throughput(frame).axes
    assert sum(patch.get_height() for patch in axes.patches) == 1000


def test_errors_that_differ_in_numbers_only_are_one() -> None:
    figure = failures(attempts([row(1, "retry"), row(2, "archived"), row(3)]))
    texts = [text.get_text() for text in figure.axes[1].texts]
    assert texts == ["2  ValueError: row …"]
    assert "2 attempts of 3 did not complete (66.7%)" in repr(figure)


def test_nothing_that_failed_is_said_so() -> None:
    figure = failures(attempts([row(1)]))
    assert [text.get_text() for text in figure.axes[0].texts] == ["nothing failed"]


def test_a_trace_has_an_event_for_each_attempt() -> None:
    told = json.loads(trace(attempts([row(0), row(1, "lost", waited="", task_id="<b>")])))
    names = [each for each in told["traceEvents"] if each["ph"] == "M"]
    events = [each for each in told["traceEvents"] if each["ph"] == "X"]
    assert {each["args"]["name"] for each in names} == {"worker 0", "worker 1"}
    assert events[0] == {
        "ph": "X", "name": "type0", "cat": "completed", "pid": 1, "tid": 0, "ts": 0, "dur": 10_000,
        "args": {"task_id": "t0", "queue": "q", "attempt": "1", "outcome": "completed",
                 "waited_ms": "0"},
    }  # fmt: skip
    assert events[1]["ts"] == 70_000
    assert events[1]["args"] == {
        "task_id": "<b>", "queue": "q", "attempt": "1", "outcome": "lost", "reason": "error",
        "error": "ValueError: row 1",
    }  # fmt: skip
    assert json.loads(trace(attempts([])))["traceEvents"] == []
