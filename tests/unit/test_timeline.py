"""Timelines: positions of bars, and drawing of any frame of attempts."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("matplotlib")

from nbqueue.errors import UsageError
from nbqueue.views.frames.attempt_frames import OUTCOMES, attempts
from nbqueue.views.plots.lanes import lanes_by_task, lanes_by_worker, worker_names
from nbqueue.views.plots.timeline import PlotMissing, timeline

T0 = 1_700_000_000_000


def row(
    start: int, end: int, worker: str = "h:1:a", outcome: str = "completed", **other: str
) -> Any:
    return {
        "task_id": f"t{start}",
        "type": "fit",
        "attempt": "1",
        "started_at": str(T0 + start),
        "finished_at": str(T0 + end),
        "waited": str(start),
        "worker": worker,
        "host": "h",
        "outcome": outcome,
        "peak_memory": "0",
    } | other


def test_attempts_that_overlap_get_lanes_of_their_own() -> None:
    frame = attempts([row(0, 1000), row(500, 2000), row(1100, 1500), row(0, 900, "h:2:b")])
    lanes = lanes_by_worker(frame)
    assert lanes.count == 3
    at = dict(zip(zip(frame["task_id"], frame["worker"], strict=True), lanes.of_row, strict=True))
    one = at["t0", "h:1:a"]
    assert at["t1100", "h:1:a"] == one
    assert at["t500", "h:1:a"] == one + 1
    assert at["t0", "h:2:b"] not in (one, one + 1)


def test_rounding_alone_opens_no_lane() -> None:
    frame = attempts([row(0, 10_003), row(10_000, 20_001), row(20_000, 30_000)])
    assert lanes_by_worker(frame).count == 1


def test_all_attempts_of_a_task_share_its_lane() -> None:
    again = row(50, 60, outcome="lost", task_id="t0")
    lanes = lanes_by_task(attempts([row(0, 40, outcome="retry"), again, row(10, 90)]))
    assert list(lanes.of_row) == [0, 0, 1]


def test_worker_names_are_short_unless_that_makes_two_alike() -> None:
    assert worker_names(["h:1:a", "h:2:b"]) == {"h:1:a": "worker 1", "h:2:b": "worker 2"}
    assert worker_names(["g:1:a", "h:1:b"]) == {"g:1:a": "g:1", "h:1:b": "h:1"}
    assert worker_names(["h:1:a", "h:1:b"]) == {"h:1:a": "h:1:a", "h:1:b": "h:1:b"}
    assert worker_names(["other"]) == {"other": "other"}


@pytest.mark.parametrize("by", ["worker", "task"])
@pytest.mark.parametrize("count", [0, 1, 10_000])
def test_any_number_of_attempts_is_drawn_with_few_artists(by: Any, count: int) -> None:
    kinds = (*OUTCOMES, "borrowed")
    rows = [row(i * 70, i * 70 + 60, f"h:{i % 4}:a", kinds[i % 6]) for i in range(count)]
    figure: Any = timeline(attempts(rows), by=by)
    assert len(figure.axes[0].collections) <= 2 * len(kinds) + 1
    data, metadata = figure._repr_mimebundle_()
    assert set(data) == {"text/plain", "text/html", "image/png"}
    assert data["text/html"].startswith('<img alt="Timeline: ')
    assert metadata["image/png"]["width"] == 900


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "seconds since"), (1000, "minutes since"), (20_000, "local time")],
)
def test_the_time_axis_names_its_unit_and_zone(seconds: int, words: str) -> None:
    figure = timeline(attempts([row(0, seconds * 1000)]))
    assert words in figure.axes[0].get_xlabel()


def test_axes_of_ones_own_are_drawn_into() -> None:
    from matplotlib.figure import Figure

    mine = Figure()
    axes = mine.add_subplot()
    assert timeline(attempts([row(0, 10)]), ax=axes, title="mine") is mine
    assert axes.get_title(loc="left") == "mine"


def test_what_is_no_frame_of_attempts_is_refused() -> None:
    with pytest.raises(UsageError, match="started_at"):
        timeline(attempts([]).drop(columns="started_at"))
    with pytest.raises(UsageError, match="'worker' or 'task'"):
        timeline(attempts([]), by="host")  # type: ignore[arg-type]


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(PlotMissing, match="pip install matplotlib"):
        timeline(attempts([]))
