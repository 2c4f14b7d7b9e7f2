"""`TableModel`: the contract of dashboard pages, which a notebook, terminal or web page draws.

A model reads the store when `TableModel.read` is called, and keeps the rows of one page as plain
values. Drawing it reads nothing. Rows are named by their ``key``, never by their position: the
selection and all actions use keys, so rows may move between a reading and a click.

>>> tasks = TaskList(Scope(client))
>>> tasks.show("mail", "archived"); tasks.read()
>>> [row.error for row in tasks.rows]
>>> tasks.select([tasks.rows[0].key], is_on=True)
>>> tasks.act("delete", tasks.selected)
'1 deleted'
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Sequence
from typing import ClassVar, Final, Generic, NamedTuple, Protocol, TypeVar

from nbqueue.dashboard.scope import Scope
from nbqueue.dashboard.tables.column import Column
from nbqueue.dashboard.tables.csv_text import csv_text
from nbqueue.dashboard.tables.paging import Paging
from nbqueue.errors import UsageError

MOST_CSV_ROWS: Final = 100_000

READ_ONLY: Final = "nothing was done: this dashboard is read only"


class Row(Protocol):
    """One row: a named tuple of numbers and text, with an attribute for each column."""

    @property
    def key(self) -> str:
        """The name of the row, unique in its table."""


class Action(NamedTuple):
    """An action on rows. A ``question`` is asked before it is done."""

    name: str
    word: str
    label: str
    question: str = ""
    is_enabled: bool = True


class CsvFile(NamedTuple):
    """A table as CSV. ``note`` says how many rows it has, and whether there were more."""

    name: str
    text: str
    note: str


R = TypeVar("R", bound=Row)


class TableModel(ABC, Generic[R]):
    """One table of a dashboard: a page of rows, with order, filters, selection and actions.

    Subclasses implement `_all_rows` if they hold all rows, or else `read` and `csv`.
    """

    title: ClassVar[str]
    noun: ClassVar[str]
    """The word for a row, in the singular."""

    rest_seconds: ClassVar[float] = 0.4
    """The least time between two readings that events cause."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.paging = Paging()
        self.rows: list[R] = []
        """The rows of the page, as of the last `read`."""
        self.sorted_by = ""
        """The name of a column, or "" for the order of the store."""
        self.is_descending = False
        self.filters: dict[str, str] = {}
        """The text of each filter; "" for any."""
        self.selected: set[str] = set()
        """Keys of the selected rows, on all pages."""
        self.note = ""
        """A sentence about what is missing from the rows, or ""."""

    @property
    @abstractmethod
    def columns(self) -> Sequence[Column]:
        """The columns that are shown now."""

    # --- Reading -------------------------------------------------------------------------------

    def read(self) -> None:
        """Read the rows of the page. Raises `StoreError`."""
        self._show(self._all_rows())

    def _all_rows(self) -> list[R]:
        """Read all rows."""
        raise NotImplementedError

    def _show(self, rows: Sequence[R]) -> None:
        """Show the page of all ``rows``, and drop from the selection what is not among them."""
        self.selected.intersection_update(row.key for row in rows)
        self.rows = self.paging.of(self._in_order(rows))

    def _in_order(self, rows: Sequence[R]) -> Sequence[R]:
        """Return rows sorted by the chosen column. Empty values come last."""
        if not self.sorted_by:
            return rows
        return sorted_rows(rows, self.sorted_by, is_descending=self.is_descending)

    # --- What to show --------------------------------------------------------------------------

    def sort(self, column: str) -> None:
        """Sort by a column: ascending, if it is chosen again descending, then unsorted."""
        if not any(each.name == column and each.can_sort for each in self.columns):
            raise UsageError(f"there is no column {column!r} to sort by")
        if self.sorted_by != column:
            self.sorted_by, self.is_descending = column, False
        elif not self.is_descending:
            self.is_descending = True
        else:
            self.sorted_by, self.is_descending = "", False
        self.paging.restart()

    def filter(self, **texts: str) -> None:
        """Set filters by name; "" removes one. The first page is shown, nothing is selected."""
        for name, text in texts.items():
            if name not in self.filters:
                raise UsageError(f"there is no filter {name!r}")
            self.filters[name] = text.strip()
        self.paging.restart()
        self.selected.clear()

    @property
    def is_filtered(self) -> bool:
        """True if filters leave rows out."""
        return any(self.filters.values())

    def turn(self, pages: int) -> None:
        """Go forward by a number of pages, or back by a negative one."""
        self.paging.turn(pages)

    # --- Acting --------------------------------------------------------------------------------

    def select(self, keys: Iterable[str], *, is_on: bool) -> None:
        """Select rows of the page, or remove rows from the selection."""
        if is_on:
            self.selected.update({row.key for row in self.rows} & set(keys))
        else:
            self.selected.difference_update(keys)

    def actions(self) -> Sequence[Action]:
        """Return the actions on the selected rows."""
        return ()

    def all_actions(self) -> Sequence[Action]:
        """Return the actions on all rows that fit the filters, on all pages."""
        return ()

    def row_actions(self, row: R) -> Sequence[Action]:
        """Return the actions on one row."""
        return ()

    def act(self, action: str, keys: Collection[str] | None) -> str:
        """Act on the rows with these keys, or with None on all that fit the filters.

        Returns a sentence with the result. Rows that left the table meanwhile are left alone.
        """
        if self.scope.read_only:
            return READ_ONLY
        return self._act(action, keys)

    def _act(self, action: str, keys: Collection[str] | None) -> str:
        raise UsageError(f"there is no action {action!r} on a {self.noun}")

    def row(self, key: str) -> R | None:
        """Return the row of the page with this key, or None."""
        return next((row for row in self.rows if row.key == key), None)

    # --- Saving --------------------------------------------------------------------------------

    def csv(self) -> CsvFile:
        """Read what is listed, on all pages, as CSV with at most `MOST_CSV_ROWS` rows."""
        return self._csv_of(self._in_order(self._all_rows()))

    def _csv_of(self, rows: Sequence[R], total: int | None = None) -> CsvFile:
        """Return the first rows as CSV. ``total`` is their number if not all were read."""
        kept = rows[:MOST_CSV_ROWS]
        total = len(rows) if total is None else total
        name = f"{self.title.lower()}.csv"
        note = f"{name} has {len(kept):,} rows"
        if total > len(kept):
            note += f", the first of {total:,}"
        return CsvFile(name, csv_text(self.columns, kept), note)


def sorted_rows(rows: Iterable[R], column: str, *, is_descending: bool) -> list[R]:
    """Return rows sorted by an attribute. Those without a value come last, either way."""
    rows = list(rows)
    known = [row for row in rows if getattr(row, column) not in (None, "")]
    known.sort(key=lambda row: getattr(row, column), reverse=is_descending)
    return known + [row for row in rows if getattr(row, column) in (None, "")]
