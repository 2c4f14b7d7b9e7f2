"""Models of dashboards as HTML: their tables, pages, and buttons."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from nbqueue.dashboard.tables import column as units
from nbqueue.dashboard.tables.column import Column
from nbqueue.dashboard.tables.paging import Paging
from nbqueue.dashboard.tables.table_model import Action, TableModel
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h

Cells = Mapping[str, h.Content]
ALL = "all"
SELECTED = "selected"


@dataclass(frozen=True)
class Drawing:
    """How a table is drawn: with buttons that act, or that change the view; and the time."""

    acts: bool
    live: bool
    now_ms: int


def model_table(
    model: TableModel[Any],
    drawing: Drawing,
    *,
    caption: str,
    table: str = "",
    cells: Callable[[Any], Cells] = lambda row: {},
    hidden: Collection[str] = (),
    more: Sequence[Column] = (),
    selects: bool = False,
) -> Markup:
    """Return the rows of a model as a table, with buttons to sort, and to act on each row.

    ``table`` is the name of the model in `Tab.tables`. ``cells`` returns the cells of a row that
    are not drawn by their unit. ``hidden`` names columns without a cell of their own, and ``more``
    are columns for which ``cells`` has all values. With ``selects`` rows have a checkbox.
    """
    columns = [column for column in (*model.columns, *more) if column.name not in hidden]
    ticks = selects and drawing.acts
    has_buttons = drawing.acts and any(model.row_actions(row) for row in model.rows)
    shift = int(ticks)
    heads = [_head(model, column, table, drawing) for column in columns]
    if ticks:
        heads.insert(0, _page_tick(model, table))
    if has_buttons:
        heads.append("")
    rows = []
    for row in model.rows:
        drawn = cells(row)
        line = [
            drawn[column.name] if column.name in drawn else _cell(row, column, drawing.now_ms)
            for column in columns
        ]
        if ticks:
            line.insert(0, _tick(model, row, table))
        if has_buttons:
            buttons = action_buttons(model.row_actions(row), table, row.key)
            line.append(h.row(*buttons, gap=4, wraps=False))
        rows.append(line)
    return h.table(
        heads,
        rows,
        caption=caption,
        numeric=[i + shift for i, each in enumerate(columns) if each.unit in units.NUMBERS],
        keys=[row.key for row in model.rows],
        titles={
            i + shift: each.title
            for i, each in enumerate(columns)
            if drawing.live and each.unit in units.NUMBERS | {units.MOMENT}
        },
        sorts={
            i + shift: order for i, each in enumerate(columns) if (order := _order(model, each))
        },
    )


def _order(model: TableModel[Any], column: Column) -> str:
    if model.sorted_by != column.name:
        return ""
    return "descending" if model.is_descending else "ascending"


def _head(model: TableModel[Any], column: Column, table: str, drawing: Drawing) -> h.Content:
    if not drawing.live or not column.can_sort:
        return column.title
    title, args = column.title or column.name, {"table": table, "column": column.name}
    return controls.sort_button(title, _order(model, column), args=args)


def _page_tick(model: TableModel[Any], table: str) -> Markup:
    is_on = bool(model.rows) and all(row.key in model.selected for row in model.rows)
    label, args = "Select this page", {"table": table}
    return controls.checkbox(is_on, "select-page", label=label, args=args)


def _tick(model: TableModel[Any], row: Any, table: str) -> Markup:
    name = getattr(row, "id", row.key)
    args = {"table": table, "id": row.key}
    return controls.checkbox(row.key in model.selected, "select", label=f"Select {name}", args=args)


def _cell(row: Any, column: Column, now_ms: int) -> h.Content:
    """Return a value as its unit is shown."""
    value = getattr(row, column.name)
    if value is None:
        return h.pale("–")
    return as_shown(value, column.unit, now_ms)


def as_shown(value: Any, unit: str, now_ms: int) -> h.Content:
    """Return a value with a unit as it is shown."""
    show: dict[str, Callable[[], h.Content]] = {
        units.STATE: lambda: h.badge(value),
        units.COUNT: lambda: f"{value:,}",
        units.MOMENT: lambda: h.unbroken(h.time(value, now_ms)),
        units.SECONDS: lambda: fmt.span(value),
        units.BYTES: lambda: fmt.size(value),
        units.SHARE: lambda: fmt.share(value),
    }
    return show[unit]() if unit in show else fmt.shortened(str(value), 80)


def action_buttons(actions: Iterable[Action], table: str, on: str) -> list[Markup]:
    """Return buttons for actions on one row by its key, on `SELECTED` rows, or on `ALL`."""
    return [
        controls.button(
            action.word,
            "act",
            label=action.label,
            args={"table": table, "what": action.name, "on": on},
            ask=action.question,
            disabled=not action.is_enabled,
        )
        for action in actions
    ]


def pager(paging: Paging, shown: int, *, table: str = "") -> list[Markup]:
    """Return buttons to the pages around the current one, which has ``shown`` rows."""
    if not paging.is_needed(shown):
        return []
    is_first, is_last = paging.number == 0, not paging.has_more(shown)
    back, forward = {"table": table, "by": -1}, {"table": table, "by": 1}
    return [
        controls.button("‹ Before", "page", label="The page before", args=back, disabled=is_first),
        controls.button("Next ›", "page", label="The next page", args=forward, disabled=is_last),
    ]


def foot(model: TableModel[Any], *, live: bool, table: str = "") -> Markup:
    """Return buttons to other pages of a table and to save it, in a live panel."""
    if not live or not model.rows:
        return h.NOTHING
    label = f"Save the {model.noun}s that are listed, on all pages, as CSV"
    save = controls.button("CSV", "csv", label=label, args={"table": table})
    return h.row(*pager(model.paging, len(model.rows), table=table), save, gap=6)


def with_page(caption: str, model: TableModel[Any]) -> str:
    """Return the caption of a table, with the range of rows unless all are shown."""
    rows = model.paging.text(len(model.rows))
    caption = f"{caption}: {rows}" if rows else caption
    return f"{caption} ({model.note})" if model.note else caption


def queue_choice(
    queue: str, options: Sequence[tuple[str, str]], action: str, *, label: str, most: int = 100
) -> Markup:
    """Return a control to choose a queue from (name, text): a list, or a field for many."""
    if len(options) <= most:
        return controls.choice(queue, options, action, label=label)
    return controls.field(queue, action, label=label, placeholder="name of a queue")


def task_name(queue: str, task_id: str, *, live: bool) -> Markup:
    """Return the id of a task: a link to the task in a live panel."""
    if not live:
        return h.code(task_id)
    place = {"queue": queue, "id": task_id}
    return controls.link(task_id, "task", label=f"Show the task {task_id}", args=place)
