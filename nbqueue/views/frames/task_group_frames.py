"""The frame of task groups, with fixed columns and dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from nbqueue.broker.reads.models import TaskGroupRow
from nbqueue.views.frames.columns import category, instants, texts, truths, whole

if TYPE_CHECKING:
    import pandas as pd

TASK_GROUP_COLUMNS: Final = (
    "name",
    "function",
    "queue",
    "total",
    "done",
    "failed",
    "cancelled",
    "started_at",
    "by",
    "complete",
    "estimated",
)


def task_groups(rows: Sequence[TaskGroupRow]) -> pd.DataFrame:
    """Return task groups as a frame indexed by ``id``, in the order of ``rows``.

    ``name`` and ``by`` (``user@host``) are ``string``, ``function`` and ``queue`` ``category``; the
    numbers of tasks ``Int64``; ``started_at`` is ``datetime64[ns, UTC]``; ``complete`` and
    ``estimated`` are ``boolean``.
    """
    import pandas as pd

    columns: dict[str, Any] = {
        "name": texts([row.name for row in rows]),
        "function": category([row.type for row in rows]),
        "queue": category([row.queue for row in rows]),
        "started_at": instants([row.started_ms for row in rows]),
        "by": texts([row.by for row in rows]),
        "complete": truths([row.is_complete for row in rows]),
        "estimated": truths([row.is_estimated for row in rows]),
    }
    for number in ("total", "done", "failed", "cancelled"):
        columns[number] = whole([getattr(row, number) for row in rows])
    index = pd.Index(texts([row.id for row in rows]), name="id")
    frame: pd.DataFrame = pd.DataFrame(columns, index=index, columns=list(TASK_GROUP_COLUMNS))
    return frame
