"""Frames of attempts, whose rows are text in the store, with fixed columns and dtypes.

Two frames with different categories lose them when concatenated: read several queues at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from nbqueue.durations import format_duration
from nbqueue.views.frames.columns import (
    category,
    chosen_names,
    in_seconds,
    instants,
    ordered_category,
    seconds_of,
    spans,
    texts,
    whole,
)
from nbqueue.wire.decoding import LARGEST, LAST_MS, MOST_ATTEMPTS, shortened, whole_number

if TYPE_CHECKING:
    import pandas as pd

OUTCOMES: Final = ("completed", "retry", "archived", "lost", "interrupted")
"""The possible outcomes of an attempt.

Completed; failed, to be retried; failed for good; lost with its process; interrupted by the
shutdown of its worker. After the last two the task runs again.
"""

ATTEMPT_COLUMNS: Final = (
    "task_id",
    "type",
    "queue",
    "attempt",
    "outcome",
    "reason",
    "started_at",
    "finished_at",
    "waited",
    "duration",
    "worker",
    "host",
    "peak_memory",
    "error",
    "fault",
)

DEFAULT_COLUMNS: Final = ("task_id", "type", "attempt", "outcome", "duration", "error")
"""The columns that fit a screen, with the error in sight."""

_Row = Mapping[str, str]


def chosen_columns(columns: Sequence[Any] | str | None) -> tuple[str, ...]:
    """Return the names of the columns for the argument ``columns`` of `Client.attempts`.

    Raises `UsageError` for an unknown name.
    """
    return chosen_names(columns, DEFAULT_COLUMNS, ATTEMPT_COLUMNS)


def attempts(
    rows: Sequence[_Row],
    *,
    queue: str = "default",
    columns: Sequence[str] = ATTEMPT_COLUMNS,
    more: Mapping[str, Any] | None = None,
    faults: Sequence[str | None] = (),
    seconds: bool = False,
) -> pd.DataFrame:
    """Return finished attempts as a frame with a row each, in the order of their ends.

    ``rows`` are entries of the attempts streams as text (times in Unix milliseconds, durations in
    milliseconds, memory in bytes); ``queue`` is the queue of entries that name none. ``more`` are
    further columns, in the order of ``rows``, and ``faults`` what could not be read for these; with
    ``seconds`` durations are numbers of seconds. Columns and dtypes, also of a frame without rows:

    ============================  =========================  ====================================
    ``task_id reason error``      ``string``                 reason and error of a failure only
    ``fault``                     ``string``                 the part that cannot be read
    ``type queue worker host``    ``category`` of text       categories in alphabetical order
    ``outcome``                   ordered ``category``       all of `OUTCOMES`, in that order
    ``attempt``                   ``Int64``                  from 1
    ``started_at finished_at``    ``datetime64[ns, UTC]``    on the store's clock
    ``waited duration``           ``timedelta64[ns]``        waited is NaT where it is unknown
    ``peak_memory``               ``Int64``                  bytes; missing where it is unknown
    ============================  =========================  ====================================
    """
    import pandas as pd

    made = _columns(rows, queue, list(faults) or [None] * len(rows))
    frame = pd.DataFrame({**made, **(more or {})}).sort_values(
        "finished_at", kind="stable", ignore_index=True
    )
    chosen: pd.DataFrame = frame[[*columns, *(more or ())]]
    return in_seconds(chosen) if seconds else chosen


def _columns(rows: Sequence[_Row], queue: str, faults: list[str | None]) -> dict[str, Any]:
    """Return the columns of attempts; what cannot be read is added to ``faults``."""

    def text(name: str) -> list[str | None]:
        return [row.get(name) or None for row in rows]

    def numbers(name: str, most: int = LAST_MS) -> list[int | None]:
        found = text(name)
        known = [whole_number(value, 0, most) for value in found]
        for i, value in enumerate(found):
            if value is not None and known[i] is None:
                faults[i] = faults[i] or f"{name} is {shortened(value, 40)}"
        return known

    started, finished = instants(numbers("started_at")), instants(numbers("finished_at"))
    made = {
        "task_id": texts(text("task_id")),
        "type": category(text("type")),
        "queue": category([row.get("queue") or queue for row in rows]),
        "attempt": whole(numbers("attempt", MOST_ATTEMPTS)),
        "outcome": ordered_category(text("outcome"), OUTCOMES),
        "reason": texts(text("reason")),
        "started_at": started,
        "finished_at": finished,
        "waited": spans(numbers("waited")),
        "duration": finished - started,
        "worker": category(text("worker")),
        "host": category(text("host")),
        # 0 bytes stand for the unknown memory of an executor that died.
        "peak_memory": whole([value or None for value in numbers("peak_memory", LARGEST)]),
        "error": texts(text("error")),
    }
    made["fault"] = texts(faults)
    return made


def duration_words(column: pd.Series) -> pd.Series:
    """Return durations in words ("1.4s", "2m 05s"), with "–" for missing ones, as ``object``."""
    import pandas as pd

    seconds: list[float] = seconds_of(column).tolist()
    words = [format_duration(each) if each == each else "–" for each in seconds]  # NaN: missing
    return pd.Series(words, index=column.index, dtype="object")
