"""The tab of the task groups: how far they are, who started them, and how to get them back."""

from __future__ import annotations

from markupsafe import Markup

from nbqueue.dashboard.group_list import GroupLine, GroupList
from nbqueue.notebook.panel.model_table import Cells, Drawing, foot, model_table, with_page
from nbqueue.notebook.panel.tab import Context, Tab
from nbqueue.views import controls
from nbqueue.views import format as fmt
from nbqueue.views import html as h


class GroupsTab(Tab):
    """The groups that maps made, the newest first, a page at a time."""

    name = "Groups"
    rest = GroupList.rest_seconds

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._groups = GroupList(context)
        self.tables = {"": self._groups}

    def body(self, acts: bool, live: bool) -> Markup:
        groups, chooser = self._groups, h.NOTHING
        if live and (groups.is_filtered or groups.rows):
            text, args = groups.filters["text"], {"name": "text"}
            label = "Part of a name, a function or an owner"
            chooser = h.row(
                controls.field(
                    text, "filter", label=label, placeholder="filter", args=args, as_typed=True
                )
            )
        if not groups.rows:
            none = "no group fits" if groups.is_filtered else "no group: q.map(fn, …) makes one"
            return chooser + h.row(h.pale(none))
        caption = with_page(fmt.count(groups.paging.total or 0, "group"), groups)
        table = model_table(
            groups,
            Drawing(acts, live, self.context.now_ms),
            caption=f"{caption}; {groups.note}" if groups.note else caption,
            cells=_cells,
            hidden=("total", "failed", "cancelled"),
        )
        first = groups.rows[0].name if groups.rows[0].name != groups.rows[0].function else None
        call = f"q.group({first or groups.rows[0].id!r})"
        way = h.row(h.code(call), h.pale("in a cell returns the group, with its results"), gap=4)
        return chooser + table + foot(groups, live=live) + way


def _cells(row: GroupLine) -> Cells:
    share = [(word, getattr(row, word)) for word in ("failed", "cancelled")]
    rest = row.done - row.failed - row.cancelled
    bar = h.stacked_bar([("completed", rest), *share], row.total, label=f"{row.name}: tasks ended")
    about = "about " if row.is_estimated else ""
    text = f"{about}{row.done:,} of {row.total:,}"
    text += "".join(f", {number:,} {word}" for word, number in share if number)
    cut = h.NOTHING if row.is_complete else h.pale(" not complete")
    function = row.function if row.name != row.function else ""
    return {
        "name": h.titled(row.name, f"id {row.id}") + cut,
        "function": fmt.shortened(function, 40),
        "done": h.element("div", text, bar, style="min-width:120px"),
    }
