"""Pages of long lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nbqueue.dashboard.tables.paging import Paging


@given(st.integers(0, 200), st.integers(1, 60), st.lists(st.integers(-3, 3), max_size=8))
def test_every_row_is_on_one_page_and_no_page_is_beyond_the_end(
    count: int, size: int, turns: list[int]
) -> None:
    paging, rows = Paging(size), list(range(count))
    for by in turns:
        paging.of(rows)
        paging.turn(by)
        assert paging.of(rows) or not rows
    paging.restart()
    seen = paging.of(rows)
    while paging.has_more(len(paging.of(rows))):
        paging.turn(1)
        seen += paging.of(rows)
    assert seen == rows


def test_a_list_that_shrank_shows_its_last_page() -> None:
    paging = Paging(10)
    paging.of(range(95))
    paging.turn(9)
    assert paging.of(range(95)) == [90, 91, 92, 93, 94]
    assert paging.of(range(31)) == [30]
    assert paging.text(1) == "31–31 of 31"
    assert paging.of([]) == []
    assert paging.text(0) == ""


def test_of_a_list_that_nobody_counted_a_full_page_may_have_another_behind_it() -> None:
    paging = Paging(10)
    paging.counted(None)
    paging.turn(3)
    assert (paging.first, paging.has_more(10), paging.has_more(9)) == (30, True, False)
    assert paging.text(10) == "31–40"
