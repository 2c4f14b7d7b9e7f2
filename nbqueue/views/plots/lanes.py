"""Lanes of a timeline: attempts packed into lanes, and the labels of the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nbqueue.views.plots.figures import GRID, INK, label

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_NAMES = 40
"""The greatest number of labels that are readable on an axis."""


@dataclass
class Lanes:
    """The lane of each row (``int64``, from 0 at the top), and labels.

    ``names`` are labels, each at the middle of its lanes; ``borders`` separate workers.
    """

    of_row: Any
    count: int
    names: list[tuple[float, str]] = field(default_factory=list)
    borders: list[float] = field(default_factory=list)
    caption: str = ""

    def label(self, ax: Axes) -> None:
        """Set up the axis of the lanes."""
        ax.set_ylim(max(self.count, 1) - 0.5, -0.5)
        if len(self.names) <= _MOST_NAMES:
            labels = [name for _, name in self.names]
            ax.set_yticks([at for at, _ in self.names], labels, parse_math=False)
        else:
            ax.set_yticks([])
        if len(self.borders) <= _MOST_NAMES:
            for at in self.borders:
                ax.axhline(at, color=GRID, linewidth=0.8, zorder=1)
        ax.set_ylabel(self.caption, fontsize=9, color=INK)


def lanes_by_worker(frame: pd.DataFrame) -> Lanes:
    """Return a lane for each slot of each worker, ordered by first start."""
    import numpy as np

    of_row = np.zeros(len(frame), dtype="int64")
    lanes = Lanes(of_row, 0)
    if not len(frame):
        return lanes
    workers = frame["worker"].astype("string").fillna("unknown worker").to_numpy()
    starts = frame["started_at"].astype("int64").to_numpy()
    ends = frame["finished_at"].astype("int64").to_numpy()
    order = np.argsort(starts, kind="stable")
    tolerance = int(ends.max() - starts.min()) // 1000
    names = list(dict.fromkeys(workers[order]))
    shown = worker_names(names)
    for name in names:
        rows = order[workers[order] == name]
        packed = pack(starts[rows].tolist(), ends[rows].tolist(), tolerance)
        used = max(packed) + 1
        of_row[rows] = np.array(packed) + lanes.count
        lanes.names.append((lanes.count + (used - 1) / 2, label(shown[name])))
        if lanes.count:
            lanes.borders.append(lanes.count - 0.5)
        lanes.count += used
    return lanes


def pack(starts: Sequence[int], ends: Sequence[int], tolerance: int) -> list[int]:
    """Put intervals, sorted by their starts, into the first free lane. Returns the lane of each.

    Times are rounded, and those of failures are measured in another way than those of successes, so
    two attempts of one executor may seem to overlap a little. An overlap of less than ``tolerance``
    and half of the attempt is ignored.
    """
    free_at: list[int] = []
    lanes: list[int] = []
    for start, end in zip(starts, ends, strict=True):
        allowed = start + min(tolerance, (end - start) // 2)
        lane = next((i for i, free in enumerate(free_at) if free <= allowed), len(free_at))
        if lane == len(free_at):
            free_at.append(0)
        free_at[lane] = max(end, free_at[lane])
        lanes.append(lane)
    return lanes


def lanes_by_task(frame: pd.DataFrame) -> Lanes:
    """Return a lane for each task, in the order of their first starts."""
    order = frame.sort_values("started_at", kind="stable")
    ids = list(dict.fromkeys(order["task_id"]))
    numbers = {task_id: lane for lane, task_id in enumerate(ids)}
    of_row = frame["task_id"].map(numbers).to_numpy(dtype="int64")
    lanes = Lanes(of_row, len(ids))
    if len(ids) <= _MOST_NAMES:
        lanes.names = [(lane, label(_short(task_id))) for lane, task_id in enumerate(ids)]
    else:
        lanes.caption = f"{len(ids):,} tasks, in the order of their starts"
    return lanes


def worker_names(ids: list[str]) -> dict[str, str]:
    """Return short names of workers by id. An id is ``host:pid:random``."""
    parts = {each: each.split(":") for each in ids}
    usual = {each: part for each, part in parts.items() if len(part) == 3}
    one_host = len({part[0] for part in usual.values()}) == 1
    shown = {
        each: (f"worker {part[1]}" if one_host else f"{part[0]}:{part[1]}")
        if (part := usual.get(each))
        else each
        for each in ids
    }
    # Workers in containers may have equal hosts and process ids.
    if len(set(shown.values())) < len(ids):
        return {each: each for each in ids}
    return shown


def _short(task_id: str) -> str:
    return task_id if len(task_id) <= 14 else "…" + task_id[-12:]
