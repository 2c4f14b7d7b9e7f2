"""Long lists, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE = 50
"""The default number of rows of a page."""


class Paging:
    """The shown page of a list, which may grow and shrink between readings.

    ``total`` is the number of rows when they were last counted, or None if they were not, as for a
    list that is filtered while it is read.
    """

    def __init__(self, size: int = PAGE) -> None:
        self.size = size
        self.number = 0
        """The number of the page, from 0."""
        self.total: int | None = 0

    @property
    def first(self) -> int:
        """The position, from 0, of the first row of the page."""
        return self.number * self.size

    def turn(self, pages: int) -> None:
        """Go forward by a number of pages, or back by a negative one."""
        self.number = max(0, self.number + pages)
        self._stay_within()

    def restart(self) -> None:
        """Go to the first page."""
        self.number = 0

    def counted(self, total: int | None) -> None:
        """Set the number of rows. Moves to the last page if the current one is gone."""
        self.total = total
        self._stay_within()

    def of(self, rows: Sequence[T]) -> list[T]:
        """Return the rows of the page, out of all ``rows``."""
        self.counted(len(rows))
        return list(rows[self.first : self.first + self.size])

    def is_needed(self, shown: int) -> bool:
        """Return whether there are other pages, if this one has ``shown`` rows."""
        return self.first > 0 or self.has_more(shown)

    def has_more(self, shown: int) -> bool:
        """Return whether there is a next page, if this one has ``shown`` rows."""
        return shown >= self.size if self.total is None else self.first + shown < self.total

    def text(self, shown: int) -> str:
        """Return which rows are shown, such as "51–100 of 1,234"; "" if they are all."""
        if not shown or not self.is_needed(shown):
            return ""
        of = "" if self.total is None else f" of {self.total:,}"
        return f"{self.first + 1:,}–{self.first + shown:,}{of}"

    def _stay_within(self) -> None:
        if self.total is not None:
            self.number = min(self.number, max(0, self.total - 1) // self.size)
