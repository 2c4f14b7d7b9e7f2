"""``df.nbq``: summaries and styles of frames of tasks and of attempts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from nbqueue.clock import to_ms
from nbqueue.durations import format_duration
from nbqueue.printable import printable
from nbqueue.views.format import INK, badge, zoned_time
from nbqueue.views.frames.columns import seconds_of

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


class FrameViews:
    """A summary and a style of a frame of tasks or of attempts.

    Raises `AttributeError` for other frames, as pandas requires of accessors.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        has_ids = frame.index.name == "task_id" or "task_id" in frame.columns
        if not has_ids:
            raise AttributeError(
                "this is no frame of tasks: .nbq is of frames of q.tasks(), q.attempts(), "
                "g.frame() and g.attempts(), with the ids in the column or the index 'task_id'"
            )
        self._frame = frame

    @property
    def is_of_attempts(self) -> bool:
        """True if the rows are attempts, and not tasks."""
        return "outcome" in self._frame.columns

    def summary(self) -> pd.DataFrame:
        """Return a frame with a row for each type.

        It has the number of tasks in each state, or of attempts with each outcome, and the medians
        of ``waited`` and ``duration``. A state in which no task is has no column.
        """
        frame = self._frame
        word = "outcome" if self.is_of_attempts else "state"
        missing = {"type", word} - set(frame.columns)
        if missing:
            raise AttributeError(f"a summary needs the column {', '.join(sorted(missing))}")
        keys = frame["type"].astype("string")
        known = frame[word].cat.categories
        counts = {
            str(name): (frame[word] == name).groupby(keys).sum().astype("Int64") for name in known
        }
        import pandas as pd

        summed: pd.DataFrame = pd.DataFrame(counts)
        summed = summed.loc[:, (summed > 0).any(axis=0)]
        for name in ("waited", "duration"):
            if name in frame.columns:
                seconds = seconds_of(frame[name]).groupby(keys).median()
                summed[name] = pd.to_timedelta(seconds, unit="s").astype("timedelta64[ns]")
        return summed

    @property
    def style(self) -> Styler:
        """The frame with durations in words, local times, and states as badges.

        The frame itself does not change. Needs jinja2, as every style of pandas does.
        """
        frame = self._frame
        shown: Styler = frame.style.format(_formats(frame), na_rep="–", escape="html")
        shown = shown.format_index(_printable_text, escape="html")
        shown = shown.set_properties(**{"white-space": "nowrap"})  # type: ignore[arg-type]
        for word in ("state", "outcome"):
            if word in frame.columns:
                shown = shown.map(_state_css, subset=[word])
        return shown


def _formats(frame: pd.DataFrame) -> dict[str, Any]:
    formats: dict[str, Any] = {}
    for name, dtype in frame.dtypes.items():
        kind = str(dtype)
        if kind.startswith("timedelta"):
            formats[str(name)] = _span_words
        elif kind.startswith("datetime"):
            formats[str(name)] = _local_words
        elif name in ("state", "outcome"):
            formats[str(name)] = _badge_words
        elif kind == "Int64":
            formats[str(name)] = "{:,}"
        elif name == "progress":
            formats[str(name)] = "{:.0%}"
        else:
            formats[str(name)] = _printable_text
    return formats


def _printable_text(value: Any) -> Any:
    return printable(value, lines=True) if isinstance(value, str) else value


def _span_words(value: Any) -> str:
    return "–" if value != value else format_duration(value.total_seconds())


def _local_words(value: Any) -> str:
    return "–" if value != value else zoned_time(to_ms(value.to_pydatetime(warn=False)))


def _badge_words(value: Any) -> str:
    return f"{badge(value).glyph} {value}" if isinstance(value, str) else "–"


def _state_css(value: Any) -> str:
    if not isinstance(value, str):
        return ""
    return f"color: {INK}; border-left: 3px solid {badge(value).colour}; white-space: nowrap"


@cache
def register(accessor: type[FrameViews]) -> None:
    """Register ``nbq`` on all frames of pandas, once."""
    import pandas as pd

    pd.api.extensions.register_dataframe_accessor("nbq")(accessor)
